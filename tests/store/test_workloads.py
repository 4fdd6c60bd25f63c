"""Workloads: names, the commit of the split, the split lease, counts, and removal."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from batchkit.errors import UnknownWorkload
from batchkit.models import (
    FailureReason,
    RequestCountsByState,
    RequestState,
    RetryPolicy,
    ShardState,
    WorkloadId,
)
from batchkit.store import events, placements, reviews, runners, shards, workloads
from batchkit.store.bulk import bulk_for
from batchkit.store.runners import RunnerRow
from batchkit.store.tables import metadata
from tests.factories import NOW, add_shard, add_workload, failure, lost_attempt, settle

OPEN_STATES = [state for state in ShardState if state not in {ShardState.MERGED, ShardState.WITHDRAWN}]


def test_added_workload_is_read_back_whole(store):
    """The given values are found by name and by id, complete and unchanged."""
    policy = RetryPolicy(max_attempts=2, max_expiries=7)
    with store.write() as connection:
        assert workloads.add(
            connection,
            name="größe 'x' \n\t\\",
            source="in.jsonl",
            directory="groesse-1",
            window="48h",
            max_window="7d",
            shard_lines=123,
            shard_bytes=2**40,
            policy=policy,
            provider="openai",
            at=NOW + 0.25,
        )
    with store.read() as connection:
        found = workloads.find(connection, "größe 'x' \n\t\\")
        assert found is not None
        assert found == workloads.get(connection, found.id)
    assert (found.source, found.directory, found.window, found.max_window) == ("in.jsonl", "groesse-1", "48h", "7d")
    assert (found.shard_lines, found.shard_bytes, found.policy, found.created_at) == (123, 2**40, policy, NOW + 0.25)
    assert (found.input_sha256, found.request_count) == (None, None)
    assert (found.credential, found.cancel_requested_at, found.provider) == (None, None, "openai")


def test_taken_name_is_reported_and_changes_nothing(store):
    """A second workload of the same name is not inserted, and the transaction continues."""
    with store.write() as connection:
        first = add_workload(connection, "evals")
        before = events.newest(connection, first.id, limit=10)
        added = workloads.add(
            connection,
            name="evals",
            source="other.jsonl",
            directory="other",
            window="24h",
            max_window="24h",
            shard_lines=1,
            shard_bytes=1,
            policy=RetryPolicy(),
            provider="groq",
            at=NOW,
        )
        assert added is False
        assert workloads.every(connection) == [first]
        assert events.newest(connection, first.id, limit=10) == before


def test_refused_row_is_not_taken_for_a_taken_name(store):
    """A workload that the CHECKs refuse raises: it is not reported as "the name is taken"."""
    with pytest.raises(IntegrityError), store.write() as connection:
        add_workload(connection, "evals", shard_lines=0)


def test_unknown_workload_is_a_named_error(store):
    """A workload that was cleaned raises UnknownWorkload by id, and is None by name."""
    with store.read() as connection:
        assert workloads.find(connection, "nobody") is None
        with pytest.raises(UnknownWorkload):
            workloads.get(connection, WorkloadId(4711))


def test_workloads_are_listed_oldest_first(store):
    """The list is in order of creation, not of names."""
    with store.write() as connection:
        names = ["zebra", "apple", "mango"]
        for name in names:
            add_workload(connection, name)
        assert [workload.name for workload in workloads.every(connection)] == names


def test_finished_split_writes_digest_count_and_event(store):
    """Committing a split sets digest and count together and writes an event."""
    with store.write() as connection:
        workload = add_workload(connection, split=False)
        workloads.finish_split(connection, workload.id, sha256="ab", request_count=12, at=NOW + 1)
        read = workloads.get(connection, workload.id)
        newest = events.newest(connection, workload.id, limit=1)[0]
    assert (read.input_sha256, read.request_count) == ("ab", 12)
    assert (newest.kind, newest.detail, newest.at) == ("split", "12 requests", NOW + 1)


@pytest.mark.parametrize("state", OPEN_STATES)
def test_workload_with_an_open_shard_is_open(store, state):
    """A shard in any state that owes answers keeps its workload open."""
    with store.write() as connection:
        workload = add_workload(connection)
        add_shard(connection, workload, state=state)
        assert [found.id for found in workloads.open_workloads(connection)] == [workload.id]


def test_workload_with_pending_requests_only_is_open(store):
    """Requests that wait for another attempt keep a workload open when all its shards are done."""
    with store.write() as connection:
        workload = add_workload(connection)
        add_shard(connection, workload, state=ShardState.MERGED)
        assert workloads.open_workloads(connection) == []
        add_shard(connection, workload, state=ShardState.MERGED, request_state=RequestState.PENDING)
        assert [found.id for found in workloads.open_workloads(connection)] == [workload.id]


@pytest.mark.parametrize("state", [RequestState.SUCCEEDED, RequestState.FAILED, RequestState.CANCELLED])
def test_workload_with_final_requests_only_is_not_open(store, state):
    """Whatever the final states are, no answer is owed."""
    with store.write() as connection:
        add_shard(connection, add_workload(connection), state=ShardState.MERGED, request_state=state)
        assert workloads.open_workloads(connection) == []


def test_unsplit_workload_is_not_open(store):
    """Shards of a split that was not committed completely are not sent."""
    with store.write() as connection:
        workload = add_workload(connection, split=False)
        add_shard(connection, workload)
        assert workloads.open_workloads(connection) == []


def test_lease_is_exclusive_until_it_expires(store, clock):
    """Another owner gets the lease only after its end; its holder may claim it again at any time."""
    with store.write() as connection:
        workload = add_workload(connection)

        def take(owner: str) -> bool:
            return workloads.take_lease(connection, workload.id, owner=owner, now=clock(), lease_seconds=60)

        assert take("a")
        assert not take("b")
        clock.advance(60)
        assert not take("b")
        assert take("a")
        clock.advance(61)
        assert take("b")
        assert not take("a")
        assert workloads.holds_lease(connection, workload.id, "b")
        assert not workloads.holds_lease(connection, workload.id, "a")


def test_renewed_lease_lasts_to_its_new_end(store, clock):
    """Renewing extends the owner's leases and no others."""
    with store.write() as connection:
        mine, other = add_workload(connection, "mine"), add_workload(connection, "other")
        for workload, owner in ((mine, "a"), (other, "b")):
            assert workloads.take_lease(connection, workload.id, owner=owner, now=clock(), lease_seconds=10)
        workloads.renew_leases(connection, "a", clock() + 100)
        clock.advance(50)
        assert not workloads.take_lease(connection, mine.id, owner="c", now=clock(), lease_seconds=10)
        assert workloads.take_lease(connection, other.id, owner="c", now=clock(), lease_seconds=10)


def test_released_lease_is_free_at_once(store, clock):
    """An owner gives up all its own leases, and no others."""
    with store.write() as connection:
        mine, other = add_workload(connection, "mine"), add_workload(connection, "other")
        for workload, owner in ((mine, "a"), (other, "b")):
            assert workloads.take_lease(connection, workload.id, owner=owner, now=clock(), lease_seconds=10)
        assert workloads.lease_owners(connection) == {"a", "b"}
        workloads.release_lease(connection, "a")
        assert workloads.lease_owners(connection) == {"b"}
        assert workloads.take_lease(connection, mine.id, owner="c", now=clock(), lease_seconds=10)
        assert not workloads.take_lease(connection, other.id, owner="c", now=clock(), lease_seconds=10)


def test_lease_of_a_removed_workload_is_held_by_nobody(store, clock):
    """The query for a removed workload's lease returns false instead of failing."""
    with store.write() as connection:
        assert not workloads.holds_lease(connection, WorkloadId(4711), "a")
        assert not workloads.take_lease(connection, WorkloadId(4711), owner="a", now=clock(), lease_seconds=1)


def test_counts_name_every_state(store):
    """Counts come from shards and the partial index, and match the inserted rows."""
    with store.write() as connection:
        workload = add_workload(connection)
        add_shard(connection, workload, lines=2)
        add_shard(connection, workload, lines=3, state=ShardState.SUBMITTED)
        add_shard(connection, workload, lines=4, state=ShardState.MERGED)
        add_shard(connection, workload, lines=5, state=ShardState.MERGED, request_state=RequestState.FAILED)
        add_shard(connection, workload, lines=6, state=ShardState.WITHDRAWN)
        add_shard(connection, workload, lines=7, state=ShardState.WITHDRAWN, request_state=RequestState.CANCELLED)
        counts = workloads.count_requests(connection, workloads.get(connection, workload.id))
    assert counts == RequestCountsByState(total=27, pending=6, in_flight=5, succeeded=4, failed=5, cancelled=7)
    assert counts.unresolved == 11


def test_counts_while_splitting_are_those_of_the_cut_requests(store):
    """Before the split is complete, the total is the number of requests in shards."""
    with store.write() as connection:
        workload = add_workload(connection, split=False)
        assert workloads.count_requests(connection, workload) == RequestCountsByState()
        add_shard(connection, workload, lines=3)
        assert workloads.count_requests(connection, workload) == RequestCountsByState(total=3, in_flight=3)


def test_counts_of_one_workload_leave_out_the_others(store):
    """Two workloads with the same seqs do not affect each other's counts."""
    with store.write() as connection:
        first, second = add_workload(connection, "first"), add_workload(connection, "second")
        add_shard(connection, first, lines=3, state=ShardState.MERGED, request_state=RequestState.FAILED)
        add_shard(connection, second, lines=2, state=ShardState.WITHDRAWN)
        add_shard(connection, second, lines=2)
        counted = [
            workloads.count_requests(connection, workloads.get(connection, workload.id)) for workload in (first, second)
        ]
        assert workloads.failure_reasons(connection, second.id) == []
    assert counted == [
        RequestCountsByState(total=3, failed=3),
        RequestCountsByState(total=4, pending=2, in_flight=2),
    ]


def test_reader_keeps_one_snapshot_while_others_write(store):
    """Counts read one after another in one read transaction are consistent, whatever is committed in between."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload, lines=4, state=ShardState.ENDED)
        workload = workloads.get(connection, workload.id)
    with store.read() as reading:
        before = workloads.count_requests(reading, workload)
        with store.write() as writing:
            settle(writing, shard, range(4), RequestState.FAILED)
            shards.transition(writing, shard, ShardState.MERGED, at=NOW)
        assert workloads.count_requests(reading, workload) == before
        assert workloads.failure_reasons(reading, workload.id) == []
    with store.read() as reading:
        assert workloads.count_requests(reading, workload) == RequestCountsByState(total=4, failed=4)


def test_failure_reasons_are_grouped_most_frequent_first(store):
    """Codes are counted; message and status of the sample are those of one request, the first of its group."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload, lines=9, state=ShardState.MERGED, request_state=RequestState.PENDING)
        bulk_for(connection).add_results(
            [
                failure(shard, 0, code="rare", status=422, message="zzz"),
                failure(shard, 1, code="often", status=400, message="first words"),
                failure(shard, 2, code="often", status=499, message="other words"),
                failure(shard, 3, code="often", status=None, message=None),
                failure(shard, 4, code=None, status=None, message=None),
                failure(shard, 5, code=None, status=413, message="too large"),
            ],
        )
        reasons = workloads.failure_reasons(connection, workload.id)
        assert workloads.failure_reasons(connection, workload.id, limit=1) == reasons[:1]
    assert reasons == [
        FailureReason("often", 400, 3, "first words"),
        FailureReason("unknown", None, 2, ""),
        FailureReason("rare", 422, 1, "zzz"),
    ]


def _rows(connection):
    return {
        table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
        for table in metadata.sorted_tables
        # The final state of an evaluation run is kept when its workload is cleaned, names are shared by all workloads, and an
        # event is delivered anyway.
        if not table.name.startswith(("evaluation", "scores", "names", "notifications"))
    }


def test_removed_workload_leaves_no_row_anywhere(store):
    """Removal deletes rows from every table, and only those of the workload."""
    with store.write() as connection:
        kept = add_workload(connection, "kept")
        add_shard(connection, kept, state=ShardState.MERGED)
        add_shard(connection, kept, state=ShardState.MERGED, request_state=RequestState.FAILED)
        before = _rows(connection)
        gone = add_workload(connection, "gone")
        for state in ShardState:
            shard = add_shard(connection, gone, state=state)
            bulk_for(connection).add_attempts([lost_attempt(shard, 0, "transient")])
            placements.add(connection, [placements.Placement(shard.id, 0, 0, 9)])
        add_shard(connection, gone, state=ShardState.MERGED, request_state=RequestState.FAILED)
        runners.put(connection, RunnerRow("owner", "watch", "host", gone.id, NOW))
        reviews.put(connection, gone.id, [reviews.Decision(1, "{}")], at=NOW, reviewer="me")
        # What other workloads have reused is not among these rows.
        assert {table for table, count in _rows(connection).items() if count == before[table]} == {"cleaned_answers"}
        workloads.remove(connection, gone.id)
        assert _rows(connection) == before
        assert [workload.name for workload in workloads.every(connection)] == ["kept"]


def test_ids_are_not_reused(store):
    """A new workload or shard never gets the id of a removed one, on which another process may still be working."""
    with store.write() as connection:
        gone = add_workload(connection, "gone")
        gone_shard = add_shard(connection, gone)
        workloads.remove(connection, gone.id)
        new = add_workload(connection, "new")
        assert new.id != gone.id
        assert add_shard(connection, new).id != gone_shard.id


@pytest.mark.parametrize(
    "columns",
    [
        {"max_attempts": 0},
        {"max_expiries": 0},
        {"shard_lines": 0},
        {"shard_bytes": 0},
        {"request_count": 5, "input_sha256": None},
        {"name": None},
    ],
    ids=str,
)
def test_impossible_workload_is_refused(store, columns):
    """The database itself refuses zero budgets and sizes, and a count without a digest."""
    with store.write() as connection:
        workload = add_workload(connection, split=False)
    with pytest.raises(IntegrityError), store.write() as connection:
        workloads.set_values(connection, workload.id, **columns)
    with store.read() as connection:
        assert workloads.get(connection, workload.id) == workload


def test_values_are_written_to_one_workload_only(store):
    """Setting a column leaves other columns and other workloads unchanged."""
    with store.write() as connection:
        first, second = add_workload(connection, "first"), add_workload(connection, "second")
        workloads.set_values(connection, first.id, cancel_requested_at=NOW)
        assert workloads.get(connection, first.id) == replace(first, cancel_requested_at=NOW)
        assert workloads.get(connection, second.id) == second
