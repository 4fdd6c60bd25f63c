"""Results: the bulk writes at scale, which rows are kept or replaced, and the stream of an export."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import chain, cycle

import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError

from batchkit.errors import StoreUnavailable
from batchkit.files import jsonl
from batchkit.models import RequestState, ShardState
from batchkit.store import results, workloads
from batchkit.store.bulk import Successes, bulk_for
from batchkit.store.results import LINE_COLUMNS, TABLE_COLUMNS, Ending, ExportRow
from batchkit.store.rows import AnswerFacts, AttemptRow, ResultRow
from batchkit.store.tables import attempts as attempt_rows
from batchkit.store.tables import bodies as body_rows
from batchkit.store.tables import names
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
    """Return the text of a row: each awkward text comes up many times, in different rows."""
    return f"{AWKWARD[number % len(AWKWARD)]}{number}"


def stored_bodies(connection, shard):
    """Read a shard's bodies by seq."""
    query = select(body_rows.c.seq, body_rows.c.body).where(body_rows.c.shard_id == shard.id)
    return {seq: body for seq, body in connection.execute(query)}  # noqa: C416 - rows are not pairs to dict()


def test_many_requests_with_awkward_names_arrive_unchanged(store):
    """Thousands of requests, more than fit into one statement, keep their names and positions exactly."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload, seqs=[MANY])
        rows = [(seq, text_of(seq), shard.id, seq * 2**33, seq) for seq in range(MANY)]
        bulk_for(connection).add_requests(workload.id, rows)
    with store.read() as connection:
        query = select(
            request_rows.c.seq,
            request_rows.c.custom_id,
            request_rows.c.shard_id,
            request_rows.c.line_offset,
            request_rows.c.line_length,
            request_rows.c.state,
        ).where(request_rows.c.workload_id == workload.id, request_rows.c.seq < MANY)
        found = sorted(tuple(row) for row in connection.execute(query))
    assert found == [(*row, "in_flight") for row in rows]


def test_many_states_are_written_to_their_own_rows(store):
    """Thousands of states in any order are written to their requests by seq, in this workload only."""
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
    """Answers of all lengths and characters are read back unchanged."""
    rows = [(seq, jsonl.dumps({"text": text_of(seq)}).decode()) for seq in range(MANY)]
    with store.write() as connection:
        shard = add_shard(connection, add_workload(connection))
        bulk_for(connection).add_bodies(shard.id, rows)
    with store.read() as connection:
        assert stored_bodies(connection, shard) == dict(rows)


def test_second_body_replaces_the_first(store):
    """For the same request of the same shard the newest body is kept; another shard's body is untouched."""
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
    """Read every column of a workload's results by seq, with names instead of their numbers."""
    known = dict(map(tuple, connection.execute(select(names.c.id, names.c.name))))
    query = select(result_rows).where(result_rows.c.workload_id == workload.id).order_by(result_rows.c.seq)
    return [
        ResultRow._make(
            (*row[:9], AnswerFacts._make((*row[9:13], *(known.get(number) for number in row[13:15]))), row[15])
        )
        for row in connection.execute(query)
    ]


def test_many_results_arrive_unchanged(store):
    """Successes and failures of all kinds keep every column, and NULL stays NULL."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload)
        rows = [
            success(
                shard,
                seq,
                prompt=seq,
                completion=2**31 - 1 - seq,
                model=(None, "größe", "b")[seq % 3],
                service_tier=(None, "b", "flex", "batch")[seq % 4],
            )
            if seq % 2
            else failure(
                shard, seq, code=text_of(seq), status=None if seq % 3 else 0, message=text_of(seq), attempt=seq % 7
            )
            for seq in range(MANY)
        ]
        bulk_for(connection).add_results(rows)
    with store.read() as connection:
        assert read_results(connection, workload) == rows


@pytest.mark.parametrize("later", ["failure", "another success"])
def test_success_is_never_overwritten(store, later):
    """Whatever comes later for the same request, from any shard, the first success is kept."""
    with store.write() as connection:
        workload = add_workload(connection)
        first, second = add_shard(connection, workload), add_shard(connection, workload)
        bulk_for(connection).add_results([success(first, 0, prompt=1)])
        before = read_results(connection, workload)
        row = failure(second, 0, attempt=3) if later == "failure" else success(second, 0, prompt=99, attempt=3)
        bulk_for(connection).add_results([row, success(second, 1)])
        after = read_results(connection, workload)
    assert after[0] == before[0]
    assert [row.seq for row in after] == [0, 1]


@pytest.mark.parametrize("later", ["won", "lost"])
def test_failure_is_replaced_completely(store, later):
    """The result of a later attempt replaces every column of a failed result."""
    with store.write() as connection:
        workload = add_workload(connection)
        first, second = add_shard(connection, workload), add_shard(connection, workload)
        before = failure(first, 0, status=422, message="old words")._replace(
            facts=AnswerFacts("length", 1, 1, 2, "m", "t")
        )
        bulk_for(connection).add_results([before])
        won = success(second, 0, attempt=3, model="another")
        after = won if later == "won" else failure(second, 0, code="other", attempt=3)
        bulk_for(connection).add_results([after])
        assert read_results(connection, workload) == [after]


def test_results_of_workloads_do_not_collide(store):
    """The same seq in two workloads has two results."""
    with store.write() as connection:
        for name in ("first", "second"):
            workload = add_workload(connection, name)
            shard = add_shard(connection, workload)
            bulk_for(connection).add_results([success(shard, 0)])
            assert len(read_results(connection, workload)) == 1


def test_many_attempts_are_kept_by_shard(store):
    """Each attempt of a request in another shard has its own row."""
    with store.write() as connection:
        workload = add_workload(connection)
        first, second = add_shard(connection, workload), add_shard(connection, workload)
        rows = [
            AttemptRow(first.id, seq, workload.id, 0, "transient", 500, text_of(seq), text_of(seq), seq)
            for seq in range(MANY)
        ]
        other = AttemptRow(second.id, 0, workload.id, 1, "expired")
        bulk_for(connection).add_attempts(rows)
        bulk_for(connection).add_attempts([other])
    with store.read() as connection:
        found = [
            tuple(row)
            for row in connection.execute(select(attempt_rows).order_by(attempt_rows.c.shard_id, attempt_rows.c.seq))
        ]
    assert found == [*rows, other]


def test_nothing_to_write_is_nothing_written(store):
    """Every bulk call accepts an empty list of rows."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload)
        bulk = bulk_for(connection)
        bulk.add_requests(workload.id, [])
        bulk.set_states(workload.id, [])
        bulk.add_bodies(shard.id, [])
        bulk.add_attempts([])
        bulk.add_results([])
        bulk.add_successes(workload.id, shard.id, Successes())
        assert bulk.move_to_shard(workload.id, shard.id, []) == 0
        assert stored_bodies(connection, shard) == {}
        assert read_results(connection, workload) == []


def test_bulk_rows_go_with_their_transaction(store):
    """A failed transaction rolls back its bulk rows, and the next transaction starts clean."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload, lines=2, state=ShardState.ENDED)

    def merge_and_break() -> None:
        with store.write() as connection:
            bulk = bulk_for(connection)
            bulk.set_states(workload.id, [(0, "failed", 1, 0)])
            bulk.add_bodies(shard.id, [(0, '"x"')])
            bulk.add_results([failure(shard, 0)])
            raise InterruptedError

    with pytest.raises(InterruptedError):
        merge_and_break()
    with store.write() as connection:
        assert stored_bodies(connection, shard) == {}
        assert read_results(connection, workload) == []
        bulk_for(connection).add_results([success(shard, 1)])
        assert [row.seq for row in read_results(connection, workload)] == [1]
        assert workloads.count_requests(connection, workloads.get(connection, workload.id)).in_flight == 2


@pytest.mark.parametrize("row", [{"state": "pending"}, {"state": None}, {"attempt": None}, {"shard_id": None}], ids=str)
def test_impossible_result_is_refused(store, row):
    """A result is succeeded or failed, and names its shard."""
    with store.write() as connection:
        workload = add_workload(connection)
    legal = {"workload_id": workload.id, "seq": 0, "state": "failed", "shard_id": 1, "attempt": 0}
    with pytest.raises(IntegrityError), store.write() as connection:
        connection.execute(insert(result_rows), [legal | row])


def test_export_gives_every_request_in_input_order(store):
    """One row per request whatever its state, with the answer of the shard that its result came from."""
    with store.write() as connection:
        workload, other = add_workload(connection, "first"), add_workload(connection, "second")
        add_shard(connection, other, lines=9, state=ShardState.MERGED)
        late = add_shard(connection, workload, seqs=[2, 0], state=ShardState.MERGED)
        lost = add_shard(connection, workload, seqs=[1], state=ShardState.MERGED, request_state=RequestState.FAILED)
        open_ = add_shard(connection, workload, seqs=[4, 3])
        bulk_for(connection).add_bodies(lost.id, [(1, '{"error":{}}')])
        bulk_for(connection).add_bodies(open_.id, [(3, '"of an attempt that was not merged"')])
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
        b'{"error":{}}',
    )
    assert rows[2][6:10] == (200, "req-2", None, None)
    assert rows[2].facts == AnswerFacts("stop", 10, 5, 15)
    assert rows[3][5:] == (None,) * 7 + (AnswerFacts(),)


def test_export_takes_the_answer_of_the_successful_attempt(store):
    """The export does not return the stored bodies of earlier attempts."""
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
    """Thousands of rows come in order; a reader that stops in the middle leaves nothing open."""
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
    """The streams for lines and for tables hold the same rows in the same order, whatever the state of a request."""
    with store.write() as connection:
        workload = add_workload(connection)
        for state in RequestState:
            add_shard(connection, workload, lines=60, state=ShardState.SUBMITTED, request_state=state)
    with store.read() as connection:
        rows = list(results.stream(connection, workload.id))
    with store.read() as connection:
        lines = list(chain.from_iterable(results.stream_lines(connection, workload.id)))
    with store.read() as connection:
        parts = results.stream_columns(connection, workload.id)
        table = list(chain.from_iterable(zip(*columns, strict=True) for columns in parts))
    assert len(rows) == 60 * len(RequestState)
    for row, line, cells in zip(rows, lines, table, strict=True):
        named = dict(zip(TABLE_COLUMNS, cells, strict=True))
        assert dict(zip(LINE_COLUMNS, line, strict=True)).items() <= named.items()
        assert Ending.of(named.pop("ending")) == (row.state, row.status_code, row.attempts, row.shard_id)
        assert AnswerFacts(*(named.pop(name) for name in AnswerFacts._fields)) == row.facts
        assert named.items() <= row._asdict().items()


def test_a_stream_that_breaks_off_is_a_database_error(store, postgres_server):
    """A connection that is lost or refused in the middle of a stream is reported like any other; the store works afterwards."""
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


TOLD = AnswerFacts("stop", 1, 1, 2)


def successes_of(seqs, *, facts=TOLD):
    """Return successes of some requests, all alike."""
    given = list(seqs)
    columns = tuple([fact] * len(given) for fact in facts)
    return Successes(given, [7] * len(given), ["new"] * len(given), columns)


def test_successes_arrive_unchanged(store):
    """The fast path for plain successes keeps every column, also NULLs, and takes more rows than one piece holds."""
    tokens = [token for token, _ in zip(cycle([(1, 2), (None, 2), (2**31 - 1, None)]), range(MANY), strict=False)]
    facts = [
        AnswerFacts((None, "stop", "größe")[seq % 3], seq, *token, (None, "a", "größe")[seq % 3], ("a", None)[seq % 2])
        for seq, token in enumerate(tokens)
    ]
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload)
        expected = [
            ResultRow(
                workload.id,
                seq,
                "succeeded",
                shard.id,
                seq % 3,
                200,
                None if seq % 5 == 0 else text_of(seq),
                facts=told,
            )
            for seq, told in enumerate(facts)
        ]
        given = list(reversed(expected))
        bulk_for(connection).add_successes(
            workload.id,
            shard.id,
            Successes(
                [row.seq for row in given],
                [row.attempt for row in given],
                [row.request_id for row in given],
                tuple(map(list, zip(*(row.facts for row in given), strict=True))),
            ),
        )
    with store.read() as connection:
        assert read_results(connection, workload) == expected


def test_successes_leave_existing_results(store):
    """An existing success stays unchanged, a failure is replaced completely, and the other rows are inserted."""
    with store.write() as connection:
        workload = add_workload(connection)
        first, second = (add_shard(connection, workload) for _ in range(2))
        bulk_for(connection).add_results([success(first, 1), failure(first, 2)])
        bulk_for(connection).add_successes(workload.id, second.id, successes_of(range(4)))
    with store.read() as connection:
        found = read_results(connection, workload)
    new = [ResultRow(workload.id, seq, "succeeded", second.id, 7, 200, "new", facts=TOLD) for seq in range(4)]
    assert found == [new[0], success(first, 1), *new[2:]]


def test_a_name_is_stored_once_and_found_again(store):
    """Models and tiers of all workloads share one table of names; the columns hold small numbers."""
    for number in range(3):
        with store.write() as connection:
            workload = add_workload(connection, f"run-{number}")
            shard = add_shard(connection, workload)
            told = AnswerFacts(model="openai/gpt-oss-20b", service_tier=("batch", "flex")[number % 2])
            bulk_for(connection).add_successes(workload.id, shard.id, successes_of([0], facts=told))
            bulk_for(connection).add_results([success(shard, 1, model=told.model, service_tier=told.service_tier)])
            assert [row.facts[-2:] for row in read_results(connection, workload)] == [told[-2:], told[-2:]]
    with store.read() as connection:
        known = [tuple(row) for row in connection.execute(select(names).order_by(names.c.id))]
    assert known == [(1, "batch"), (2, "openai/gpt-oss-20b"), (3, "flex")]


def test_the_number_of_names_is_limited(store, monkeypatch):
    """A server that answers with another model each time only fills the table; later rows are stored without a name."""
    most = 100
    monkeypatch.setattr("batchkit.store.names.MOST_NAMES", most)
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload)
        bulk = bulk_for(connection)
        bulk.add_results([success(shard, 0, model="known")])
        bulk.add_results([success(shard, seq, model=f"model-{seq:05}") for seq in range(1, most + 50)])
        bulk.add_results([success(shard, most + 50, model="late", service_tier="known")])
    with store.read() as connection:
        rows = read_results(connection, workload)
        assert connection.execute(select(func.count()).select_from(names)).scalar_one() == most
    assert [row.facts.model for row in rows[:2]] == ["known", "model-00001"]
    assert [row.facts.model for row in rows[most - 1 : most + 1]] == [f"model-{most - 1:05}", None]
    assert (rows[-1].facts.model, rows[-1].facts.service_tier, rows[-1].facts.finish_reason) == (None, "known", "stop")


def test_two_writers_that_add_names_at_once_add_each_once(postgres_store):
    """The second does not wait for the end of the first's transaction, and finds the names that it added."""
    with postgres_store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload)

    def second() -> None:
        with postgres_store.write() as connection:
            bulk_for(connection).add_results([success(shard, 1, model="new", service_tier="other")])

    with ThreadPoolExecutor(1) as pool, postgres_store.write() as connection:
        bulk_for(connection).add_results([success(shard, 0, model="new")])
        pool.submit(second).result(timeout=30)

    with postgres_store.read() as connection:
        assert [(row.seq, row.facts.model) for row in read_results(connection, workload)] == [(0, "new"), (1, "new")]
        assert sorted(connection.scalars(select(names.c.name))) == ["new", "other"]
