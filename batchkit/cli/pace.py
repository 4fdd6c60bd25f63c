"""How long it will still take, judged by what has been seen: never better than the evidence, often unknown."""

from __future__ import annotations

from collections import deque

_WINDOW_SECONDS = 15 * 60.0
_MIN_SPAN_SECONDS = 5.0
_MIN_RISES = 2
#: An estimate beyond the longest window of a batch says nothing.
_MAX_ESTIMATE_SECONDS = 14 * 86_400.0


class Pace:
    """The rate at which requests got done over the last quarter of an hour, silence since the last one included.

    Counts are taken as they come: when requests turn out to have expired, what is done shrinks, and the rate with it.
    """

    def __init__(self, window_seconds: float = _WINDOW_SECONDS) -> None:
        self._window_seconds = window_seconds
        self._changes: deque[tuple[float, int]] = deque()
        self._rises = 0
        self._last_rise_at = 0.0

    def see(self, at: float, done: int) -> None:
        """Take note that ``done`` requests were done at ``at`` (Unix seconds)."""
        if self._changes and self._changes[-1][1] == done:
            return
        if self._changes and done > self._changes[-1][1]:
            self._rises += 1
            self._last_rise_at = at
        self._changes.append((at, done))
        # The newest change before the window's start says how much was done when it began.
        while len(self._changes) > 1 and self._changes[1][0] <= at - self._window_seconds:
            self._changes.popleft()

    def remaining_seconds(self, now: float, left: int) -> float | None:
        """Estimate how long ``left`` requests take; None while there is too little to judge by."""
        if left <= 0:
            return 0.0
        if self._rises < _MIN_RISES:
            return None
        began, done_then = self._changes[0]
        began = max(began, min(now, self._changes[-1][0]) - self._window_seconds)
        span = now - began
        gained = self._changes[-1][1] - done_then
        if span < _MIN_SPAN_SECONDS or gained <= 0:
            return None
        # Whoever has been silent for a minute may well be silent for another.
        estimate = max(left * span / gained, now - self._last_rise_at)
        return estimate if estimate <= _MAX_ESTIMATE_SECONDS else None
