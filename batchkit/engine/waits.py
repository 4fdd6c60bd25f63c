"""Waits of a process that works on several workloads at the same time. Times are in seconds.

``timer`` counts seconds that only rise; ``clock`` gives Unix seconds and may be set by somebody at any time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

K = TypeVar("K")

LONGEST_RETRY_SECONDS = 3_600.0

#: So many workloads are worked on at the same time; one that takes longer than this does not count any more.
_MOST_AT_ONCE = 8
_SLOW_SECONDS = 10.0


class Countdown:
    """A wait until a moment of ``clock``: never longer than it was meant to be when it began, whatever the clock is set to."""

    def __init__(self, until: float, clock: Callable[[], float], timer: Callable[[], float] = time.monotonic) -> None:
        self._until = until
        self._clock = clock
        self._timer = timer
        self._ends_at = timer() + until - clock()

    @property
    def left_seconds(self) -> float:
        """How long the wait still lasts; 0 when it is over."""
        return max(min(self._until - self._clock(), self._ends_at - self._timer()), 0.0)


class Retries(Generic[K]):
    """When what failed is tried again, workloads for example: each after a wait of its own, which doubles up to an hour.

    Kept by this process alone. May be used by one thread at a time.
    """

    def __init__(self, first_seconds: float, timer: Callable[[], float] = time.monotonic) -> None:
        self._first_seconds = first_seconds
        self._timer = timer
        self._waits: dict[K, tuple[float, float]] = {}

    def failed(self, key: K) -> float:
        """Note that it failed; returns the wait until it is tried again."""
        last, _ = self._waits.get(key, (0.0, 0.0))
        wait = min(max(last * 2, self._first_seconds), LONGEST_RETRY_SECONDS)
        self._waits[key] = wait, self._timer() + wait
        return wait

    def left_seconds(self, key: K) -> float:
        """How long it still waits; 0 when it may be tried now."""
        _, due_at = self._waits.get(key, (0.0, 0.0))
        return max(due_at - self._timer(), 0.0)

    def succeeded(self, key: K) -> None:
        """Note that it did not fail: its next failure waits as the first one did."""
        self._waits.pop(key, None)


class Slots(Generic[K]):
    """How many workloads may be worked on at the same time. One that is slow gives its slot up to the others.

    May be used by one thread at a time.
    """

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._began: dict[K, float] = {}

    def take(self, key: K) -> bool:
        """Take a slot for a workload; says whether there was one."""
        if self.wait_seconds() > 0:
            return False
        self._began[key] = self._timer()
        return True

    def give_back(self, key: K) -> None:
        """Note that the work on a workload has ended."""
        self._began.pop(key, None)

    def wait_seconds(self) -> float:
        """How long until there is a slot, unless one is given back before; 0 when there is one now."""
        now = self._timer()
        recent = sorted(began for began in self._began.values() if now - began < _SLOW_SECONDS)
        if len(recent) < _MOST_AT_ONCE:
            return 0.0
        return recent[len(recent) - _MOST_AT_ONCE] + _SLOW_SECONDS - now
