"""What open shards wait for, and how long a workload was worked on, according to the store."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from batchkit.engine.progress import read_progress
from batchkit.files import jsonl
from batchkit.models import ShardState
from batchkit.store import batches as batch_rows
from batchkit.store import events, waits, work_time, workloads
from batchkit.store.tables import shards as shard_rows
from tests.factories import NOW, add_shard, add_workload

HOUR = 3_600.0


def batch_of(connection, shard, **values):
    """Change columns of a shard's batch."""
    batch_rows.set_values(connection, shard.batch_id, **values)


def test_open_shards_are_summed_by_state(store):
    """The sum has the counts, the earliest start, the latest window, and the provider's count of answered requests."""
    with store.write() as connection:
        workload = add_workload(connection)
        add_shard(connection, workload, state=ShardState.PLANNED, lines=7)
        add_shard(connection, workload, state=ShardState.UPLOADED, lines=5, refusals=3, not_before=NOW + 60)
        add_shard(connection, workload, state=ShardState.UPLOADED, lines=4, refusals=1, not_before=NOW + 30)
        creating = add_shard(connection, workload, state=ShardState.SUBMITTING, lines=2)
        for age, expires in ((HOUR, NOW + 10), (2 * HOUR, NOW + 20)):
            shard = add_shard(connection, workload, state=ShardState.SUBMITTED, lines=10)
            batch_of(connection, shard, created_at=NOW - age, expires_at=expires, completed=4, failed=1)
            connection.execute(update(shard_rows).where(shard_rows.c.id == shard.id).values(submitting_since=None))
        batch_of(connection, shard, missing_since=NOW)
        ended = add_shard(connection, workload, state=ShardState.ENDED, lines=10)
        batch_of(connection, ended, status="completed", completed=8, failed=2, seen_at=NOW - 9)
        expired = add_shard(connection, workload, state=ShardState.ENDED, lines=10)
        batch_of(connection, expired, status="expired", completed=3, failed=7, seen_at=NOW - 7)
        add_shard(connection, workload, state=ShardState.MERGED)
        add_shard(connection, add_workload(connection, "other"), state=ShardState.SUBMITTED)
        found = waits.open_shards(connection, workload.id)

    assert set(found) == {
        ShardState.PLANNED,
        ShardState.UPLOADED,
        ShardState.SUBMITTING,
        ShardState.SUBMITTED,
        ShardState.ENDED,
    }
    assert (found[ShardState.PLANNED].requests, found[ShardState.PLANNED].refused) == (7, 0)
    uploaded = found[ShardState.UPLOADED]
    assert (uploaded.refused, uploaded.refused_requests, uploaded.refused_until) == (2, 9, NOW + 30)
    assert found[ShardState.SUBMITTING].since == creating.submitting_since
    submitted = found[ShardState.SUBMITTED]
    assert (submitted.shards, submitted.requests, submitted.done, submitted.missing) == (2, 20, 10, 1)
    assert (submitted.since, submitted.expires_at) == (NOW - 2 * HOUR, NOW + 20)
    # In an expired batch, the failed requests may be the expired ones.
    assert (found[ShardState.ENDED].done, found[ShardState.ENDED].since) == (13, NOW - 9)


def test_the_most_repeated_refusal_is_reported_with_its_message(store):
    """For the shard that was refused most often: how often, since when, and the provider's last message."""
    with store.write() as connection:
        workload = add_workload(connection)
        assert waits.refusal(connection, workload.id) is None
        add_shard(connection, workload, state=ShardState.UPLOADED, refusals=1)
        shard = add_shard(connection, workload, state=ShardState.UPLOADED, refusals=2)
        assert waits.refusal(connection, workload.id) == waits.Refusal(None, None, 2)
        for at, words in ((NOW - 900, "before that"), (NOW - 60, "first words"), (NOW, "last words")):
            events.record(connection, workload.id, "submitting -> uploaded", at=at, shard_id=shard.id, detail=words)
        assert waits.refusal(connection, workload.id) == waits.Refusal("last words", NOW - 60, 2)


def drive(connection, workload, begin, end, *, step=600.0, stops=True):
    """Record a command's drive, with an event every ten minutes; a killed one has no stop event."""
    work_time.drive_began(connection, workload.id, at=begin, by="run on host")
    at = begin
    while at < end:
        events.record(connection, workload.id, "polled", at=at)
        at += step
    if stops:
        work_time.drive_stopped(connection, workload.id, at=end, why="interrupted")


def worked(connection, workload, until, *, is_driven=False):
    """Return the hours of work."""
    return work_time.work_seconds(connection, workload.id, until=until, is_driven=is_driven) / HOUR


def test_a_night_without_a_runner_is_no_work(store):
    """Two hours in the evening and one in the morning make three."""
    with store.write() as connection:
        workload = add_workload(connection, at=NOW)
        drive(connection, workload, NOW, NOW + 2 * HOUR)
        drive(connection, workload, NOW + 14 * HOUR, NOW + 15 * HOUR)
        assert worked(connection, workload, NOW + 15 * HOUR) == 3
        assert worked(connection, workload, NOW + 40 * HOUR) == 3


def test_a_workload_without_a_merge_ends_with_its_split_or_its_last_transition(store):
    """One that is answered by other requests, or cancelled before anything was sent, does not work for ever after."""
    with store.write() as connection:
        workload = add_workload(connection, at=NOW, split=False)
        assert work_time.ended_at(connection, workload.id) is None
        workloads.finish_split(connection, workload.id, sha256="0", request_count=2, at=NOW + 5, reused=2)
        assert work_time.ended_at(connection, workload.id) == NOW + 5
        drive(connection, workload, NOW + HOUR, NOW + 2 * HOUR)
        assert work_time.ended_at(connection, workload.id) == NOW + 5
        assert read_progress(connection, workloads.get(connection, workload.id), now=NOW + HOUR).worked_seconds == 5


def test_a_killed_command_worked_until_its_last_event(store):
    """Time after its last recorded event does not count."""
    with store.write() as connection:
        workload = add_workload(connection, at=NOW)
        drive(connection, workload, NOW, NOW + 2 * HOUR, stops=False)
        drive(connection, workload, NOW + 14 * HOUR, NOW + 15 * HOUR)
        assert worked(connection, workload, NOW + 15 * HOUR) == pytest.approx(3, abs=0.2)


def test_a_long_wait_of_a_command_is_work(store):
    """A command that waits for hours for capacity at the provider is working, also at this moment."""
    with store.write() as connection:
        workload = add_workload(connection, at=NOW)
        drive(connection, workload, NOW, NOW + 5 * HOUR, step=5 * HOUR)
        assert worked(connection, workload, NOW + 5 * HOUR) == 5
        work_time.drive_began(connection, workload.id, at=NOW + 5 * HOUR, by="watch on host")
        assert worked(connection, workload, NOW + 7 * HOUR, is_driven=True) == 7
        assert worked(connection, workload, NOW + 7 * HOUR, is_driven=False) == 5


def test_a_night_in_which_a_batch_ran_is_work_until_the_batch_ended(store):
    """The provider's times count; a batch that is still running has run until now."""
    with store.write() as connection:
        workload = add_workload(connection, at=NOW)
        shard = add_shard(connection, workload, state=ShardState.ENDED, at=NOW)
        drive(connection, workload, NOW, NOW + HOUR)
        raw = jsonl.dumps({"created_at": NOW, "completed_at": NOW + 4 * HOUR}).decode()
        batch_of(connection, shard, status="completed", created_at=NOW, raw=raw)
        drive(connection, workload, NOW + 14 * HOUR, NOW + 15 * HOUR)
        assert worked(connection, workload, NOW + 15 * HOUR) == 5

        batch_of(connection, shard, status="in_progress", raw="{}")
        assert worked(connection, workload, NOW + 15 * HOUR) == 15


def test_a_workload_that_is_reopened_days_later_did_not_take_days(store):
    """The time between the end of the workload and its resubmission is no work."""
    with store.write() as connection:
        workload = add_workload(connection, at=NOW)
        shard = add_shard(connection, workload, state=ShardState.MERGED, at=NOW)
        raw = jsonl.dumps({"created_at": NOW, "completed_at": NOW + HOUR}).decode()
        batch_of(connection, shard, status="completed", created_at=NOW, raw=raw)
        drive(connection, workload, NOW, NOW + HOUR)
        later = NOW + 72 * HOUR
        events.record(connection, workload.id, "reopened", at=later)
        drive(connection, workload, later, later + HOUR)
        assert worked(connection, workload, later + HOUR) == 2
        assert worked(connection, workload, NOW + HOUR) == 1


def test_a_workload_without_events_took_no_time(store):
    """A moment before the first event, the sum is zero."""
    with store.write() as connection:
        workload = add_workload(connection, at=NOW)
        assert worked(connection, workload, NOW - 5) == 0
        assert workloads.get(connection, workload.id).stopped_at is None
