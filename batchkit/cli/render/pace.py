"""How long it will still take: the measured rate while answers come, the ends of windows and of waits, else unknown and why.

A rate is named as what it is, the present one, and only while it can be trusted: at least four steps forward were seen, over half a
minute; the rest is no longer than four times what was seen; and the silence since the last step is hardly longer than the longest
one before. After twice that silence, and when requests came back without an answer, the measurement begins anew. While a rate is named, what remains is at most twice what was said plus two of the longest silences, unless answers stop
coming: then the rate is no longer named within that time. What is said of windows and waits is what provider and store say.
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

#: So begins what is said while there is a rate to be trusted.
ESTIMATE = "about "
_WINDOW_SECONDS = 15 * 60.0
_MIN_SPAN_SECONDS = 30.0
_MIN_RISES = 4
_MOST_SILENCES = 2.0
#: Polls that bring news come at even distances, but for the time that they take: a longer silence is the end of the answers.
_RATE_SILENCES = 1.25
#: What was seen says nothing of a rest that is longer than so many times that.
_MOST_EXTRAPOLATION = 4.0


class Pace:
    """The rate at which requests were answered lately: over a quarter of an hour, or the last four steps if those took longer."""

    def __init__(self, window_seconds: float = _WINDOW_SECONDS) -> None:
        self._window_seconds = window_seconds
        self._steps: deque[tuple[float, int]] = deque()
        self._began_at = 0.0
        self._is_current = False
        self._answered_at: float | None = None

    def see(self, at: float, answered: int) -> None:
        """Note that ``answered`` requests had an answer at ``at`` (Unix seconds).

        Fewer than before mean that requests came back without one: the measurement begins anew. So it does at the first change: nobody
        knows how old the figure before it is.
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
        """Return how long ago the last answers came; None while none were seen to come."""
        return None if self._answered_at is None else now - self._answered_at

    def has_stopped(self, now: float) -> bool:
        """Return whether answers came, and none has for longer than ever before."""
        return len(self._steps) > _MIN_RISES and now - self._steps[-1][0] > _RATE_SILENCES * self._longest_silence()

    def rest_seconds(self, now: float, left: int) -> float | None:
        """Return how long ``left`` requests take at the present rate; None while there is no rate to be trusted."""
        rises = len(self._steps) - 1
        if rises < _MIN_RISES or left <= 0:
            return None
        (began, answered_then), (last, answered) = self._steps[0], self._steps[-1]
        span, silence, longest = last - began, now - last, self._longest_silence()
        if span < _MIN_SPAN_SECONDS or not 0 <= silence <= _RATE_SILENCES * longest:
            return None
        rest = max(left * span / (answered - answered_then) - silence, longest)
        return rest if rest <= _MOST_EXTRAPOLATION * (last - self._began_at) else None

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
    """Write how long a workload will still take, as far as that is known, and else why it is not.

    ``left`` counts the requests that have no answer yet. Nothing is found to be finished before ``next_check`` (Unix seconds).
    """
    by_kind = {wait.kind: wait for wait in waits}
    for kind, reason in (
        (WaitKind.OUTAGE, "unknown while this lasts"),
        (WaitKind.SPLITTING, "unknown until the input is split"),
        (WaitKind.INTERRUPTED, "unknown until the input is split"),
    ):
        if kind in by_kind:
            return reason
    parts = [_rate_or_reason(waits, pace, now, left=left, next_check=next_check)]
    batches = by_kind.get(WaitKind.BATCHES) or by_kind.get(WaitKind.STOPPING)
    if batches is not None and batches.until is not None:
        end = formatting.when(batches.until, now)
        parts.append(
            f"the batches end at the latest {end}" if batches.until > now else f"the batches are overdue since {end}"
        )
    return "; ".join(parts)


def _rate_or_reason(waits: Sequence[Waiting], pace: Pace, now: float, *, left: int, next_check: float | None) -> str:
    not_before = max((wait.until for wait in waits if wait.is_not_before and wait.until is not None), default=0.0)
    if not_before > now:
        return f"not before {formatting.when(not_before, now)}"
    if left <= 0:
        return "unknown (every request is answered, the rest is the download)"
    rest = pace.rest_seconds(now, left)
    if rest is None:
        return f"unknown ({_why_unknown(pace, now)})"
    window_ends = max((wait.until for wait in waits if wait.kind is WaitKind.BATCHES and wait.until), default=None)
    if window_ends is not None and now + rest > window_ends > now:
        # What is left then is sent again, in batches that have another rate.
        return "unknown (the present rate does not answer all of them within the window)"
    floor = 0.0 if next_check is None else next_check - now
    # It need not last: some batches are slower than others, new ones begin, and what expires waits for the end of its window.
    return f"{ESTIMATE}{formatting.rough_duration(max(rest, floor))} if the present rate lasts"


def _why_unknown(pace: Pace, now: float) -> str:
    silence = pace.silence_seconds(now)
    if silence is None:
        return "no new answer seen yet"
    if silence >= _MIN_SPAN_SECONDS or pace.has_stopped(now):
        return f"no answer for {formatting.duration(silence)}"
    return "too early to tell from the answers so far"
