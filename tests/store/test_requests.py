"""Requests: those of a shard, their final states, and their return to pending."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from batchkit.models import Destination, Lane, RequestState, ShardId, ShardState
from batchkit.store import requests, shards, workloads
from batchkit.store.bulk import bulk_for
from batchkit.store.requests import PendingRequest, ResubmitGroup, ShardRequest
from batchkit.store.tables import requests as request_rows
from batchkit.store.tables import results as result_rows
from tests.factories import (
    AUDIO,
    CHAT,
    NOW,
    add_requests,
    add_shard,
    add_workload,
    custom_id,
    lost_attempt,
    settle,
)


def states(connection, workload):
    """Return (state, attempts, expiries) of every request by seq."""
    query = select(request_rows.c.seq, request_rows.c.state, request_rows.c.attempts, request_rows.c.expiries).where(
        request_rows.c.workload_id == workload.id
    )
    return {seq: (state, attempts, expiries) for seq, state, attempts, expiries in connection.execute(query)}


def failed_results(connection, workload):
    """Return the seqs that have a failed result."""
    query = select(result_rows.c.seq).where(result_rows.c.workload_id == workload.id, result_rows.c.state == "failed")
    return sorted(connection.execute(query).scalars())


def test_requests_of_a_shard_come_in_input_order_with_their_counters(store):
    """Each request has its line in the shard's file and its counters before the attempt."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload, seqs=[7, 3, 5], state=ShardState.ENDED)
        bulk_for(connection).set_states(workload.id, [(5, "in_flight", 2, 1)])
        assert requests.of_shard(connection, shard) == [
            ShardRequest(3, "row-3", 100, 99, 0, 0),
            ShardRequest(5, "row-5", 200, 99, 2, 1),
            ShardRequest(7, "row-7", 0, 99, 0, 0),
        ]


def test_the_columns_of_a_shards_requests_are_the_same(store):
    """A merge reads the same requests for the whole shard, and none for a merged shard."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload, seqs=[7, 3, 5], state=ShardState.ENDED)
        settle(connection, shard, [3], RequestState.SUCCEEDED)
        bulk_for(connection).set_states(workload.id, [(5, "in_flight", 2, 1)])

        found = requests.shard_requests(connection, shard)

        assert list(zip(*found, strict=True)) == [(5, "row-5", 2, 1), (7, "row-7", 0, 0)]
        settle(connection, shard, [5, 7], RequestState.SUCCEEDED)
        assert list(map(list, requests.shard_requests(connection, shard))) == [[], [], [], []]


def test_interleaved_shards_keep_their_own_requests(store):
    """Two endpoints cut over the same range of seq share no request, and neither do other workloads with the same seqs."""
    with store.write() as connection:
        workload, other = add_workload(connection, "first"), add_workload(connection, "second")
        chat = add_shard(connection, workload, seqs=[0, 2, 4, 9], endpoint=CHAT, state=ShardState.ENDED)
        audio = add_shard(connection, workload, seqs=[1, 3, 5, 8], endpoint=AUDIO, state=ShardState.ENDED)
        add_shard(connection, other, seqs=range(10), state=ShardState.ENDED)
        assert [request.seq for request in requests.of_shard(connection, chat)] == [0, 2, 4, 9]
        assert [request.seq for request in requests.of_shard(connection, audio)] == [1, 3, 5, 8]
        assert requests.mark_succeeded(connection, chat) == 4
        assert requests.of_shard(connection, chat) == []
        assert [request.seq for request in requests.of_shard(connection, audio)] == [1, 3, 5, 8]
        assert requests.move_back(connection, audio, RequestState.PENDING) == 4
        assert {seq: state for seq, (state, _, _) in states(connection, workload).items()} == {
            seq: "pending" if seq in {1, 3, 5, 8} else "succeeded" for seq in (0, 1, 2, 3, 4, 5, 8, 9)
        }
        assert set(states(connection, other).values()) == {("in_flight", 0, 0)}


def test_final_requests_do_not_belong_to_a_shard(store):
    """A request that is final, or has moved to another shard, does not wait for this one."""
    with store.write() as connection:
        workload = add_workload(connection)
        first = add_shard(connection, workload, lines=4, state=ShardState.ENDED)
        settle(connection, first, [0], RequestState.FAILED)
        settle(connection, first, [1], RequestState.PENDING)
        second = add_shard(connection, workload, seqs=[9])
        assert bulk_for(connection).move_to_shard(workload.id, second.id, [(1, 500, 50)]) == 1
        assert [request.seq for request in requests.of_shard(connection, first)] == [2, 3]


def test_success_counts_one_attempt(store):
    """Requests in flight in the shard succeed with one attempt more; final ones stay as they are."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload, lines=4, state=ShardState.ENDED)
        bulk_for(connection).set_states(
            workload.id, [(0, "failed", 3, 0), (1, "pending", 2, 2), (2, "in_flight", 4, 1)]
        )
        assert requests.mark_succeeded(connection, shard) == 2
        assert states(connection, workload) == {
            0: ("failed", 3, 0),
            1: ("pending", 2, 2),
            2: ("succeeded", 5, 1),
            3: ("succeeded", 1, 0),
        }
        assert requests.mark_succeeded(connection, shard) == 0


@pytest.mark.parametrize("target", [RequestState.PENDING, RequestState.CANCELLED])
def test_requests_of_a_shard_that_never_ran_count_no_attempt(store, target):
    """Moving back leaves the counters unchanged, and touches only the requests in flight in this shard."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload, lines=3)
        add_shard(connection, workload, lines=1)
        bulk_for(connection).set_states(workload.id, [(0, "failed", 1, 0), (1, "in_flight", 3, 2)])
        assert requests.move_back(connection, shard, target) == 2
        assert states(connection, workload) == {
            0: ("failed", 1, 0),
            1: (target.value, 3, 2),
            2: (target.value, 0, 0),
            3: ("in_flight", 0, 0),
        }


def test_cancelling_takes_pending_requests(store):
    """Only pending requests of the workload are cancelled."""
    with store.write() as connection:
        workload, other = add_workload(connection, "first"), add_workload(connection, "second")
        for owner in (workload, other):
            shard = add_shard(connection, owner, lines=5, state=ShardState.MERGED, request_state=RequestState.PENDING)
            settle(connection, shard, [0], RequestState.SUCCEEDED)
            settle(connection, shard, [1], RequestState.FAILED)
        assert requests.cancel_pending(connection, workload.id) == 3
        assert requests.cancel_pending(connection, workload.id) == 0
        assert [state for state, _, _ in states(connection, workload).values()].count("cancelled") == 3
        assert [state for state, _, _ in states(connection, other).values()].count("pending") == 3


def test_reopened_failures_start_from_zero(store):
    """Failed and cancelled requests get new budgets and lose their failed result; successes and other workloads keep theirs."""
    with store.write() as connection:
        workload, other = add_workload(connection, "first"), add_workload(connection, "second")
        for owner in (workload, other):
            shard = add_shard(connection, owner, lines=4, state=ShardState.MERGED)
            add_shard(connection, owner, lines=2, state=ShardState.MERGED, request_state=RequestState.FAILED)
            settle(connection, shard, [3], RequestState.CANCELLED)
        bulk_for(connection).set_states(workload.id, [(4, "failed", 7, 5)])
        assert requests.reopen(connection, workload.id, failed=True) == 3
        after = states(connection, workload)
        assert (after[4], after[5]) == (("pending", 0, 0), ("pending", 0, 0))
        assert (after[0][0], after[3][0]) == ("succeeded", "pending")
        assert failed_results(connection, workload) == []
        assert failed_results(connection, other) == [4, 5]
        kept = select(result_rows.c.seq).where(
            result_rows.c.workload_id == workload.id, result_rows.c.state == "succeeded"
        )
        assert {0, 1, 2} <= set(connection.execute(kept).scalars())


def test_without_failed_only_what_was_not_executed_is_reopened(store):
    """Cancelled, expired and missing requests are pending again; a refusal keeps its result, and so does a request without a line."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload, lines=3, state=ShardState.MERGED, request_state=RequestState.CANCELLED)
        settle(connection, shard, [0], RequestState.FAILED)
        kinds = ("expired", "missing", "cancelled", "account", "refused")
        failed = add_shard(connection, workload, lines=5, state=ShardState.MERGED, request_state=RequestState.FAILED)
        unknown = add_shard(
            connection, workload, lines=1, state=ShardState.MERGED, request_state=RequestState.FAILED, path=None
        )
        lost = [lost_attempt(failed, 3 + place, kind) for place, kind in enumerate(kinds)]
        bulk_for(connection).add_attempts([*lost, lost_attempt(unknown, 8)])
        assert requests.reopen(connection, workload.id, failed=False) == 6
        after = [state for _, (state, _, _) in sorted(states(connection, workload).items())]
        assert after == ["failed", *["pending"] * 6, "failed", "failed"]
        assert failed_results(connection, workload) == [0, 7, 8]
        assert requests.reopen(connection, workload.id, failed=True) == 2


def test_reopening_never_touches_a_success(store):
    """Even when the call asks for it, a paid answer is not bought again."""
    with store.write() as connection:
        workload = add_workload(connection)
        add_shard(connection, workload, state=ShardState.MERGED)
        add_shard(connection, workload, state=ShardState.SUBMITTED)
        before = states(connection, workload)
        assert requests.reopen(connection, workload.id, failed=True) == 0
        assert states(connection, workload) == before


def left_behind(connection, workload, **columns):
    """Insert a merged shard whose requests are all pending."""
    return add_shard(
        connection, workload, lines=2, state=ShardState.MERGED, request_state=RequestState.PENDING, **columns
    )


def test_resubmission_is_grouped_by_settings(store):
    """Requests are grouped by endpoint, size, window and waits; the order is stable and each shard is in one group."""
    with store.write() as connection:
        workload = add_workload(connection)
        plain = [left_behind(connection, workload) for _ in range(2)]
        small = left_behind(connection, workload, next_lines=100)
        late = left_behind(connection, workload, next_completion_window="48h")
        waiting = left_behind(connection, workload, waits=2)
        audio = left_behind(connection, workload, endpoint=AUDIO)
        add_shard(connection, workload, state=ShardState.MERGED)
        groups = requests.resubmit_groups(connection, workload.id, now=NOW)
        assert groups == requests.resubmit_groups(connection, workload.id, now=NOW)
    assert groups == [
        ResubmitGroup(Lane.BATCH, Destination(AUDIO), 1_000, "24h", 0, (audio.id,)),
        ResubmitGroup(Lane.BATCH, Destination(CHAT), 100, "24h", 0, (small.id,)),
        ResubmitGroup(Lane.BATCH, Destination(CHAT), 1_000, "24h", 0, (plain[0].id, plain[1].id)),
        ResubmitGroup(Lane.BATCH, Destination(CHAT), 1_000, "24h", 2, (waiting.id,)),
        ResubmitGroup(Lane.BATCH, Destination(CHAT), 1_000, "48h", 0, (late.id,)),
    ]


def test_shards_that_must_wait_are_in_no_group(store):
    """A group waits until ``not_before``; open shards and other workloads never count."""
    with store.write() as connection:
        workload, other = add_workload(connection, "first"), add_workload(connection, "second")
        later = left_behind(connection, workload, not_before=NOW + 10)
        add_shard(connection, workload, state=ShardState.ENDED, request_state=RequestState.PENDING)
        left_behind(connection, other)
        assert requests.resubmit_groups(connection, workload.id, now=NOW + 9) == []
        groups = requests.resubmit_groups(connection, workload.id, now=NOW + 10)
        assert [group.shard_ids for group in groups] == [(later.id,)]


def test_next_resubmission_is_due_with_the_earliest_group(store):
    """None when no request is pending, else the earliest time among shards with pending requests."""
    with store.write() as connection:
        workload = add_workload(connection)
        add_shard(connection, workload, state=ShardState.MERGED, not_before=1)
        assert requests.next_resubmit_due(connection, workload.id) is None
        left_behind(connection, workload, not_before=NOW + 20)
        left_behind(connection, workload, not_before=NOW + 10)
        assert requests.next_resubmit_due(connection, workload.id) == NOW + 10


def test_pending_requests_are_paged_in_input_order(store):
    """Pages follow each other without gap or repeat, over interleaved shards, and refer to the last shard's file."""
    with store.write() as connection:
        workload = add_workload(connection)
        odd = add_shard(
            connection,
            workload,
            seqs=range(1, 40, 2),
            state=ShardState.MERGED,
            request_state=RequestState.PENDING,
        )
        even = add_shard(
            connection,
            workload,
            seqs=range(0, 40, 2),
            state=ShardState.WITHDRAWN,
        )
        other = add_shard(connection, workload, seqs=range(40, 50), state=ShardState.WITHDRAWN)
        settle(connection, odd, [5, 7], RequestState.SUCCEEDED)
        found: list[PendingRequest] = []
        while page := requests.pending_after(
            connection,
            workload.id,
            shard_ids=(odd.id, even.id),
            after_seq=found[-1].seq if found else -1,
            limit=7,
        ):
            assert len(page) <= 7
            found += page
        assert [request.seq for request in found] == [seq for seq in range(40) if seq not in {5, 7}]
        assert found[3] == PendingRequest(3, custom_id(3), odd.id, 100, 99)
        assert {request.shard_id for request in found} == {odd.id, even.id}
        everything = requests.pending_after(connection, workload.id, shard_ids=(other.id,), after_seq=-1, limit=99)
        assert [request.seq for request in everything] == list(range(40, 50))


def test_no_shards_have_no_pending_requests(store):
    """An empty list of shards gives no requests, and neither does a page after the end."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = left_behind(connection, workload)
        assert requests.pending_after(connection, workload.id, shard_ids=(), after_seq=-1, limit=9) == []
        assert requests.pending_after(connection, workload.id, shard_ids=(shard.id,), after_seq=1, limit=9) == []


def test_group_may_have_more_shards_than_a_statement_has_parameters(store):
    """A group of tens of thousands of shards does not fail."""
    many = tuple(ShardId(number) for number in range(1, 70_000))
    with store.write() as connection:
        workload = add_workload(connection)
        left_behind(connection, workload)
        found = requests.pending_after(connection, workload.id, shard_ids=many, after_seq=-1, limit=9)
    assert [request.seq for request in found] == [0, 1]


def test_pending_count_stops_at_its_limit(store):
    """Counting stops at the given limit."""
    with store.write() as connection:
        workload = add_workload(connection)
        assert requests.pending_count(connection, workload.id, at_most=9) == 0
        left_behind(connection, workload)
        left_behind(connection, workload)
        add_shard(connection, workload)
        assert requests.pending_count(connection, workload.id, at_most=9) == 4
        assert requests.pending_count(connection, workload.id, at_most=3) == 3


def test_moved_requests_belong_to_their_new_shard(store):
    """Only pending requests move; the call returns their number, and seq, name and counters are kept."""
    with store.write() as connection:
        workload = add_workload(connection)
        old = add_shard(connection, workload, lines=4, state=ShardState.MERGED, request_state=RequestState.PENDING)
        settle(connection, old, [2], RequestState.SUCCEEDED)
        bulk_for(connection).set_states(workload.id, [(1, "pending", 4, 3)])
        new_id = shards.add(
            connection,
            workload_id=workload.id,
            number=2,
            destination=Destination(CHAT),
            window="24h",
            key="new",
            path="new",
            sha256="0",
            line_count=3,
            byte_count=300,
            first_seq=0,
            last_seq=2,
            next_lines=1,
            next_window="24h",
            waits=0,
            at=NOW,
        )
        moved = bulk_for(connection).move_to_shard(workload.id, new_id, [(0, 0, 10), (1, 11, 20), (2, 32, 30)])
        assert moved == 2
        assert requests.of_shard(connection, shards.get(connection, new_id)) == [
            ShardRequest(0, "row-0", 0, 10, 1, 0),
            ShardRequest(1, "row-1", 11, 20, 4, 3),
        ]
        assert states(connection, workload)[2][0] == "succeeded"
        assert bulk_for(connection).move_to_shard(workload.id, new_id, []) == 0


@pytest.mark.parametrize(
    "row",
    [
        {"state": "unheard-of"},
        {"state": None},
        {"attempts": 1, "expiries": 2},
        {"custom_id": None},
        {"shard_id": None},
    ],
    ids=str,
)
def test_impossible_request_is_refused(store, row):
    """The database refuses unknown states, more expiries than attempts, and requests without a name or shard."""
    with store.write() as connection:
        workload = add_workload(connection)
    with pytest.raises(IntegrityError), store.write() as connection:
        add_requests(connection, workload.id, ShardId(1), [{"seq": 1} | row])


def test_repeated_seq_is_refused(store):
    """A line of the input is one request of its workload."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload, seqs=[1])
    with pytest.raises(Exception, match=r"(?i)unique|duplicate"), store.write() as connection:
        bulk_for(connection).add_requests(workload.id, [(1, "again", shard.id, 0, 1)])
    with store.read() as connection:
        assert workloads.count_requests(connection, workloads.get(connection, workload.id)).total == 1
