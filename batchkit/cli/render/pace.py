"""The estimate of the remaining time: the measured rate while answers come, the ends of windows and waits, or why it is unknown.

A rate is shown as the present one, and only while it is reliable: at least four steps forward were seen, over half a minute;
the rest is at most four times as long as the observation; and the silence since the last step is hardly longer than the longest
earlier one. After twice that silence, and when requests return without an answer, the measurement starts again. While a rate is
shown, the remaining time is at most twice the estimate plus two of the longest silences, unless answers stop coming: then the
rate disappears within that time. Statements about windows and waits repeat those of the provider and the store.

Requests that are sent one by one are answered steadily, as fast as the limits of the account allow: there the rate of the last minute
counts, as soon as a minute was seen. An account's first minute is faster, because its limits were unused.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import TYPE_CHECKING

from batchkit import formatting
from batchkit.engine.situation import WaitKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.engine.situation import Waiting

#: The beginning of the text while there is a reliable rate.
ESTIMATE = "about "
_WINDOW_SECONDS = 15 * 60.0
_MIN_SPAN_SECONDS = 30.0
_MIN_RISES = 4
_MOST_SILENCES = 2.0
#: Polls with new answers come at even intervals, apart from their own duration: a longer silence is the end of the answers.
_RATE_SILENCES = 1.25
#: An observation does not predict a rest that is longer than this many times the observation.
_MOST_EXTRAPOLATION = 4.0
#: The limits of accounts are those of a minute.
_STEADY_SECONDS = 60.0


class Pace:
    """The recent rate of answered requests: over a quarter of an hour, or over the last four steps if those took longer."""

    def __init__(self, window_seconds: float = _WINDOW_SECONDS) -> None:
        self._window_seconds = window_seconds
        self._steps: deque[tuple[float, int]] = deque()
        self._began_at = 0.0
        self._is_current = False
        self._answered_at: float | None = None

    def see(self, at: float, answered: int) -> None:
        """Record that ``answered`` requests had an answer at ``at`` (Unix seconds).

        A smaller number means that requests returned without an answer: the measurement starts again. So it does at the first
        change, because the age of the figure before it is unknown.
        """
        steps = self._steps
        if steps and answered == steps[-1][1]:
            return
        is_long_silence = len(steps) > _MIN_RISES and at - steps[-1][0] > _MOST_SILENCES * self._longest_silence()
        if steps and answered > steps[-1][1]:
            self._answered_at = at
        is_first_change = bool(steps) and not self._is_current
        self._is_current |= is_first_change
        if not steps or answered < steps[-1][1] or at < steps[-1][0] or is_long_silence or is_first_change:
            steps.clear()
            self._began_at = at
        steps.append((at, answered))
        while len(steps) > _MIN_RISES + 1 and steps[1][0] <= at - self._window_seconds:
            steps.popleft()

    def silence_seconds(self, now: float) -> float | None:
        """Return how long ago the last answers came; None when none were seen to come."""
        return None if self._answered_at is None else now - self._answered_at

    def has_stopped(self, now: float) -> bool:
        """Return whether answers came earlier, and the present silence is longer than any before."""
        return len(self._steps) > _MIN_RISES and now - self._steps[-1][0] > _RATE_SILENCES * self._longest_silence()

    def rest_seconds(self, now: float, left: int) -> float | None:
        """Return how long ``left`` requests take at the present rate; None without a reliable rate."""
        rises = len(self._steps) - 1
        if rises < _MIN_RISES or left <= 0:
            return None
        (began, answered_then), (last, answered) = self._steps[0], self._steps[-1]
        span, silence, longest = last - began, now - last, self._longest_silence()
        if span < _MIN_SPAN_SECONDS or not 0 <= silence <= _RATE_SILENCES * longest:
            return None
        rest = max(left * span / (answered - answered_then) - silence, longest)
        return rest if rest <= _MOST_EXTRAPOLATION * (last - self._began_at) else None

    def steady_seconds(self, now: float, left: int) -> float | None:
        """Return how long ``left`` requests take at the rate of the last minute; None before a minute of answers was seen."""
        begin = now - _STEADY_SECONDS
        before = [answered for at, answered in self._steps if at <= begin]
        if not before or left <= 0 or self._steps[-1][1] == before[-1]:
            return None
        return left * _STEADY_SECONDS / (self._steps[-1][1] - before[-1])

    def _longest_silence(self) -> float:
        return max(later - earlier for (earlier, _), (later, _) in pairwise(self._steps))


def time_left(
    waits: Sequence[Waiting],
    pace: Pace,
    now: float,
    *,
    left: int,
    next_check: float | None = None,
) -> str:
    """Return how long a workload will still take, as far as that is known, and otherwise why it is unknown.

    ``left`` counts the requests without an answer. The end cannot be detected before ``next_check`` (Unix seconds). When the batches
    end at the latest is told beside it, with the waits.
    """
    by_kind = {wait.kind: wait for wait in waits}
    for kind, reason in (
        (WaitKind.OUTAGE, "unknown while this lasts"),
        (WaitKind.SPLITTING, "unknown until the input is split"),
        (WaitKind.INTERRUPTED, "unknown until the input is split"),
    ):
        if kind in by_kind:
            return reason
    return _rate_or_reason(waits, pace, now, left=left, next_check=next_check)


def _rate_or_reason(waits: Sequence[Waiting], pace: Pace, now: float, *, left: int, next_check: float | None) -> str:
    not_before = max((wait.until for wait in waits if wait.is_not_before and wait.until is not None), default=0.0)
    if not_before > now:
        return f"not before {formatting.when(not_before, now)}"
    if left <= 0:
        return "unknown (every request is answered, the rest is the download)"
    is_steady = any(wait.kind is WaitKind.SENDING for wait in waits)
    rest = pace.steady_seconds(now, left) if is_steady else pace.rest_seconds(now, left)
    if rest is None:
        return f"unknown ({_why_unknown(pace, now)})"
    window_ends = max((wait.until for wait in waits if wait.kind is WaitKind.BATCHES and wait.until), default=None)
    if window_ends is not None and now + rest > window_ends > now:
        # The rest is then sent again, in batches with another rate.
        return "unknown (the present rate does not answer all of them within the window)"
    floor = 0.0 if next_check is None else next_check - now
    # The rate may not last: some batches are slower, new ones begin, and expiring requests wait for the end of their window.
    return f"{ESTIMATE}{formatting.rough_duration(max(rest, floor))} if the present rate lasts"


def _why_unknown(pace: Pace, now: float) -> str:
    silence = pace.silence_seconds(now)
    if silence is None:
        return "no new answer seen yet"
    if silence >= _MIN_SPAN_SECONDS or pace.has_stopped(now):
        return f"no answer for {formatting.duration(silence)}"
    return "too early to tell from the answers so far"
