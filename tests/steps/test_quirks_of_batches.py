"""Quirks in the life of a batch: validation, expiry, cancellation, and batches that vanish. See ``test_quirks`` for the table."""

from __future__ import annotations

import threading
import time

import pytest

from batchkit.emulator.faults import batches, calls, lines
from batchkit.engine.waves import DriveUntil
from batchkit.errors import AccountRefused
from batchkit.models import TERMINAL_STATUSES
from tests.observing import Watching
from tests.steps.seen import COUNT, run, taking_turns
from tests.workloads import chat_line, write_mixed

VISION = "meta-llama/llama-4-scout-17b-16e-instruct"
FIRST = frozenset({1})


def _wait_for(condition, *, seconds=10.0):
    """Wait for the emulator, which runs in parallel with the test."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "the moment never came"
        threading.Event().wait(0.005)


@taking_turns(
    "ends_as,listed",
    {
        "cancelled, the rest in the error file": ("cancelled", True),
        "cancelled, the rest in neither file": ("cancelled", False),
        "completed, the rest in neither file": ("completed", False),
        "completed, the rest in the error file": ("completed", True),
    },
)
def test_quirk_14_a_slow_cancellation_keeps_every_answer(open_harness, ends_as, listed):
    """Every answer is kept and the rest is cancelled, whatever the batch's final status and however late its files are named.

    Nothing is sent again.
    """
    # The cancellation hits the requests that are held until the end of the window, which is far away.
    faults = (lines.ExpireLines(count=1), batches.SlowCancel(ends_as=ends_as), batches.LateFiles(seconds=3_000))
    silent = () if listed else (batches.UnlistedLines(),)
    harness = open_harness(*faults, *silent, speed=20_000)
    workload = harness.split(write_mixed(harness.home.parent / "input.jsonl", COUNT), shard_lines=50, window="7d")

    def cancel_in_the_middle(wait):
        if wait.progress.remote_done == COUNT - 2:
            harness.runner.request_cancel("work")

    progress = harness.runner.process(workload.id, observer=Watching(on_wait=cancel_in_the_middle))

    totals = harness.emulator.ledger().totals
    counts = progress.counts
    assert progress.is_finished
    assert (counts.succeeded, counts.failed, counts.cancelled) == (COUNT - 2, 0, 2)
    assert counts.succeeded == totals.requests_succeeded
    assert (totals.batches, totals.bought_twice) == (2, 0)
    assert [line["status"] for line in harness.export()].count("succeeded") == counts.succeeded


@taking_turns("status", {"409": None, "200": 200, "400": 400})
def test_quirk_15_cancelling_a_batch_that_has_ended_keeps_its_answers(open_harness, status):
    """Whatever the provider replies to a cancellation that comes too late, the answers are kept unchanged."""
    harness = open_harness(*([] if status is None else [batches.CancelEnded(status=status)]))
    workload = harness.split(write_mixed(harness.home.parent / "input.jsonl", COUNT), shard_lines=50)
    harness.runner.process(workload.id, until=DriveUntil.SUBMITTED)
    _wait_for(lambda: {batch.status for batch in harness.emulator.ledger().batches} <= TERMINAL_STATUSES)
    harness.runner.request_cancel("work")

    progress = harness.runner.process(workload.id)

    assert progress.all_succeeded
    assert progress.counts.cancelled == 0
    assert harness.emulator.ledger().totals.requests_executed == COUNT


@taking_turns("shape", {"a bare list": None, "an object": "object"})
def test_quirk_16_errors_name_a_line_in_either_shape(open_harness, shape):
    """When validation names one line, that request fails with the provider's message, and the others are sent again."""
    fault = batches.FailBatches(batches=FIRST, code="invalid_thing", message="Line 1.", line=1)

    seen = run(open_harness(fault, *([] if shape is None else [batches.ErrorsShape(shape=shape)])))

    seen.check_failed(1, "invalid_thing")
    assert [line["error"]["message"] for line in seen.with_status("failed")] == ["Line 1."]
    assert seen.noted("was refused: invalid_thing: Line 1.")
    assert {(batch.status, len(batch.problems)) for batch in seen.progress.attention} == {("failed", 1)}


def test_quirk_16_a_batch_that_fails_without_a_reason_is_halved(open_harness):
    """A failed batch with null errors names no request, so its requests are sent again in halves, and all succeed."""
    fault = batches.FailBatches(batches=FIRST, code="mystery", message="No.")

    seen = run(open_harness(fault, batches.ErrorsShape(shape="null")))

    seen.check_all_succeeded()
    assert seen.noted("the provider refused the batch without a reason")
    assert len(seen.ledger.batches) > 3


def test_quirk_16_an_error_on_a_completed_batch_does_not_undo_an_answer(open_harness):
    """Errors that name an answered line change nothing, and the user sees a note about the odd batch."""
    seen = run(open_harness(batches.ErrorsOnCompleted()))

    seen.check_all_succeeded()
    assert {(batch.status, batch.problems[0].code) for batch in seen.progress.attention} == {
        ("completed", "invalid_method")
    }


@pytest.mark.parametrize("skips", [True, False], ids=["skipped", "the batch is refused"])
def test_quirk_17_33_bad_lines_fail_alone(open_harness, skips):
    """A model disappears between upload and run: its requests fail with the provider's message (exit code 3).

    The others succeed: in the same batch when bad lines are skipped, in a new one when they fail the whole batch.
    """
    skip = [batches.SkipBadLines()] if skips else []

    seen = run(open_harness(batches.RefuseModels(models=frozenset({VISION})), *skip))

    seen.check_failed(2, "model_not_found")
    assert {line["custom_id"].partition("-")[0] for line in seen.with_status("failed")} == {"picture"}
    assert all(VISION in line["error"]["message"] for line in seen.with_status("failed"))
    assert len(seen.ledger.batches) == (2 if skips else 3)
    assert seen.ledger.totals.requests_executed == COUNT - 2


def test_quirk_18_an_input_lost_after_create_is_uploaded_again(open_harness):
    """A batch that fails because its file cannot be found never ran: its requests are uploaded and sent again."""
    seen = run(open_harness(batches.LostInput(batches=FIRST)))

    seen.check_all_succeeded()
    assert seen.noted("was refused: invalid_request: Cannot find file")
    assert {line["attempts"] for line in seen.lines} == {1}
    assert len(seen.ledger.uploads) == len(seen.ledger.batches) > 2


@taking_turns("status", {"404": 404, "400": 400})
def test_quirk_18_a_create_that_is_refused_for_its_file_is_retried(open_harness, status):
    """When the file is deleted between upload and create, the create is refused, and the file is uploaded again."""
    harness = open_harness(calls.UnknownFileRefused(status=status))
    harness.runner = harness.open_runner(settle_seconds=0.24)
    upload = harness.runner.provider.upload_file
    spoilt: list[str] = []

    def upload_and_lose(path, filename):
        file = upload(path, filename)
        if not spoilt:
            spoilt.append(file.id)
            harness.runner.provider.delete_file(file.id)
        return file

    harness.runner.provider.upload_file = upload_and_lose

    seen = run(harness)

    seen.check_all_succeeded()
    assert len(seen.ledger.batches) == 2
    assert [upload.id for upload in seen.ledger.uploads if upload.deleted] == spoilt


@taking_turns("status", {"404": 404, "an error object with 200": 200})
def test_quirk_20_a_batch_that_is_gone_is_searched_for_then_paid_for_again(open_harness, status):
    """A batch that stays unknown is given up after a while, whatever error the provider returns; notes report both.

    Its answers were produced and are lost, so each of them is bought once more.
    """
    harness = open_harness(batches.GoneBatches(batches=FIRST, status=status))
    harness.runner = harness.open_runner(stuck_seconds=0.15)

    seen = run(harness)

    lost = seen.ledger.batches[0].total
    seen.check_all_succeeded(bought_twice=lost)
    assert seen.noted("is not known to the provider; it will be looked for again")
    assert seen.noted("is gone at the provider; its requests are sent again")
    assert {batch.status for batch in seen.progress.attention} == {"gone"}


@taking_turns("counts", {"counted": None, "not counted": "null"})
def test_quirk_22_files_that_are_named_late_are_waited_for(open_harness, counts):
    """A batch that ended without naming a file is polled again: paid requests are not sent again, and a note says so."""
    lies = [] if counts is None else [batches.LyingCounts(say=counts)]

    seen = run(open_harness(batches.LateFiles(seconds=200_000), *lies))

    seen.check_all_succeeded()
    assert seen.noted("has answers but names no file for them (yet)")
    assert (seen.ledger.totals.batches, seen.ledger.totals.requests_executed) == (2, COUNT)


@taking_turns("status", {status: status for status in ("validating", "in_progress", "finalizing")})
def test_quirk_23_a_stuck_batch_is_cancelled_then_given_up(open_harness, status):
    """A batch that is unfinished long after its expiry is cancelled and its requests are sent again; notes say so.

    Only requests that a batch stuck in finalizing executed and never returned are bought twice.
    """
    harness = open_harness(batches.StuckBatches(batches=FIRST, status=status), batches.SkewedClock(seconds=-1e9))
    harness.runner = harness.open_runner(stuck_seconds=0.15, settle_seconds=0.12)

    seen = run(harness)

    seen.check_all_succeeded(bought_twice=seen.ledger.batches[0].total if status == "finalizing" else 0)
    assert seen.noted("past its expiry; it was asked to cancel")
    assert seen.noted("does not cancel") is (status == "finalizing")
    assert seen.ledger.calls["batches.cancel"] >= 1


def test_quirk_36_a_full_queue_is_waited_for(open_harness):
    """A batch that fails for lack of capacity costs no attempt: its requests wait for our other batch and are resent unsplit."""
    seen = run(open_harness(batches.FailBatches(batches=FIRST), batches.SlowBatches(seconds_per_line=4_000)))

    seen.check_all_succeeded()
    assert seen.noted("was refused: token_limit_exceeded: Enqueued token limit reached")
    assert {line["attempts"] for line in seen.lines} == {1}
    assert len(seen.ledger.batches) == 3


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_quirk_36_a_queue_that_stays_full_ends_the_command(open_harness):
    """A single request that is turned away repeatedly does not fail: exit code 4 with the provider's message."""
    harness = open_harness(batches.FailBatches())
    harness.runner = harness.open_runner(capacity_wait_seconds=0.001)

    with pytest.raises(AccountRefused, match=r"no room for a single request .*Enqueued token limit") as caught:
        run(harness, [chat_line("one")])

    assert caught.value.exit_code == 4
    assert harness.runner.progress(harness.runner.find("work").id).counts.failed == 0
    assert harness.emulator.ledger().totals.requests_executed == 0


def test_quirk_37_a_wrong_clock_changes_nothing_for_a_running_batch(open_harness):
    """No batch is cancelled when the provider's times are two hours behind ours."""
    seen = run(open_harness(batches.SkewedClock(seconds=-7_200), lines.ExpireLines(count=2, attempts=1)))

    seen.check_all_succeeded()
    assert "batches.cancel" not in seen.ledger.calls
