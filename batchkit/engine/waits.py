"""Waits of a process that works on several workloads at the same time. Times are in seconds.

``timer`` returns monotonic seconds; ``clock`` returns Unix seconds and may be set by a user at any time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

K = TypeVar("K")

LONGEST_RETRY_SECONDS = 3_600.0

#: The most workloads at the same time, and after how many seconds a slow one no longer counts.
_MOST_AT_ONCE = 8
_SLOW_SECONDS = 10.0


class Countdown:
    """A wait until a time of ``clock``, never longer than planned at its start, even when the clock is set back."""

    def __init__(self, until: float, clock: Callable[[], float], timer: Callable[[], float] = time.monotonic) -> None:
        self._until = until
        self._clock = clock
        self._timer = timer
        self._ends_at = timer() + until - clock()

    @property
    def left_seconds(self) -> float:
        """Return how long the wait still lasts; 0 when it is over."""
        return max(min(self._until - self._clock(), self._ends_at - self._timer()), 0.0)


class Retries(Generic[K]):
    """Decides when a failed key, for example a workload, is tried again: each has its own wait, which doubles up to an hour.

    Kept in this process only. One thread at a time may use it.
    """

    def __init__(self, first_seconds: float, timer: Callable[[], float] = time.monotonic) -> None:
        self._first_seconds = first_seconds
        self._timer = timer
        self._waits: dict[K, tuple[float, float]] = {}

    def failed(self, key: K) -> float:
        """Record a failure; return the wait until the next try."""
        last, _ = self._waits.get(key, (0.0, 0.0))
        wait = min(max(last * 2, self._first_seconds), LONGEST_RETRY_SECONDS)
        self._waits[key] = wait, self._timer() + wait
        return wait

    def left_seconds(self, key: K) -> float:
        """Return how long the key still waits; 0 when it may be tried now."""
        _, due_at = self._waits.get(key, (0.0, 0.0))
        return max(due_at - self._timer(), 0.0)

    def succeeded(self, key: K) -> None:
        """Record a success: the next failure waits as long as the first one did."""
        self._waits.pop(key, None)


class Slots(Generic[K]):
    """Limits how many workloads are worked on at the same time. A slow one gives up its slot.

    One thread at a time may use it.
    """

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._began: dict[K, float] = {}

    def take(self, key: K) -> bool:
        """Take a slot for a workload; return whether one was free."""
        if self.wait_seconds() > 0:
            return False
        self._began[key] = self._timer()
        return True

    def give_back(self, key: K) -> None:
        """Free the slot of a workload whose work has ended."""
        self._began.pop(key, None)

    def wait_seconds(self) -> float:
        """Return how long until a slot is free, unless one is given back before; 0 when one is free now."""
        now = self._timer()
        recent = sorted(began for began in self._began.values() if now - began < _SLOW_SECONDS)
        if len(recent) < _MOST_AT_ONCE:
            return 0.0
        return recent[len(recent) - _MOST_AT_ONCE] + _SLOW_SECONDS - now
