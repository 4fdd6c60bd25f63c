"""Reuse in the database: what is found, given and handed on, how views show it, and that no statement reads whole tables."""

from __future__ import annotations

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, text

from batchkit.models import RequestState, ShardState
from batchkit.store import requests, reuse, workloads
from batchkit.store.bulk import bulk_for
from batchkit.store.engine import Store
from batchkit.store.reuse import AnsweredBy
from tests.factories import add_shard, add_workload, lost_attempt, settle
from tests.locks import wait_for_a_lock
from tests.store.test_query_plans import BIG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy.engine import Connection

    from batchkit.models import Shard, Workload, WorkloadId

BIG_SHARDS, LINES = 150, 100


def digest(name: str) -> bytes:
    """Return the digest of a question."""
    return blake2b(name.encode(), digest_size=16).digest()


def donor(connection: Connection, name: str = "donor", *, shards: int = 1, lines: int = 3, **columns: Any) -> Workload:
    """Insert a workload with reuse, all of whose questions, ``NAME 0`` and so on, are answered."""
    workload = add_workload(connection, name, reuse="on", **columns)
    for _ in range(shards):
        shard = add_shard(connection, workload, lines=lines, state=ShardState.MERGED)
        note(connection, shard, name)
    return workload


def note(connection: Connection, shard: Shard, name: str) -> None:
    """Note what the requests of a shard ask."""
    query = text("UPDATE requests SET digest = :digest WHERE workload_id = :workload_id AND seq = :seq")
    rows = [
        {"digest": digest(f"{name} {seq}"), "workload_id": shard.workload_id, "seq": seq}
        for seq in range(shard.first_seq, shard.last_seq + 1)
    ]
    connection.execute(query, rows)


def heir(connection: Connection, name: str, questions: Sequence[str]) -> Workload:
    """Insert a workload that has reused the answers of questions, each in the oldest workload that has it."""
    workload = add_workload(connection, name, reuse="on")
    known: dict[bytes, reuse.KnownRequest] = {}
    for found in reuse.find_known(connection, [digest(question) for question in questions]):
        known.setdefault(found.digest, found)
    given = [known[digest(question)] for question in questions]
    bulk_for(connection).add_answered_requests(
        workload.id, [(seq, f"{name}-{seq}", found.shard_id, 0, 9) for seq, found in enumerate(given)]
    )
    pairs = [
        AnsweredBy(seq, found.workload_id, found.seq, found.result_shard_id)
        for seq, found in enumerate(given)
        if found.result_shard_id is not None
    ]
    assert reuse.add_answered(connection, workload.id, pairs) == len(questions)
    workloads.set_values(connection, workload.id, request_count=len(questions), reused_requests=len(questions))
    return workloads.get(connection, workload.id)


def follow(connection: Connection, shard: Shard, count: int, *, first_seq: int) -> None:
    """Insert followers of the requests of a shard, in turn."""
    leaders = range(shard.first_seq, shard.last_seq + 1)
    rows = [
        (seq, f"follower-{seq}", shard.id, 0, 9, leaders[seq % len(leaders)])
        for seq in range(first_seq, first_seq + count)
    ]
    bulk_for(connection).add_followers(shard.workload_id, rows)
    workload = workloads.get(connection, shard.workload_id)
    total = (workload.request_count or 0) + count
    workloads.set_values(connection, workload.id, request_count=total, repeated_requests=count)


def read(connection: Connection, query: str) -> list[tuple[Any, ...]]:
    """Run a query."""
    return [tuple(row) for row in connection.execute(text(query))]


def test_the_views_show_a_reused_answer_with_its_request(store):
    """The answer, its text and facts appear on the row that reused it, without tokens or cost, also when the donor is gone."""
    with store.write() as connection:
        workload = donor(connection)
        heir(connection, "heir", ["donor 2", "donor 0"])
        for _ in range(2):
            rows = read(
                connection,
                "SELECT workload, seq, custom_id, answer, finish_reason, prompt_tokens, completion_tokens FROM succeeded"
                " WHERE workload = 'heir' ORDER BY seq",
            )
            assert rows == [
                ("heir", 0, "heir-0", "answer 2", "stop", 0, 0),
                ("heir", 1, "heir-1", "answer 0", "stop", 0, 0),
            ]
            workloads.remove(connection, workload.id)
            assert read(connection, "SELECT count(*) FROM succeeded") == [(2,)]


def test_the_views_show_a_follower_with_the_answer_of_its_leader(store):
    """A success has its leader's answer, a failure its leader's code and message."""
    with store.write() as connection:
        workload = add_workload(connection, "work", reuse="on")
        shard = add_shard(connection, workload, seqs=[0, 1])
        follow(connection, shard, 4, first_seq=2)
        settle(connection, shard, [0], RequestState.SUCCEEDED)
        settle(connection, shard, [1], RequestState.FAILED)
        assert reuse.settle_followers(connection, workload.id, first_seq=0, last_seq=1) == 4
        succeeded = read(connection, "SELECT seq, custom_id, answer, prompt_tokens FROM succeeded ORDER BY seq")
        failed = read(connection, "SELECT seq, custom_id, error_code, error_message FROM failed ORDER BY seq")
    assert succeeded == [
        (0, "row-0", "answer 0", 10),
        (2, "follower-2", "answer 0", 0),
        (4, "follower-4", "answer 0", 0),
    ]
    assert failed == [
        (1, "row-1", "http_400", "no"),
        (3, "follower-3", "http_400", "no"),
        (5, "follower-5", "http_400", "no"),
    ]


@pytest.mark.parametrize(
    "state", [RequestState.SUCCEEDED, RequestState.FAILED, RequestState.CANCELLED, RequestState.PENDING]
)
def test_followers_are_settled_once_and_only_when_their_leader_is_decided(store, state):
    """A pending leader leaves them waiting; otherwise they end as it does, and a second call changes nothing."""
    with store.write() as connection:
        workload = add_workload(connection, "work", reuse="on")
        shard = add_shard(connection, workload, seqs=[0])
        other = add_shard(connection, workload, seqs=[5])
        follow(connection, shard, 2, first_seq=1)
        settle(connection, shard, [0], state)
        settle(connection, other, [5], RequestState.SUCCEEDED)
        settled = 0 if state is RequestState.PENDING else 2
        assert reuse.settle_followers(connection, workload.id, first_seq=5, last_seq=5) == 0
        assert reuse.settle_followers(connection, workload.id, first_seq=0, last_seq=4) == settled
        assert reuse.settle_followers(connection, workload.id) == 0
        expected = "in_flight" if state is RequestState.PENDING else state.value
        assert read(connection, "SELECT DISTINCT state FROM requests WHERE leader_seq = 0") == [(expected,)]
        results = read(connection, "SELECT count(*) FROM results WHERE seq IN (1, 2)")
        assert results == [(2 if state in {RequestState.SUCCEEDED, RequestState.FAILED} else 0,)]


def test_followers_are_never_pending(store):
    """Reopening makes leaders pending, and their followers wait for them."""
    with store.write() as connection:
        workload = add_workload(connection, "work", reuse="on")
        shard = add_shard(
            connection, workload, seqs=[0, 1], state=ShardState.MERGED, request_state=RequestState.CANCELLED
        )
        follow(connection, shard, 3, first_seq=2)
        reuse.settle_followers(connection, workload.id)
        assert requests.reopen(connection, workload.id, RequestState.CANCELLED) == 5
        states = read(connection, "SELECT state, leader_seq IS NULL, count(*) FROM requests GROUP BY 1, 2 ORDER BY 1")
        assert [(state, bool(leads), number) for state, leads, number in states] == [
            ("in_flight", False, 3),
            ("pending", True, 2),
        ]
        counts = workloads.count_requests(connection, workloads.get(connection, workload.id))
        assert (counts.total, counts.pending, counts.in_flight) == (5, 2, 3)


def test_an_answer_that_is_gone_or_replaced_is_not_given(store):
    """Only as many requests get an answer as have the result that was found."""
    with store.write() as connection:
        workload = donor(connection)
        (found,) = reuse.find_known(connection, [digest("donor 1")])
        assert found.result_shard_id is not None
        receiver = add_workload(connection, "receiver", reuse="on")
        for wrong in (
            AnsweredBy(0, workload.id, 99, found.result_shard_id),
            AnsweredBy(1, workload.id, 1, type(found.result_shard_id)(found.result_shard_id + 1)),
            AnsweredBy(2, type(workload.id)(99), 1, found.result_shard_id),
        ):
            assert reuse.add_answered(connection, receiver.id, [wrong]) == 0
        right = AnsweredBy(3, workload.id, 1, found.result_shard_id)
        assert reuse.add_answered(connection, receiver.id, [right]) == 1
        assert reuse.add_answered(connection, receiver.id, []) == 0


@pytest.mark.parametrize("count", [1, 15, 16, 17, 255, 256, 257, 300, 600])
def test_any_number_of_requests_is_looked_up_and_answered(store, count):
    """Statements for many rows and those for the rest together find and answer each request once."""
    with store.write() as connection:
        donor(connection, lines=count)
        workload = heir(connection, "heir", [f"donor {seq}" for seq in reversed(range(count))])
        answers = read(connection, "SELECT seq, answer FROM succeeded WHERE workload = 'heir' ORDER BY seq")
        assert answers == [(seq, f"answer {count - 1 - seq}") for seq in range(count)]
        counts = workloads.count_requests(connection, workload)
        assert (counts.succeeded, counts.total) == (count, count)


def test_a_clean_waits_for_a_split_that_gives_its_answers(postgres_store, postgres_url):
    """With two connections: the answers that the split has just referred to stay, because the clean sees them after its wait."""
    with postgres_store.write() as connection:
        workload = donor(connection)
    other = Store(postgres_url)
    with ThreadPoolExecutor(1) as pool:
        with postgres_store.write() as connection:
            reuse.hold_workloads(connection, [workload.id])
            heir(connection, "heir", ["donor 1"])
            cleaned = pool.submit(_remove, other, workload.id)
            wait_for_a_lock(postgres_store)
            assert not cleaned.done()
        cleaned.result()
    other.close()
    with postgres_store.read() as connection:
        assert read(connection, "SELECT workload, answer FROM succeeded") == [("heir", "answer 1")]
        assert read(connection, "SELECT count(*) FROM bodies") == [(1,)]


def test_a_split_waits_for_a_clean_and_notices_it(postgres_store, postgres_url):
    """The other way around: the split gets no answer of the workload that is being removed."""
    with postgres_store.write() as connection:
        workload = donor(connection)
        receiver = add_workload(connection, "receiver", reuse="on")
        (found,) = reuse.find_known(connection, [digest("donor 1")])
    assert found.result_shard_id is not None
    given = [AnsweredBy(0, workload.id, 1, found.result_shard_id)]
    other = Store(postgres_url)

    def give() -> int:
        with other.write() as connection:
            reuse.hold_workloads(connection, [workload.id])
            return reuse.add_answered(connection, receiver.id, given)

    with ThreadPoolExecutor(1) as pool:
        with postgres_store.write() as connection:
            workloads.remove(connection, workload.id)
            answered = pool.submit(give)
            wait_for_a_lock(postgres_store)
            assert not answered.done()
        assert answered.result() == 0
    other.close()


def test_splits_that_use_the_same_answers_do_not_wait_for_each_other(postgres_store, postgres_url):
    """Nor does the donor's own work."""
    with postgres_store.write() as connection:
        workload = donor(connection)
    other = Store(postgres_url)
    with postgres_store.write() as connection, other.write() as beside:
        reuse.hold_workloads(connection, [workload.id])
        beside.execute(text("SET LOCAL lock_timeout = '2s'"))
        reuse.hold_workloads(beside, [workload.id])
        workloads.set_values(beside, workload.id, output="there")
    other.close()


def test_workloads_that_are_cleaned_at_the_same_time_leave_nothing(postgres_store, postgres_url):
    """The second waits for the first, so that no answer is kept for a workload that is going; a third one keeps what it has."""
    with postgres_store.write() as connection:
        first = donor(connection)
        second = heir(connection, "second", ["donor 0", "donor 1"])
        third = heir(connection, "third", ["donor 1"])
    other = Store(postgres_url)
    with ThreadPoolExecutor(1) as pool:
        with postgres_store.write() as connection:
            workloads.remove(connection, first.id)
            cleaned = pool.submit(_remove, other, second.id)
            wait_for_a_lock(postgres_store)
        cleaned.result()
    with postgres_store.write() as connection:
        assert read(connection, "SELECT count(*) FROM bodies") == [(1,)]
        assert [found.workload_id for found in reuse.find_known(connection, [digest("donor 1")])] == [third.id]
        workloads.remove(connection, third.id)
        for table in ("bodies", "cleaned_shards", "results", "requests"):
            assert read(connection, f"SELECT count(*) FROM {table}") == [(0,)]  # noqa: S608 - names of this test
    other.close()


def _remove(store: Store, workload_id: WorkloadId) -> None:
    with store.write() as connection:
        workloads.remove(connection, workload_id)


@dataclass
class Loaded:
    """A large workload with digests and followers, and a small one, of whose answers another one has reused some."""

    store: Store
    large: Workload
    open_shard: Shard
    small: Workload


@pytest.fixture(scope="module", params=["sqlite", "sqlite analysed", "postgres analysed"])
def loaded(request, tmp_path_factory) -> Iterator[Loaded]:
    """Fill a database once for all plans, which must hold without statistics of SQLite, too."""
    kind, _, analysed = request.param.partition(" ")
    server = None
    if kind == "sqlite":
        path = tmp_path_factory.mktemp("plans") / "batchkit.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        url = f"sqlite:///{path}"
    else:
        server = request.getfixturevalue("postgres_server")
        name = server.create(template=request.getfixturevalue("postgres_template"))
        url = server.url_of(name)
    store = Store(url)
    with store.write() as connection:
        large = donor(connection, "large", shards=BIG_SHARDS, lines=LINES)
        open_shard = add_shard(connection, large, lines=LINES)
        follow(connection, open_shard, 500, first_seq=BIG_SHARDS * LINES + LINES)
        small = donor(connection, "small", shards=2, lines=10)
        heir(connection, "heir", [f"small {seq}" for seq in range(20)])
        heir(connection, "another", [f"large {seq}" for seq in range(2_000)])
        lost = [lost_attempt(open_shard, seq) for seq in range(BIG_SHARDS * LINES)]
        bulk_for(connection).add_attempts(lost)
        # Some answers of workloads that were cleaned.
        gone = donor(connection, "gone", lines=10)
        heir(connection, "heir of it", [f"gone {seq}" for seq in range(10)])
        workloads.remove(connection, gone.id)
        large, small = (workloads.get(connection, workload.id) for workload in (large, small))
    if analysed:
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE" if store.is_sqlite else "VACUUM ANALYZE")
    yield Loaded(store, large, open_shard, small)
    store.close()
    if server is not None:
        server.drop(name)


def plans(loaded: Loaded, call: Callable[[Connection], object]) -> str:
    """Run a call, roll back its changes, and explain each statement that it sent."""
    sent: list[tuple[str, Any]] = []

    def note_it(_connection, _cursor, statement, parameters, _context, _many):
        sent.append((statement, parameters))

    explain = "EXPLAIN QUERY PLAN" if loaded.store.is_sqlite else "EXPLAIN"
    with loaded.store.engine.connect() as connection, connection.begin() as transaction:
        event.listen(loaded.store.engine, "before_cursor_execute", note_it)
        try:
            call(connection)
        finally:
            event.remove(loaded.store.engine, "before_cursor_execute", note_it)
        explained = [
            "\n".join(row[-1] for row in connection.exec_driver_sql(f"{explain} {statement}", parameters))
            for statement, parameters in sent
            if re.match(r"\s*(SELECT|UPDATE|DELETE|WITH|INSERT)\b", statement)
        ]
        transaction.rollback()
    assert explained
    return "\n\n".join(explained)


def scans(plan: str) -> list[str]:
    """Return the lines of a plan that read a whole table of requests, or all requests of a workload in SQLite."""
    big = "|".join(BIG)
    whole = rf"\bSCAN ({big}|mine|own|heir|answered|leader)\b|Seq Scan on ({big})\b"
    return re.findall(rf".*(?:{whole}).*", plan)


CALLS: dict[str, tuple[Callable[[Loaded], Callable[[Connection], object]], str]] = {
    "find_known": (
        lambda _on: lambda c: list(reuse.find_known(c, [digest(f"large {seq}") for seq in range(0, 9_000, 45)])),
        "requests_digest",
    ),
    "add_answered": (
        lambda on: (
            lambda c: reuse.add_answered(
                c,
                on.small.id,
                [
                    AnsweredBy(100 + place, found.workload_id, found.seq, found.result_shard_id)
                    for place, found in enumerate(reuse.find_known(c, [digest(f"large {seq}") for seq in range(300)]))
                    if found.result_shard_id is not None
                ],
            )
        ),
        "results_pkey|answered USING PRIMARY KEY",
    ),
    "kept_answers": (
        lambda _on: (
            lambda c: reuse.kept_answers(c, list(reuse.find_known(c, [digest(f"large {seq}") for seq in range(9)])))
        ),
        "bodies_pkey|sqlite_autoindex_bodies_1",
    ),
    "settle_followers": (
        lambda on: (
            lambda c: reuse.settle_followers(
                c, on.large.id, first_seq=on.open_shard.first_seq, last_seq=on.open_shard.last_seq
            )
        ),
        "requests_followers",
    ),
    "settle_followers of all": (lambda on: lambda c: reuse.settle_followers(c, on.large.id), "requests_followers"),
    "reopen_followers": (lambda on: lambda c: reuse.reopen_followers(c, on.large.id), "requests_"),
    "waiting_followers": (lambda on: lambda c: reuse.waiting_followers(c, on.large.id), "requests_followers"),
    "hand_on": (lambda on: lambda c: reuse.hand_on(c, on.small.id), "results_reused"),
}


@pytest.mark.parametrize("name", CALLS)
def test_no_statement_of_reuse_reads_whole_tables(loaded, name):
    """Beside 15,000 requests of another workload, each of them is found by an index."""
    make, index = CALLS[name]
    plan = plans(loaded, make(loaded))
    assert scans(plan) == [], plan
    assert re.search(index, plan), plan
