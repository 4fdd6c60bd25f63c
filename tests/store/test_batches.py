"""Batches: the provider's objects as last seen, with all their contents."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from batchkit.models import (
    GONE,
    TERMINAL_STATUSES,
    BatchId,
    BatchProblem,
    BatchStatus,
    FileId,
    RequestCounts,
    ShardState,
)
from batchkit.store import batches
from batchkit.store.tables import batches as batch_rows
from tests.factories import NOW, add_batch, add_shard, add_workload, file_id, make_batch


def submitted(connection, workload, **batch):
    """Insert a submitted shard whose batch was last seen with these values."""
    shard = add_shard(connection, workload, state=ShardState.SUBMITTED)
    if batch:
        assert shard.batch_id is not None
        batches.see(connection, make_batch(shard.batch_id, **batch), seen_at=NOW)
    return shard


def test_batch_is_read_back_as_seen(store):
    """Every field that decisions need comes back, with its shard's settings, the problems and the raw object."""
    raw = {"id": "batch-x", "größe": ["漢字", None, 1.5, {"deep": [True]}], "text": "it's\n\t\\ \u2028"}
    with store.write() as connection:
        workload = add_workload(connection)
        shard = submitted(
            connection,
            workload,
            status="a word of tomorrow",
            created_at=2**33,
            expires_at=None,
            counts=RequestCounts(total=5, completed=3, failed=1),
            output_file_id=FileId("out"),
            error_file_id=FileId("err"),
            problems=(BatchProblem("größe", "code", 3, "body"), BatchProblem("whole file")),
            raw=raw,
        )
        assert shard.batch_id is not None
        found = batches.get(connection, shard.batch_id)
    assert found == replace(
        make_batch(shard.batch_id),
        status="a word of tomorrow",
        endpoint=shard.endpoint,
        completion_window=shard.window,
        input_file_id=file_id(shard.id),
        created_at=2**33,
        expires_at=None,
        counts=RequestCounts(total=5, completed=3, failed=1),
        output_file_id=FileId("out"),
        error_file_id=FileId("err"),
        problems=(BatchProblem("größe", "code", 3, "body"), BatchProblem("whole file")),
        raw=raw,
    )
    assert not found.is_terminal


@pytest.mark.parametrize(
    "raw",
    [
        {"nul": "a\x00b"},
        {"lone": "\ud800"},
        {"huge": 2**80},
        {"infinite": float("inf")},
        {"escaped": "\\u0000"},
    ],
    ids=str,
)
def test_odd_batch_object_is_stored_anyway(store, raw):
    """NUL, lone surrogates and infinite numbers in the provider's object stop no poll."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = submitted(connection, workload, raw=raw, problems=(BatchProblem("a\x00b\ud800", "c"),))
        assert shard.batch_id is not None
    with store.read() as connection:
        found = batches.get(connection, shard.batch_id)
    assert list(found.raw) == list(raw)
    assert found.problems[0].code == "c"


def test_a_later_poll_replaces_the_earlier_one(store):
    """A later poll overwrites every field of this batch, including fields that disappeared, and of no other batch."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = submitted(connection, workload, output_file_id=FileId("out"), problems=(BatchProblem("x"),))
        other = submitted(connection, workload)
        assert shard.batch_id is not None
        assert other.batch_id is not None
        untouched = batches.get(connection, other.batch_id)
        seen = make_batch(shard.batch_id, status="completed", counts=RequestCounts(3, 3, 0))
        batches.see(connection, seen, seen_at=NOW + 7)
        found = batches.get(connection, shard.batch_id)
        assert (found.status, found.counts, found.output_file_id, found.problems) == (
            "completed",
            RequestCounts(3, 3, 0),
            None,
            (),
        )
        assert found.is_terminal
        assert batches.get(connection, other.batch_id) == untouched
        query = select(batch_rows.c.seen_at).where(batch_rows.c.id == shard.batch_id)
        assert connection.execute(query).scalar_one() == NOW + 7


@pytest.mark.parametrize("ended", [*sorted(TERMINAL_STATUSES), GONE])
def test_a_late_snapshot_of_a_running_batch_replaces_no_end(store, ended):
    """A running state that a slow runner read before the end is dropped: the merge needs the file ids of the end."""
    with store.write() as connection:
        shard = submitted(connection, add_workload(connection), status=ended, output_file_id=FileId("out"))
        assert shard.batch_id is not None
        late = make_batch(shard.batch_id, status=BatchStatus.IN_PROGRESS, output_file_id=None)

        batches.see(connection, late, seen_at=NOW + 1)

        found = batches.get(connection, shard.batch_id)
    assert (found.status, found.output_file_id) == (ended, FileId("out"))


def test_a_missing_batch_has_been_missing_since_the_first_probe(store):
    """Consecutive probes add up; seeing the batch ends the absence, and the next absence starts from zero."""
    with store.write() as connection:
        shard = submitted(connection, add_workload(connection))
        assert shard.batch_id is not None
        mark = partial(batches.mark_missing, connection, shard.batch_id, longest_gap=60)
        assert mark(at=NOW + 1) == NOW + 1
        assert mark(at=NOW + 9) == NOW + 1
        assert batches.get(connection, shard.batch_id).missing_since == NOW + 1
        batches.see(connection, make_batch(shard.batch_id), seen_at=NOW + 10)
        assert batches.get(connection, shard.batch_id).missing_since is None
        assert mark(at=NOW + 20) == NOW + 20


def test_time_without_a_probe_hardly_counts_as_absence(store):
    """A machine that slept for a day between two probes saw only two moments; a clock set back subtracts nothing."""
    with store.write() as connection:
        shard = submitted(connection, add_workload(connection))
        assert shard.batch_id is not None
        mark = partial(batches.mark_missing, connection, shard.batch_id, longest_gap=60)
        mark(at=NOW)
        mark(at=NOW + 50)
        assert mark(at=NOW + 86_450) == NOW + 86_450 - 110
        assert mark(at=NOW + 100) == NOW + 100 - 110
        assert mark(at=NOW + 130) == NOW + 130 - 140


def test_batches_of_a_workload_come_in_the_order_of_their_shards(store):
    """All batches of the workload come with their shards, and none of another workload."""
    with store.write() as connection:
        workload, other = add_workload(connection, "first"), add_workload(connection, "second")
        add_shard(connection, workload)
        made = [
            add_shard(connection, owner, state=state)
            for owner, state in (
                (workload, ShardState.MERGED),
                (other, ShardState.SUBMITTED),
                (workload, ShardState.SUBMITTED),
            )
        ]
        found = [(shard_id, batch.id) for shard_id, batch in batches.of_workload(connection, workload.id)]
    assert found == [(made[0].id, made[0].batch_id), (made[2].id, made[2].batch_id)]


def test_several_batches_are_updated_at_once(store):
    """Each batch gets its own values, running or ended; one that had ended before stays unchanged."""
    with store.write() as connection:
        workload = add_workload(connection)
        before = (BatchStatus.IN_PROGRESS, BatchStatus.IN_PROGRESS, BatchStatus.EXPIRED)
        made = [submitted(connection, workload, status=status) for status in before]
        told = (BatchStatus.FINALIZING, BatchStatus.COMPLETED, BatchStatus.FINALIZING)
        ids = [str(shard.batch_id) for shard in made]
        seen = [make_batch(name, status=status) for name, status in zip(ids, told, strict=True)]
        batches.see(connection, *seen, seen_at=NOW + 7)
        batches.see(connection, seen_at=NOW + 8)
        found = {batch.id: batch.status for _, batch in batches.of_workload(connection, workload.id)}
    assert found == dict(zip(ids, ("finalizing", "completed", "expired"), strict=True))


def test_open_batches_are_those_of_submitted_shards(store):
    """Whatever its status, a batch is open until its shard has moved on; shards come by number."""
    with store.write() as connection:
        workload = add_workload(connection)
        first = submitted(connection, workload, status="completed")
        add_shard(connection, workload, state=ShardState.ENDED)
        add_shard(connection, workload, state=ShardState.SUBMITTING)
        second = submitted(connection, workload)
        submitted(connection, add_workload(connection, "other"))
        found = batches.open_of_workload(connection, workload.id)
    assert [shard for shard, _ in found] == [first, second]
    assert [batch.id for _, batch in found] == [first.batch_id, second.batch_id]
    assert [batch.status for _, batch in found] == ["completed", "in_progress"]


def test_open_batches_are_counted_by_status(store):
    """Each status comes once, with its number of batches and the provider's count of completed requests."""
    with store.write() as connection:
        workload = add_workload(connection)
        assert batches.open_statuses(connection, workload.id) == []
        for completed in (2, 3):
            submitted(connection, workload, counts=RequestCounts(9, completed, 1))
        submitted(connection, workload, status="validating", counts=RequestCounts())
        add_shard(connection, workload, state=ShardState.MERGED)
        submitted(connection, add_workload(connection, "other"), status="finalizing")
        assert batches.open_statuses(connection, workload.id) == [("in_progress", 2, 7), ("validating", 1, 0)]


def test_troubled_batches_come_newest_first(store):
    """Failed, expired, cancelled or missing batches, and those with problems, are listed up to the limit."""
    with store.write() as connection:
        workload = add_workload(connection)
        trouble = [
            submitted(connection, workload, status=status)
            for status in (BatchStatus.FAILED, BatchStatus.EXPIRED, BatchStatus.CANCELLED)
        ]
        for status in (BatchStatus.COMPLETED, BatchStatus.IN_PROGRESS, BatchStatus.CANCELLING):
            submitted(connection, workload, status=status)
        trouble.append(submitted(connection, workload, problems=(BatchProblem("a line"),)))
        missing = submitted(connection, workload)
        assert missing.batch_id is not None
        batches.mark_missing(connection, missing.batch_id, at=NOW, longest_gap=60)
        trouble.append(missing)
        submitted(connection, add_workload(connection, "other"), status=BatchStatus.FAILED)
        found = [batch.id for batch in batches.troubled(connection, workload.id, limit=9)]
        assert found == [shard.batch_id for shard in reversed(trouble)]
        assert [batch.id for batch in batches.troubled(connection, workload.id, limit=2)] == found[:2]


def test_columns_of_one_batch_are_set(store):
    """The digests of merged files are stored on their batch only."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard, other = submitted(connection, workload), submitted(connection, workload)
        assert shard.batch_id is not None
        batches.set_values(connection, shard.batch_id, output_sha256="ab", error_sha256=None)
        query = select(batch_rows.c.id, batch_rows.c.output_sha256)
        assert {tuple(row) for row in connection.execute(query)} == {(shard.batch_id, "ab"), (other.batch_id, None)}


def test_shard_has_at_most_one_batch(store):
    """A second batch for a shard, and a second shard for a batch, are refused."""
    with store.write() as connection:
        shard = submitted(connection, add_workload(connection))
    with pytest.raises(IntegrityError), store.write() as connection:
        add_batch(connection, replace(shard, batch_id=BatchId("batch-second")))
    with pytest.raises(IntegrityError), store.write() as connection:
        add_batch(connection, shard)
