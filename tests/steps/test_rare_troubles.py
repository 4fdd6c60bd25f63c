"""Faults at bad moments: a live runner, a lost commit, a server that contradicts itself. Nothing is bought twice."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from batchkit.engine.waves import DriveUntil
from batchkit.errors import (
    BatchIdTaken,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    ProviderRefused,
    RateLimited,
    RowsHeld,
    StoreUnavailable,
)
from batchkit.models import BatchProblem, BatchStatus, RequestCounts
from batchkit.store import batches
from tests.properties.scripted import Ending
from tests.steps.timed import refused, succeeded


def test_a_lease_longer_than_ours_still_belongs_to_a_live_runner(timed):
    """A creation takes almost three minutes, beside a runner whose own leases are far shorter."""
    holder = timed.open(transfers=1, lease_seconds=900)
    timed.split(holder, 4)
    other = timed.open(transfers=1)
    create = timed.provider.create_batch
    calls = []

    def slow_create(**call: Any):
        calls.append(call["input_file_id"])
        if len(calls) == 1:
            call.pop("before_sending")()
            for _ in range(17):
                timed.process(other, seconds=1)
                timed.clock.advance(10)
        return create(**call)

    timed.provider.create_batch = slow_create

    assert timed.process(holder).all_succeeded
    assert len(calls) == 1


@pytest.mark.parametrize(
    "error", [RowsHeld("held"), StoreUnavailable("away"), KeyError("x")], ids=["held", "away", "bug"]
)
def test_a_creation_that_could_not_be_recorded_gets_its_whole_grace_period(timed, monkeypatch, error):
    """The reply took 140 s, its commit fails, and the list shows the batch 110 s after the reply: it is adopted."""
    holder_of = batches.holder_of
    failed: list[str] = []

    def fail_once(connection, batch_id):
        if not failed:
            failed.append(batch_id)
            raise error
        return holder_of(connection, batch_id)

    monkeypatch.setattr(batches, "holder_of", fail_once)
    create, scan = timed.provider.create_batch, timed.provider.list_batches

    def slow_create(**call: Any):
        made = create(**call)
        timed.clock.advance(140)
        return made

    timed.provider.create_batch = slow_create
    timed.provider.list_batches = lambda **_filter: iter(
        [batch for batch in scan() if timed.clock() > timed.provider.created_at() + 250]
    )
    runner = timed.open(transfers=1)
    timed.split(runner, 4)

    assert timed.process(runner).all_succeeded
    assert timed.provider.calls["create"] == 1


def test_a_batch_that_cannot_be_cancelled_keeps_no_other_from_being_cancelled(timed):
    """The user immediately stops paying for the other three."""
    runner = timed.open()
    timed.split(runner, 4, shard_lines=1)
    timed.provider.takes_seconds = 1e8
    timed.process(runner, seconds=1)
    first = next(iter(timed.provider.batches))
    asked = []

    def cancel(batch_id):
        asked.append(batch_id)
        if batch_id == first:
            raise OutcomeUnknown("HTTP 500")
        timed.provider.end(batch_id, Ending(BatchStatus.CANCELLED, counts=RequestCounts(1, 0, 0)))
        return timed.provider.batches[batch_id]

    timed.provider.cancel_batch = cancel
    runner.request_cancel("work")
    with suppress(ProviderError):
        timed.process(runner, seconds=600)

    assert set(asked) == set(timed.provider.batches)


def test_files_that_were_lost_are_uploaded_again_by_the_next_command(timed):
    """The old upload stays lost; the new one is visible, and the same command finishes."""
    runner = timed.open(transfers=1)
    timed.split(runner, 4)
    create = timed.provider.create_batch
    lost: set[str] = set()

    def create_unless_lost(**call: Any):
        if call["input_file_id"] in lost or len(lost) < 8:
            lost.add(call["input_file_id"])
            raise NotFound("no such file", status=404)
        return create(**call)

    timed.provider.create_batch = create_unless_lost
    with pytest.raises(ProviderRefused, match="did not find the input file"):
        timed.process(runner)

    assert timed.process(runner).all_succeeded


def test_a_batch_that_cannot_be_read_keeps_no_other_from_being_polled(timed):
    """The list lacks it and its own read gets no reply: the other three end meanwhile."""
    runner = timed.open()
    timed.split(runner, 40, shard_lines=10)
    timed.process(runner, seconds=1)
    first = next(iter(timed.provider.batches))
    listed, read = timed.provider.get_batches, timed.provider.get_batch

    def read_unless_first(batch_id):
        if batch_id == first:
            raise OutcomeUnknown("HTTP 500")
        return read(batch_id)

    timed.provider.get_batches = lambda ids: {key: found for key, found in listed(ids).items() if key != first}
    timed.provider.get_batch = read_unless_first
    timed.process(runner, seconds=600)

    assert runner.progress(runner.find("work").id).counts.succeeded == 30


def test_individual_reads_under_a_stale_list_rotate(timed):
    """Ten of sixty batches end: all are found although only fifty are read individually at a time."""
    runner = timed.open()
    timed.split(runner, 60, shard_lines=1)
    timed.process(runner, seconds=1)
    timed.provider.stale_list = True
    timed.provider.takes_seconds = 72_000.0
    for batch_id in list(timed.provider.batches)[50:]:
        timed.provider._created_at[batch_id] -= 72_000
    runner._pending_work()._context.probes.list_is_stale = True
    timed.process(runner, seconds=3_600)

    assert runner.progress(runner.find("work").id).counts.succeeded == 10


def test_separate_processes_notice_a_stale_list(timed):
    """Scheduled passes every five minutes need no memory of an earlier process."""
    with timed.open() as runner:
        timed.split(runner, 4)
        runner.process(runner.find("work").id, until=DriveUntil.ONE_PASS)
    timed.provider.stale_list = True
    for _ in range(12):
        timed.clock.advance(300)
        with timed.open() as runner:
            if runner.process(runner.find("work").id, until=DriveUntil.ONE_PASS).is_finished:
                return
    pytest.fail("the list was believed for an hour")


@pytest.mark.parametrize("kind", ["a cancel that is not kept", "an expiry that moves"])
def test_a_batch_that_only_seems_to_move_is_given_up(timed, kind):
    """A status that alternates, or an expiry that differs at each read, is no sign of progress."""
    runner = timed.open(max_poll_interval_seconds=3_600)
    timed.split(runner, 4)
    timed.process(runner, seconds=1)
    timed.provider.takes_seconds = 1e9
    if kind == "a cancel that is not kept":
        timed.provider.cancel_batch = lambda batch_id: replace(timed.provider.batches[batch_id], status="cancelling")
    else:
        listed, read = timed.provider.get_batches, timed.provider.get_batch

        def moved(batch):
            return replace(batch, expires_at=batch.expires_at + int(timed.clock()) % 7)

        timed.provider.get_batches = lambda ids: {key: moved(batch) for key, batch in listed(ids).items()}
        timed.provider.get_batch = lambda batch_id: moved(read(batch_id))
    timed.process(runner, seconds=86_400 + 5 * 3_600)

    assert timed.provider.calls["create"] == 2


def test_a_batch_id_that_is_taken_does_not_keep_other_shards_from_finishing(timed):
    """The other shards' answers are merged before the command ends with exit code 4."""
    runner = timed.open(transfers=1)
    timed.split(runner, 1, name="one")
    timed.process(runner, name="one")
    [known] = timed.provider.batches
    timed.split(runner, 4, shard_lines=1)
    create, scan = timed.provider.create_batch, timed.provider.list_batches
    lost: list[str] = []

    def create_without_first_reply(**call: Any):
        made = create(**call)
        if not lost:
            lost.append(made.id)
            raise OutcomeUnknown("the reply was lost")
        return made

    def listed(**_filter):
        return iter([replace(batch, id=known) if batch.id in lost else batch for batch in scan() if batch.id != known])

    timed.provider.create_batch = create_without_first_reply
    timed.provider.list_batches = listed
    for _ in range(4):
        with pytest.raises(BatchIdTaken) as caught:
            timed.process(runner)
        timed.clock.advance(600)

    assert runner.progress(runner.find("work").id).counts.succeeded == 3
    assert "clean one" in (caught.value.hint or "")


@pytest.mark.parametrize("words", ["Internal server error", "The batch could not be processed, please resubmit it"])
def test_a_single_line_does_not_fail_by_one_unexplained_refusal(timed, words):
    """Other files were accepted by then, and still the line is sent again, and succeeds."""
    runner = timed.open(resubmit_linger_seconds=0)
    timed.split(runner, 5, shard_lines=1)
    timed.provider.takes_seconds = 3_600.0
    failed: list[str] = []

    def on_call(name):
        if name == "list" and not failed:
            failed.append(timed.provider.running()[0])
            timed.provider.end(failed[0], Ending(BatchStatus.FAILED, problems=(BatchProblem(words),)))

    timed.provider.on_call = on_call

    assert timed.process(runner).all_succeeded


def test_an_account_refusal_uses_up_no_retry_budget(timed):
    """After many account refusals, a single expiry is still no failure."""
    runner = timed.open(resubmit_linger_seconds=0)
    timed.split(runner, 2, max_expiries=2)
    timed.provider.answer = lambda line: refused(line, 402, "payment_required", "pay first")
    for _ in range(4):
        with pytest.raises(ProviderRefused):
            timed.process(runner)
        timed.clock.advance(60)
    timed.provider.answer = succeeded
    expired: list[str] = []

    def on_call(name):
        if name == "list" and not expired and timed.provider.running():
            expired.append(timed.provider.running()[0])
            timed.provider.end(expired[0], Ending(BatchStatus.EXPIRED, output=b"", counts=RequestCounts(2, 0, 0)))

    timed.provider.on_call = on_call

    assert timed.process(runner).all_succeeded
    assert expired


def test_capacity_waits_are_no_refusals_of_the_file(timed):
    """Three requests to wait, then one unexplained refusal: it counts as the first refusal, and the file is retried."""
    runner = timed.open(transfers=1)
    timed.split(runner, 2, shard_lines=1)

    def on_call(name):
        number = timed.provider.calls["create"]
        if name == "create" and number in {2, 3, 4}:
            raise RateLimited("slow", status=429, retry_after_seconds=1)
        if name == "create" and number == 5:
            raise ProviderRefused("hiccup", status=400)

    timed.provider.on_call = on_call

    assert timed.process(runner).all_succeeded
