"""A batch that seems to be gone or late is neither given up nor bought again while anything shows that it is alive."""

from __future__ import annotations

import pytest

from batchkit.errors import OutcomeUnknown
from batchkit.models import BatchStatus
from batchkit.store import batches

STUCK = 3_600.0


def test_two_short_absences_far_apart_do_not_add_up(timed):
    """The first absence ends when the batch is seen again, even when nothing about it has changed."""
    began = timed.clock()
    timed.provider.takes_seconds = 5 * STUCK
    timed.provider.absent = lambda now, _: now - began < 400 or 2 * STUCK < now - began < 2 * STUCK + 400
    runner = timed.open()
    timed.split(runner)

    assert timed.process(runner).all_succeeded
    timed.assert_bought_once()
    assert len(timed.provider.batches) == 1


def test_the_next_poll_clears_an_absence_that_is_over(timed):
    """The database then holds no trace of it."""
    began = timed.clock()
    timed.provider.takes_seconds = 10 * STUCK
    timed.provider.absent = lambda now, _: now - began < 400
    runner = timed.open()
    timed.split(runner)
    timed.process(runner, seconds=300)
    with runner.store.read() as connection:
        [(_, missing)] = batches.open_of_workload(connection, runner.find("work").id)
    timed.process(runner, seconds=900)
    with runner.store.read() as connection:
        [(_, seen)] = batches.open_of_workload(connection, runner.find("work").id)

    assert missing.missing_since is not None
    assert seen.missing_since is None


def test_a_machine_that_sleeps_between_two_absences_gives_up_nothing(timed):
    """Time without polls proves nothing, however much of it has passed."""
    sleep_seconds = 86_400.0
    began = timed.clock()
    timed.provider.takes_seconds = sleep_seconds + 3 * STUCK
    timed.provider.expires_after = 10 * 86_400.0
    woke_at = began + 300 + sleep_seconds
    timed.provider.absent = lambda now, _: now - began < 300 or woke_at <= now < woke_at + 300
    runner = timed.open()
    timed.split(runner)
    timed.process(runner, seconds=250)
    timed.clock.advance(woke_at - timed.clock())

    assert timed.process(runner).all_succeeded
    timed.assert_bought_once()
    assert len(timed.provider.batches) == 1


def test_a_batch_that_stays_unknown_is_given_up_after_the_time_for_it(timed):
    """Otherwise a workload with a lost batch would never finish."""
    runner = timed.open()
    timed.split(runner)
    timed.process(runner, seconds=20)
    [lost] = timed.provider.batches
    began = timed.clock()
    timed.provider.absent = lambda _, batch_id: batch_id == lost

    assert timed.process(runner).all_succeeded
    assert STUCK < timed.clock() - began < 2 * STUCK
    assert len(timed.provider.batches) == 2


def test_a_stale_list_does_not_make_a_batch_late(timed):
    """The list shows it as running forever; read individually it has ended, so it is merged, neither cancelled nor given up."""
    timed.provider.stale_list = True
    runner = timed.open()
    timed.split(runner)

    assert timed.process(runner).all_succeeded
    timed.assert_bought_once()
    assert timed.provider.calls["cancel"] == 0
    # Long before its expiry, although the list is the cheaper call.
    assert timed.clock() - timed.provider.created_at() < STUCK


def test_a_list_known_to_be_stale_is_not_waited_for_again(timed):
    """Once an individual read has shown more than the list, all other batches are soon read individually."""
    timed.provider.stale_list = True
    runner = timed.open()
    timed.split(runner, 20, shard_lines=1)

    assert timed.process(runner).all_succeeded
    timed.assert_bought_once()
    assert timed.clock() - timed.provider.created_at() < 2 * STUCK


def test_a_correct_list_is_the_only_call(timed):
    """Individual reads stay the exception: a few a day, not one per poll."""
    timed.provider.takes_seconds = 20_000.0
    runner = timed.open()
    timed.split(runner, 12, shard_lines=1)

    assert timed.process(runner).all_succeeded
    assert timed.provider.calls["get"] <= 4 * timed.provider.calls["list"]
    assert timed.provider.calls["list"] < 100


@pytest.mark.parametrize("ahead_seconds", [90_000.0, -30 * 86_400.0])
def test_a_clock_that_is_wrong_by_days_expires_no_batch(timed, ahead_seconds):
    """Expiry is judged by the provider's Date header: a batch that needs two hours gets them, and is bought once."""
    timed.provider.takes_seconds = 7_200.0
    timed.provider.ahead_seconds = -ahead_seconds
    runner = timed.open()
    timed.split(runner)

    assert timed.process(runner).all_succeeded
    timed.assert_bought_once()
    assert timed.provider.calls["cancel"] == 0


def test_a_batch_that_does_not_end_is_asked_to_cancel_and_then_given_up(timed):
    """This happens after its expiry, by the provider's Date header, and two waits; unanswered requests are bought once more."""
    timed.provider.takes_seconds = float("inf")
    runner = timed.open()
    timed.split(runner)
    timed.process(runner, seconds=100)
    timed.clock.advance(82_000)
    timed.process(runner, seconds=4_400 + 2.5 * STUCK)
    assert timed.provider.calls["cancel"] == 1
    timed.provider.takes_seconds = 60.0

    assert timed.process(runner).all_succeeded


def test_a_cancel_reply_that_reports_the_end_of_the_batch_ends_it(timed):
    """The batch completes just when it is cancelled, and the list never shows it."""
    timed.provider.takes_seconds = float("inf")
    runner = timed.open()
    timed.split(runner)
    timed.process(runner, seconds=100)
    timed.clock.advance(82_000)
    timed.process(runner, seconds=4_400 + 1.5 * STUCK)
    timed.provider.stale_list = True

    def end_when_cancelled(call):
        if call == "cancel":
            timed.provider.takes_seconds = 60.0

    timed.provider.on_call = end_when_cancelled

    assert timed.process(runner).all_succeeded
    timed.assert_bought_once()
    assert len(timed.provider.batches) == 1


def test_a_cancel_by_the_user_takes_the_answers_of_a_batch_that_has_just_ended(timed):
    """The reply to the cancel says completed, the list does not: the answers are merged all the same."""
    runner = timed.open()
    timed.split(runner)
    timed.process(runner, seconds=30)
    timed.provider.stale_list = True
    timed.clock.advance(600)
    runner.request_cancel("work")

    progress = timed.process(runner, seconds=120)

    assert progress.all_succeeded


def test_a_batch_that_shows_progress_after_its_expiry_is_left_to_end(timed):
    """Some servers finish what they began: while counts change, the batch is not cancelled."""
    timed.provider.expires_after = 600.0
    timed.provider.takes_seconds = 600 + 6 * STUCK
    runner = timed.open()
    timed.split(runner, 20)
    timed.provider.counts_by_time = True

    assert timed.process(runner).all_succeeded
    timed.assert_bought_once()
    assert timed.provider.calls["cancel"] == 0


def test_a_batch_that_cannot_be_read_individually_is_not_cancelled_because_of_the_list(timed):
    """Nothing is decided before the individual read, and the other batches are polled meanwhile."""
    timed.provider.stale_list = True
    timed.provider.expires_after = 600.0
    runner = timed.open()
    timed.split(runner)
    broken_until = timed.clock() + 600 + 3 * STUCK

    def fail_reads(call):
        if call == "get" and timed.clock() < broken_until:
            raise OutcomeUnknown("no answer")

    timed.provider.on_call = fail_reads

    assert timed.process(runner).all_succeeded
    timed.assert_bought_once()
    assert timed.provider.calls["cancel"] == 0
    assert BatchStatus.COMPLETED in {batch.status for batch in timed.provider.batches.values()}
