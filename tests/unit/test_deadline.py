"""Decisions about a deadline, as tables: the cutoff, the window, the lane, which batches stop, and what is refused beforehand."""

from __future__ import annotations

import pytest

from batchkit.engine import deadline
from batchkit.engine.deadline import Outlook, Terms
from batchkit.engine.promising import allowed_rate
from batchkit.models import BatchId, Lane
from batchkit.preflight import ModelShare
from batchkit.provider.groq.dialect import GROQ
from batchkit.sending.limits import KnownLimits

NOW = 1_750_000_000.0
MINUTE, HOUR = 60.0, 3_600.0
WINDOWS = GROQ.windows


def terms(hours: float, *, per_minute: float | None = None, began_hours_ago: float = 0.0) -> Terms:
    """Return a deadline so many hours from now, with a cancel of ten minutes."""
    return Terms(
        at=NOW + hours * HOUR,
        began_at=NOW - began_hours_ago * HOUR,
        rate=None if per_minute is None else per_minute / 60,
        cancel_seconds=600.0,
        poll_seconds=15.0,
    )


@pytest.mark.parametrize(
    ("hours", "per_minute", "missing", "minutes_before"),
    [
        # One and a half times what the lane takes, the cancel and the poll.
        (6, 100, 6_000, 90 + 10.25),
        (6, 100, 0, 10.25),
        (6, 200, 6_000, 45 + 10.25),
        # It can just carry them: from this moment on, however late.
        (1, 100, 6_000, 90 + 10.25),
        # It cannot carry them, or nobody knows: a quarter of the time.
        (6, 100, 36_001, 90 + 10.25),
        (10, 10, 400_000, 150 + 10.25),
        (8, None, 6_000, 120 + 10.25),
    ],
)
def test_the_cutoff_leaves_time_for_what_is_missing(hours, per_minute, missing, minutes_before):
    """The less is missing and the faster the lane is, the longer requests may wait in their batches."""
    found = terms(hours, per_minute=per_minute)
    assert found.cutoff(missing, NOW) == pytest.approx(found.at - minutes_before * MINUTE)


def test_the_cutoff_moves_with_the_answers():
    """It is later at each poll that finds fewer requests missing."""
    found = terms(6, per_minute=100)
    moments = [found.cutoff(missing, NOW) for missing in (20_000, 10_000, 1_000, 0)]
    assert moments == sorted(moments)
    assert moments[-1] == found.at - found.switch_seconds


@pytest.mark.parametrize(
    ("hours", "per_minute", "missing", "window"),
    [
        (6, 1_000, 1_000, "24h"),
        (24.1, 1_000, 1_000, "24h"),
        (48.1, 1_000, 1_000, "24h"),
        (49, 1_000, 1_000, "48h"),
        (96, 1_000, 1_000, "48h"),
        (97, 1_000, 1_000, "96h"),
        (24 * 8, 1_000, 1_000, "7d"),
        (24 * 80, 1_000, 1_000, "7d"),
        # An unknown lane keeps a quarter of the time.
        (49, None, 1_000, "24h"),
        (66, None, 1_000, "48h"),
    ],
)
def test_the_longest_window_that_ends_before_the_cutoff_is_chosen(hours, per_minute, missing, window):
    """Else the shortest one there is, which is then cut off."""
    assert terms(hours, per_minute=per_minute).window(WINDOWS, missing, NOW) == window


@pytest.mark.parametrize(
    ("minutes", "per_minute", "missing", "lane"),
    [
        (21, 1_000, 10, Lane.BATCH),
        (20, 1_000, 10, Lane.SYNC),
        (60, 100, 6_000, Lane.SYNC),
        (60, 100, 1_000, Lane.BATCH),
        (20, None, 10, Lane.SYNC),
        (30, None, 10, Lane.BATCH),
    ],
)
def test_a_batch_needs_as_much_time_as_stopping_it_takes(minutes, per_minute, missing, lane):
    """With less time all requests are sent one by one at once."""
    assert terms(minutes / 60, per_minute=per_minute).lane(missing, NOW) is lane


@pytest.mark.parametrize(
    ("per_minute", "running", "waiting", "stopped"),
    [
        # 1.5 x 615 s at 1 a second: about 922 requests keep the lane busy until the next ones have stopped.
        (60, {"a": 500, "b": 2_000, "c": 100}, 0, ["b"]),
        (60, {"a": 500, "b": 800, "c": 100}, 0, ["b", "a"]),
        (60, {"a": 500, "b": 300, "c": 100}, 0, ["a", "b", "c"]),
        (60, {"a": 500, "b": 300, "c": 100}, 900, ["a"]),
        (60, {"a": 500, "b": 300, "c": 100}, 923, []),
        (None, {"a": 500, "b": 2_000, "c": 0}, 5_000, ["b", "a", "c"]),
        (60, {}, 0, []),
    ],
)
def test_the_smallest_remainder_is_stopped_last(per_minute, running, waiting, stopped):
    """The batches that lack most stop first, and only as many as keep the sync lane busy."""
    by_id = {BatchId(name): missing for name, missing in running.items()}
    assert terms(1, per_minute=per_minute).to_stop(by_id, waiting) == stopped


@pytest.mark.parametrize(
    ("hours", "per_minute", "missing", "ended_hours", "outlook"),
    [
        (1, 100, 5_999, None, Outlook.ON_TIME),
        (1, 100, 6_001, None, Outlook.AT_RISK),
        (1, None, 1, None, Outlook.UNKNOWN),
        (0, 100, 1, None, Outlook.MISSED),
        (1, 100, 0, 1.0, Outlook.MET),
        (1, None, 0, 1.001, Outlook.MISSED),
    ],
)
def test_the_outlook_says_whether_it_will_be_met(hours, per_minute, missing, ended_hours, outlook):
    """By what is missing and the rate of the lane; afterwards by the last answer."""
    ended_at = None if ended_hours is None else NOW + ended_hours * HOUR
    found = deadline.outlook(terms(hours, per_minute=per_minute), missing=missing, now=NOW, ended_at=ended_at)
    assert found is outlook


@pytest.mark.parametrize(
    ("hours", "per_minute", "requests", "default", "earliest_hours"),
    [
        # No window ends in time: the sync lane alone must be able to do it.
        (1, 100, 6_000, Lane.BATCH, None),
        (1, 100, 6_001, Lane.BATCH, 60.01 / 60),
        # A window ends in time: what it leaves may be little.
        (25, 100, 400_000, Lane.BATCH, None),
        (25, 100, 400_000, Lane.SYNC, 400_000 / 6_000),
        # Nothing is known: nothing is refused.
        (1, None, 400_000, Lane.BATCH, None),
        (1, None, 400_000, Lane.SYNC, None),
    ],
)
def test_a_deadline_that_the_limits_cannot_keep_is_refused_with_the_earliest_time(
    hours, per_minute, requests, default, earliest_hours
):
    """The plan has the reason, and when it could be met."""
    plan = deadline.plan(terms(hours, per_minute=per_minute), WINDOWS, requests=requests, now=NOW, default=default)
    assert (plan.problem is None) == (earliest_hours is None)
    if earliest_hours is not None:
        assert plan.earliest == pytest.approx(NOW + earliest_hours * HOUR)


@pytest.mark.parametrize("per_minute", [None, 100])
def test_a_deadline_that_has_passed_is_refused(per_minute):
    """Whatever is known of the limits."""
    plan = deadline.plan(terms(-0.1, per_minute=per_minute), WINDOWS, requests=1, now=NOW)
    assert plan.problem == "it has passed"


def test_the_plan_says_what_can_be_answered_by_single_calls_and_until_when():
    """At 100 a minute, 6,000 of 7,000 in an hour; a thousand can all be, if they start 10 minutes before the end."""
    windows_end = deadline.plan(terms(25, per_minute=100), WINDOWS, requests=400_000, now=NOW)
    assert (windows_end.drainable, windows_end.is_in_time) == (150_000, False)
    small = deadline.plan(terms(1, per_minute=100), WINDOWS, requests=1_000, now=NOW)
    assert (small.drainable, small.start_by) == (1_000, NOW + 50 * MINUTE)
    unknown = deadline.plan(terms(1), WINDOWS, requests=1_000, now=NOW)
    assert (unknown.drainable, unknown.start_by) == (None, None)


@pytest.mark.parametrize(
    ("limits", "per_minute"),
    [
        ({"requests_per_minute": 30}, 30),
        # 100 tokens in and 200 out each.
        ({"tokens_per_minute": 6_000}, 20),
        ({"requests_per_minute": 30, "tokens_per_minute": 6_000}, 20),
        ({}, None),
    ],
)
def test_the_rate_is_what_the_limits_let_through(limits, per_minute):
    """The tighter of requests and reserved tokens decides."""
    share = ModelShare(requests=1_000, prompt_tokens=100_000, completion_tokens=200_000)
    rate = allowed_rate({"a-model": share}, KnownLimits(**limits))
    assert rate == (None if per_minute is None else pytest.approx(per_minute / 60))


def test_models_are_asked_at_the_same_time():
    """Two models with the same share take as long as one of them."""
    share = ModelShare(requests=500, prompt_tokens=500)
    assert allowed_rate({"a": share, "b": share}, KnownLimits(requests_per_minute=60)) == pytest.approx(2.0)


def test_requests_without_a_limit_reserve_the_default():
    """A provider reserves tokens for the answer whether or not the request limits it."""
    share = ModelShare(requests=10, prompt_tokens=0, unlimited=10)
    assert allowed_rate({"a": share}, KnownLimits(tokens_per_minute=1_024)) == pytest.approx(1 / 60)
