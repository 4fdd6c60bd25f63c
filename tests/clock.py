"""A clock that only a test advances."""

from __future__ import annotations


class FakeClock:
    """A clock in Unix seconds: call it to read the time, and ``advance`` to move it."""

    def __init__(self, now: float = 1_750_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def advance(self, seconds: float) -> float:
        """Move the clock forward and return the new time. Raises ``ValueError`` for negative ``seconds``."""
        if seconds < 0:
            raise ValueError("time does not run backwards")
        self.now += seconds
        return self.now
