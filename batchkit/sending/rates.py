"""Answers and tokens per second over the last minute."""

from __future__ import annotations

from collections import deque

_SECONDS = 60


class MeasuredRate:
    """Counts answers by the second; times are monotonic seconds and never go back."""

    def __init__(self) -> None:
        self._by_second: deque[list[float]] = deque(maxlen=_SECONDS + 1)
        self._began: float | None = None

    def add(self, tokens: float, now: float) -> None:
        """Count an answer with its tokens."""
        if self._began is None:
            self._began = now
        if not self._by_second or int(now) != self._by_second[-1][0]:
            self._by_second.append([int(now), 0.0, 0.0])
        self._by_second[-1][1] += 1
        self._by_second[-1][2] += tokens

    def per_second(self, now: float) -> tuple[float, float]:
        """Return answers and tokens per second over the last minute, or since the first answer if that is shorter; at least a second."""
        if self._began is None:
            return 0.0, 0.0
        seconds = min(float(_SECONDS), max(1.0, now - self._began))
        recent = [entry for entry in self._by_second if entry[0] > now - _SECONDS]
        return sum(entry[1] for entry in recent) / seconds, sum(entry[2] for entry in recent) / seconds
