"""Results: the bulk paths at size, what stands and what gives way, and the stream of an export."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import chain, cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from batchkit.errors import StoreUnavailable
from batchkit.files import jsonl
from batchkit.models import RequestState, ShardState
from batchkit.store import results, workloads
from batchkit.store.bulk import bulk_for
from batchkit.store.results import Circumstances, ExportRow
from batchkit.store.tables import attempts as attempt_rows
from batchkit.store.tables import bodies as body_rows
from batchkit.store.tables import requests as request_rows
from batchkit.store.tables import results as result_rows
from tests.factories import add_shard, add_workload, chat_body, failure, settle, success

MANY = 3_217
AWKWARD = [
    "plain",
    "größe — 漢字 🎈",
    'it\'s "quoted" `twice`',
    "line\nbreak\r\n and\ttab",
    "back\\slash \\N \\. \\t",
    "\u2028\u2029\u0085\ufeff",
    "%s %(name)s :colon ? $1 {braces}",
    "",
    " ",
    "\x01\x1f\x7f",
    "a" * 5_000,
]


def text_of(number: int) -> str:
    """Make the text of a row: each awkward one comes up many times, none twice."""
    return f"{AWKWARD[number % len(AWKWARD)]}{number}"


def stored_bodies(connection, shard):
    """Read a shard's bodies by seq."""
    query = select(body_rows.c.seq, body_rows.c.body).where(body_rows.c.shard_id == shard.id)
    return {seq: body for seq, body in connection.execute(query)}  # noqa: C416 - rows are not pairs to dict()


def test_many_requests_with_awkward_names_arrive_unchanged(store):
    """Thousands of requests, more than one statement takes, keep names and places to the letter."""
    rows = [(seq, text_of(seq), seq * 2**33, seq) for seq in range(MANY)]
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload, seqs=[MANY])
        bulk_for(connection).add_requests(workload.id, [(shard.id, *row) for row in rows])
    with store.read() as connection:
        query = select(
            request_rows.c.seq,
            request_rows.c.custom_id,
            request_rows.c.line_offset,
            request_rows.c.line_length,
            request_rows.c.shard_id,
            request_rows.c.state,
        ).where(request_rows.c.workload_id == workload.id, request_rows.c.seq < MANY)
        found = sorted(tuple(row) for row in connection.execute(query))
    assert found == [(*row, shard.id, "in_flight") for row in rows]


def test_many_states_are_written_to_their_own_rows(store):
    """Thousands of verdicts in any order find their requests by seq, in this workload only."""
    with store.write() as connection:
        workload, other = add_workload(connection, "first"), add_workload(connection, "second")
        for owner in (workload, other):
            add_shard(connection, owner, lines=MANY)
        verdicts = [
            (seq, ["pending", "failed", "cancelled"][seq % 3], seq % 50 + 9, seq % 9) for seq in reversed(range(MANY))
        ]
        bulk_for(connection).set_states(workload.id, verdicts)
    with store.read() as connection:
        query = select(
            request_rows.c.seq, request_rows.c.state, request_rows.c.attempts, request_rows.c.expiries
        ).order_by(request_rows.c.seq)
        written = [tuple(row) for row in connection.execute(query.where(request_rows.c.workload_id == workload.id))]
        untouched = {tuple(row[1:]) for row in connection.execute(query.where(request_rows.c.workload_id == other.id))}
    assert written == sorted(verdicts)
    assert untouched == {("in_flight", 0, 0)}


def test_many_bodies_arrive_unchanged(store):
    """Answers of all lengths and letters are read back as they were given."""
    rows = [(seq, jsonl.dumps({"text": text_of(seq)}).decode()) for seq in range(MANY)]
    with store.write() as connection:
        shard = add_shard(connection, add_workload(connection))
        bulk_for(connection).add_bodies(shard.id, rows)
    with store.read() as connection:
        assert stored_bodies(connection, shard) == dict(rows)


def test_second_body_replaces_the_first(store):
    """For the same request of the same shard the newest body stands; another shard's is untouched."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard, other = add_shard(connection, workload), add_shard(connection, workload)
        for target in (shard, other):
            bulk_for(connection).add_bodies(target.id, [(1, '"first"'), (2, '"kept"')])
    with store.write() as connection:
        bulk_for(connection).add_bodies(shard.id, [(1, '"second"'), (3, '"new"')])
        bulk_for(connection).add_bodies(shard.id, [(3, '"newer"')])
    with store.read() as connection:
        assert stored_bodies(connection, shard) == {1: '"second"', 2: '"kept"', 3: '"newer"'}
        assert stored_bodies(connection, other) == {1: '"first"', 2: '"kept"'}


def read_results(connection, workload):
    """Read every column of a workload's results, by seq."""
    query = select(result_rows).where(result_rows.c.workload_id == workload.id).order_by(result_rows.c.seq)
    return [tuple(row) for row in connection.execute(query)]


def test_many_results_arrive_unchanged(store):
    """Successes and failures of all kinds keep every column, and nothing becomes something."""
    rows = [
        (*success(seq, prompt=seq, completion=2**31 - 1 - seq)[:-1], None)
        if seq % 2
        else failure(seq, code=text_of(seq), status=None if seq % 3 else 0, message=text_of(seq), attempt=seq % 7)
        for seq in range(MANY)
    ]
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload)
        bulk_for(connection).add_results(workload.id, shard.id, rows)
    with store.read() as connection:
        found = read_results(connection, workload)
    # The table's order is workload_id, seq, state, shard_id, and then that of the rows.
    assert found == [(workload.id, row[0], row[1], shard.id, *row[2:]) for row in rows]


@pytest.mark.parametrize("later", ["failure", "another success"])
def test_success_is_never_overwritten(store, later):
    """Whatever comes later for the same request, from whichever shard, the first success stands."""
    with store.write() as connection:
        workload = add_workload(connection)
        first, second = add_shard(connection, workload), add_shard(connection, workload)
        bulk_for(connection).add_results(workload.id, first.id, [success(0, prompt=1)])
        before = read_results(connection, workload)
        row = failure(0, attempt=3) if later == "failure" else success(0, prompt=99, attempt=3)
        bulk_for(connection).add_results(workload.id, second.id, [row, success(1)])
        after = read_results(connection, workload)
    assert after[0] == before[0]
    assert [row[1] for row in after] == [0, 1]


@pytest.mark.parametrize("later", [success(0, attempt=3), failure(0, code="other", attempt=3)], ids=["won", "lost"])
def test_failure_gives_way_whole(store, later):
    """A failed result is replaced in every column by what a later ride brought."""
    with store.write() as connection:
        workload = add_workload(connection)
        first, second = add_shard(connection, workload), add_shard(connection, workload)
        bulk_for(connection).add_results(workload.id, first.id, [failure(0, status=422, message="old words")])
        bulk_for(connection).add_results(workload.id, second.id, [later])
        assert read_results(connection, workload) == [(workload.id, 0, later[1], second.id, *later[2:])]


def test_results_of_workloads_do_not_collide(store):
    """The same seq in two workloads are two results."""
    with store.write() as connection:
        for name in ("first", "second"):
            workload = add_workload(connection, name)
            shard = add_shard(connection, workload)
            bulk_for(connection).add_results(workload.id, shard.id, [success(0)])
            assert len(read_results(connection, workload)) == 1


def test_many_attempts_are_kept_by_shard(store):
    """Each ride of a request in another shard is another row."""
    rows = [(seq, 0, "transient", 500, text_of(seq), text_of(seq), seq, None) for seq in range(MANY)]
    with store.write() as connection:
        workload = add_workload(connection)
        first, second = add_shard(connection, workload), add_shard(connection, workload)
        bulk_for(connection).add_attempts(workload.id, first.id, rows)
        bulk_for(connection).add_attempts(workload.id, second.id, [(0, 1, "expired", None, None, None, None, None)])
    with store.read() as connection:
        found = [
            tuple(row)
            for row in connection.execute(select(attempt_rows).order_by(attempt_rows.c.shard_id, attempt_rows.c.seq))
        ]
    assert found == [(first.id, seq, workload.id, *rest) for seq, *rest in rows] + [
        (second.id, 0, workload.id, 1, "expired", None, None, None, None, None)
    ]


def test_nothing_to_write_is_nothing_written(store):
    """Every bulk call takes no rows at all."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload)
        bulk = bulk_for(connection)
        bulk.add_requests(workload.id, [])
        bulk.set_states(workload.id, [])
        bulk.add_bodies(shard.id, [])
        bulk.add_attempts(workload.id, shard.id, [])
        bulk.add_results(workload.id, shard.id, [])
        assert bulk.move_to_shard(workload.id, shard.id, []) == 0
        assert stored_bodies(connection, shard) == {}
        assert read_results(connection, workload) == []


def test_bulk_rows_go_with_their_transaction(store):
    """What fails takes the bulk rows of its transaction along, and the next transaction starts clean."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload, lines=2, state=ShardState.ENDED)

    def merge_and_break() -> None:
        with store.write() as connection:
            bulk = bulk_for(connection)
            bulk.set_states(workload.id, [(0, "failed", 1, 0)])
            bulk.add_bodies(shard.id, [(0, '"x"')])
            bulk.add_results(workload.id, shard.id, [failure(0)])
            raise InterruptedError

    with pytest.raises(InterruptedError):
        merge_and_break()
    with store.write() as connection:
        assert stored_bodies(connection, shard) == {}
        assert read_results(connection, workload) == []
        bulk_for(connection).add_results(workload.id, shard.id, [success(1)])
        assert [row[1] for row in read_results(connection, workload)] == [1]
        assert workloads.count_requests(connection, workloads.get(connection, workload.id)).in_flight == 2


@pytest.mark.parametrize("row", [{"state": "pending"}, {"state": None}, {"attempt": None}, {"shard_id": None}], ids=str)
def test_impossible_result_is_refused(store, row):
    """A result is succeeded or failed, and says where it comes from."""
    with store.write() as connection:
        workload = add_workload(connection)
    legal = {"workload_id": workload.id, "seq": 0, "state": "failed", "shard_id": 1, "attempt": 0}
    with pytest.raises(IntegrityError), store.write() as connection:
        connection.execute(insert(result_rows), [legal | row])


def test_export_gives_every_request_in_input_order(store):
    """One row per request whatever became of it, with the answer of the shard that its result came from."""
    with store.write() as connection:
        workload, other = add_workload(connection, "first"), add_workload(connection, "second")
        add_shard(connection, other, lines=9, state=ShardState.MERGED)
        late = add_shard(connection, workload, seqs=[2, 0], state=ShardState.MERGED)
        lost = add_shard(connection, workload, seqs=[1], state=ShardState.MERGED, request_state=RequestState.FAILED)
        open_ = add_shard(connection, workload, seqs=[4, 3])
        bulk_for(connection).add_bodies(lost.id, [(1, '{"error":{}}')])
        bulk_for(connection).add_bodies(open_.id, [(3, '"of a ride that was not merged"')])
        rows = list(results.stream(connection, workload.id))
    assert [(row.seq, row.custom_id, row.state, row.shard_id, row.result_shard_id) for row in rows] == [
        (0, "row-0", "succeeded", late.id, late.id),
        (1, "row-1", "failed", lost.id, lost.id),
        (2, "row-2", "succeeded", late.id, late.id),
        (3, "row-3", "in_flight", open_.id, None),
        (4, "row-4", "in_flight", open_.id, None),
    ]
    assert rows[0].body is not None
    assert b"answer 0" in rows[0].body
    assert rows[1] == ExportRow(
        1,
        "row-1",
        "failed",
        1,
        lost.id,
        lost.id,
        400,
        "req-1",
        "http_400",
        "no",
        None,
        None,
        None,
        None,
        b'{"error":{}}',
    )
    assert rows[2][6:14] == (200, "req-2", None, None, "stop", 10, 5, 15)
    assert rows[3][5:] == (None,) * 10


def test_export_takes_the_answer_of_the_winning_ride(store):
    """Bodies of earlier rides lie beside it and are not given out."""
    with store.write() as connection:
        workload = add_workload(connection)
        first = add_shard(connection, workload, lines=1, state=ShardState.MERGED, request_state=RequestState.FAILED)
        bulk_for(connection).add_bodies(first.id, [(0, '"refused"')])
        second = add_shard(connection, workload, seqs=[1], state=ShardState.MERGED)
        settle(connection, second, [0], RequestState.SUCCEEDED)
        row = next(results.stream(connection, workload.id))
    assert row.result_shard_id == second.id
    assert row.body is not None
    assert b"answer 0" in row.body


def test_export_of_many_rows_streams_and_may_be_left_early(store):
    """Thousands of rows come in order; a reader that stops in the middle leaves nothing open behind."""
    with store.write() as connection:
        workload = add_workload(connection)
        add_shard(connection, workload, lines=MANY, state=ShardState.MERGED)
    with store.read() as connection:
        assert [row.seq for row in results.stream(connection, workload.id)] == list(range(MANY))
    with store.read() as connection:
        for row in results.stream(connection, workload.id):
            assert row.seq == 0
            break
    with store.write() as connection:
        assert workloads.count_requests(connection, workloads.get(connection, workload.id)).succeeded == MANY


def test_the_streams_agree(store):
    """What a line and a table need is what the rows have, in the same order, whatever became of a request."""
    with store.write() as connection:
        workload = add_workload(connection)
        for state in RequestState:
            add_shard(connection, workload, lines=20, state=ShardState.SUBMITTED, request_state=state)
    with store.read() as connection:
        rows = list(results.stream(connection, workload.id))
    with store.read() as connection:
        lines = list(chain.from_iterable(results.stream_lines(connection, workload.id)))
    with store.read() as connection:
        table = list(chain.from_iterable(results.stream_table(connection, workload.id)))
    assert len(rows) == 20 * len(RequestState)
    for row, line, cells in zip(rows, lines, table, strict=True):
        common = (RequestState(row.state), row.status_code, row.attempts, row.shard_id)
        assert Circumstances.of(line[2]) == Circumstances.of(cells[2]) == common
        assert line[:2] + line[3:] == (row.custom_id, row.request_id, row.error_code, row.error_message, row.body)
        facts = (row.finish_reason, row.prompt_tokens, row.completion_tokens, row.total_tokens)
        assert cells == (*line[:5], *facts, line[5])


@given(
    state=st.sampled_from(RequestState),
    status_code=st.none() | st.integers(0, 999),
    attempts=st.integers(0, 2**15 - 1),
    shard_id=st.integers(1, 2**33),
)
def test_circumstances_are_read_from_their_key(state, status_code, attempts, shard_id):
    """The database's arithmetic keeps the four apart, at every value that they can have."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE requests (state, attempts, shard_id)")
        database.execute("CREATE TABLE results (status_code, shard_id)")
        database.execute("INSERT INTO requests VALUES (?, ?, ?)", (state.value, attempts, shard_id))
        database.execute("INSERT INTO results VALUES (?, ?)", (status_code, shard_id))
        (key,) = database.execute(f"SELECT {results._KEY} FROM requests, results").fetchone()  # noqa: S608 - a constant
    assert Circumstances.of(key) == (state, status_code, attempts, shard_id)


def test_a_stream_that_breaks_off_is_the_databases_trouble(store, postgres_server):
    """A connection that is lost, or refuses, in the middle of a stream is told like any other; the store works on afterwards."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload, lines=400, state=ShardState.MERGED)
        bulk_for(connection).add_bodies(shard.id, [(seq, chat_body("x" * 50_000)) for seq in range(400)])

    def read_and_break_off(connection):
        for row in results.stream(connection, workload.id):
            if row.seq == 10 and store.is_sqlite:
                connection.connection.dbapi_connection.interrupt()
            elif row.seq == 10:
                postgres_server.cut_connections(store.url.database)

    with pytest.raises(StoreUnavailable, match="cannot be used"), store.read() as connection:
        read_and_break_off(connection)
    with store.read() as connection:
        assert len(list(results.stream(connection, workload.id))) == 400


def test_successes_arrive_unchanged(store):
    """The quick way of plain successes keeps every column, also what is not told, and more of them than one piece holds."""
    rows = [
        (seq, seq % 3, None if seq % 5 == 0 else text_of(seq), (None, "stop", "größe")[seq % 3], seq, *tokens)
        for seq, tokens in zip(range(MANY), cycle([(1, 2), (None, 2), (2**31 - 1, None)]), strict=False)
    ]
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload)
        bulk_for(connection).add_successes(workload.id, shard.id, rows)
    with store.read() as connection:
        assert read_results(connection, workload) == [
            (workload.id, seq, "succeeded", shard.id, attempt, 200, request_id, None, None, reason, *tokens)
            for seq, attempt, request_id, reason, *tokens in rows
        ]


def test_successes_leave_what_stands(store):
    """Among many, one that is there already stays as it is, a failure is replaced, and the others arrive."""
    with store.write() as connection:
        workload = add_workload(connection)
        first, second = (add_shard(connection, workload) for _ in range(2))
        bulk_for(connection).add_results(workload.id, first.id, [success(1), failure(2)])
        bulk_for(connection).add_successes(
            workload.id, second.id, [(seq, 7, "new", "stop", 1, 1, 2) for seq in range(4)]
        )
    with store.read() as connection:
        found = {row[1]: (row[2], row[3], row[6]) for row in read_results(connection, workload)}
    new = ("succeeded", second.id, "new")
    assert found == {0: new, 1: ("succeeded", first.id, success(1)[4]), 2: new, 3: new}
