"""What a process remembers between passes, and what resets it."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from batchkit.models import BatchId, ShardId
from batchkit.steps import merge, poll, submit
from batchkit.steps.memory import FailureMemory, ProbeMemory
from tests.factories import NOW, make_batch

BATCH = make_batch("batch-1")
PROBES = 8
"""The number of times in a row that a list shows a batch unchanged before the batch is read individually."""


def is_read_alone(memory, batch=BATCH):
    """Return whether the next status call reads the batch individually."""
    return memory.choose([batch], now=NOW) == {batch.id}


def see_unchanged(memory, times):
    """Show the batch unchanged in the list this many times in a row."""
    for _ in range(times):
        memory.saw(BATCH.id, changed=False)


def test_a_batch_that_the_list_shows_unchanged_for_long_is_read_individually():
    """The individual read comes at the eighth time in a row, not before."""
    memory = ProbeMemory()
    see_unchanged(memory, PROBES - 1)
    assert not is_read_alone(memory)
    see_unchanged(memory, 1)
    assert is_read_alone(memory)


def test_a_change_in_the_list_restarts_the_count():
    """Seven times unchanged, a change, seven times unchanged: the list is still trusted; after the eighth it is not."""
    memory = ProbeMemory()
    see_unchanged(memory, PROBES - 1)
    memory.saw(BATCH.id, changed=True)
    see_unchanged(memory, PROBES - 1)
    assert not is_read_alone(memory)
    see_unchanged(memory, 1)
    assert is_read_alone(memory)


def test_the_list_is_trusted_again_after_an_individual_read():
    """The full count starts again, and each batch has its own count."""
    memory = ProbeMemory()
    see_unchanged(memory, PROBES)
    memory.read_alone(BatchId("another"), list_was_wrong=False)
    assert is_read_alone(memory)
    memory.read_alone(BATCH.id, list_was_wrong=False)
    see_unchanged(memory, PROBES - 1)
    assert not is_read_alone(memory)
    see_unchanged(memory, 1)
    assert is_read_alone(memory)


def test_nothing_is_remembered_of_a_batch_that_has_ended():
    """Both the count and the fact that the batch was read are dropped."""
    memory = ProbeMemory()
    see_unchanged(memory, PROBES)
    memory.forget(BATCH.id)
    assert not is_read_alone(memory)

    long_unchanged = replace(BATCH, seen_at=NOW - 86_400)
    memory.read_alone(BATCH.id, list_was_wrong=False)
    assert not is_read_alone(memory, long_unchanged)
    memory.forget(BATCH.id)
    assert is_read_alone(memory, long_unchanged)


def test_the_pause_after_failures_doubles_up_to_an_hour_and_is_reset_by_a_success():
    """Each shard has its own pause."""
    memory = FailureMemory()
    pauses = [memory.pause_seconds(ShardId(1)) for _ in range(12)]
    assert pauses == [5.0, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600, 3_600]
    assert memory.pause_seconds(ShardId(2)) == 5
    memory.end(ShardId(1))
    assert memory.pause_seconds(ShardId(1)) == 5
    assert memory.pause_seconds(ShardId(2)) == 10


@pytest.mark.parametrize(("module", "name"), [(submit, "_create"), (merge, "_merge_once")], ids=["create", "merge"])
def test_each_failure_of_a_shard_is_followed_by_a_longer_pause(timed, monkeypatch, module, name):
    """Four failures in a row of one shard of two: the pauses are at least 5, 10 and 20 s."""
    failed_at: list[float] = []
    original = getattr(module, name)

    def fail_four_times(*arguments, **values):
        if timed.provider.calls["upload"] and len(failed_at) < 4:
            failed_at.append(timed.clock())
            raise RuntimeError("planted")
        return original(*arguments, **values)

    monkeypatch.setattr(module, name, fail_four_times)
    runner = timed.open()
    timed.split(runner, 4)

    assert timed.process(runner).all_succeeded
    pauses = [later - earlier for earlier, later in itertools.pairwise(failed_at)]
    assert all(least <= pause < least + 3 for least, pause in zip((5, 10, 20), pauses, strict=True))


def test_a_shard_that_was_sent_has_its_failures_forgotten(timed, monkeypatch):
    """Three failed creations do not lengthen the pause after the first failed merge."""
    create, merge_once = submit._create, merge._merge_once
    failed_at: list[float] = []
    merged_at: list[float] = []

    def fail_to_create(*arguments):
        if len(failed_at) < 3:
            failed_at.append(timed.clock())
            raise RuntimeError("planted")
        return create(*arguments)

    def fail_to_merge(*arguments, **values):
        merged_at.append(timed.clock())
        if len(merged_at) == 1:
            raise RuntimeError("planted")
        return merge_once(*arguments, **values)

    monkeypatch.setattr(submit, "_create", fail_to_create)
    monkeypatch.setattr(merge, "_merge_once", fail_to_merge)
    runner = timed.open()
    timed.split(runner, 4)

    assert timed.process(runner).all_succeeded
    assert len(failed_at) == 3
    assert 5 <= merged_at[1] - merged_at[0] < 8


def test_a_poll_that_finds_nothing_new_writes_nothing(timed, monkeypatch):
    """No row is written for running batches that are neither late nor changed."""
    runner = timed.open()
    timed.provider.takes_seconds = 50_000
    timed.split(runner, 4, shard_lines=1)
    timed.process(runner, seconds=300)
    # Without a drive there is no writing thread.
    beside = timed.open()
    writes: list[object] = []
    write = beside.store.write

    def note_and_write(*given):
        writes.append(given)
        return write(*given)

    monkeypatch.setattr(beside.store, "write", note_and_write)

    report = poll.poll(beside._context(), beside.find("work").id)

    assert report.counts["polled"] == 4
    assert not writes
