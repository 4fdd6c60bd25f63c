"""Reuse in the database: what is found, given and handed on, who waits for whom, and how views show it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from batchkit.models import RequestState, ShardState
from batchkit.store import requests, reuse, workloads
from batchkit.store.engine import Store
from batchkit.store.reuse import AnsweredBy
from tests.factories import add_shard, add_workload, settle
from tests.locks import wait_for_a_lock
from tests.store.reusing import digest, donor, follow, heir

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from batchkit.models import WorkloadId


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
        assert requests.reopen(connection, workload.id, failed=False) == 5
        states = read(connection, "SELECT state, leader_seq IS NULL, count(*) FROM requests GROUP BY 1, 2 ORDER BY 1")
        assert [(state, bool(leads), number) for state, leads, number in states] == [
            ("in_flight", False, 3),
            ("pending", True, 2),
        ]
        counts = workloads.count_requests(connection, workloads.get(connection, workload.id))
        assert (counts.total, counts.pending, counts.in_flight) == (5, 2, 3)


def test_followers_are_cancelled_with_a_pending_leader(store):
    """A cancel ends the requests that wait to be sent again, and those that follow them; others keep waiting."""
    with store.write() as connection:
        workload = add_workload(connection, "work", reuse="on")
        merged = add_shard(connection, workload, seqs=[0], state=ShardState.MERGED, request_state=RequestState.PENDING)
        follow(connection, merged, 2, first_seq=1)
        running = add_shard(connection, workload, seqs=[3], state=ShardState.SUBMITTED)
        follow(connection, running, 1, first_seq=4)
        assert requests.cancel_pending(connection, workload.id) == 3
        states = read(connection, "SELECT state, count(*) FROM requests GROUP BY state ORDER BY state")
        assert states == [("cancelled", 3), ("in_flight", 2)]
        assert requests.cancel_pending(connection, workload.id) == 0


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
        for table in ("bodies", "cleaned_answers", "results", "requests"):
            assert read(connection, f"SELECT count(*) FROM {table}") == [(0,)]  # noqa: S608 - names of this test
    other.close()


def _remove(store: Store, workload_id: WorkloadId) -> None:
    with store.write() as connection:
        workloads.remove(connection, workload_id)
