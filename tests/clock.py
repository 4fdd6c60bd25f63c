"""A clock that moves only when a test says so."""

from __future__ import annotations


class FakeClock:
    """Unix seconds for whoever is passed a clock: call it to read it, ``advance`` it by hand."""

    def __init__(self, now: float = 1_750_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Read the time."""
        return self.now

    def advance(self, seconds: float) -> float:
        """Let time pass; returns the new time."""
        if seconds < 0:
            raise ValueError("time does not run backwards")
        self.now += seconds
        return self.now
