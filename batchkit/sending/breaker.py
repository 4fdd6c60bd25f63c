"""The breaker: a key that is only refused, or only fails, is parked with growing pauses, and tried with one request at a time."""

from __future__ import annotations

import math

_FAILURES = 10
_FLOOR_SECONDS = 60.0
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0


class Breaker:
    """Open after ``failures`` failures in a row, or after ``floor_seconds`` without an answer while the window is at its floor.

    ``trip`` counts how often it opened, and belongs into the ticket of each admission: the ends of requests from before change nothing.
    ``since`` is when the trouble began, ``until`` when the next request may be sent, ``reason`` the last one; times are monotonic seconds.
    """

    def __init__(self, *, failures: int = _FAILURES, floor_seconds: float = _FLOOR_SECONDS) -> None:
        self.trip = 0
        self.reason = ""
        self.since = 0.0
        self.until = 0.0
        self._failures = failures
        self._floor_seconds = floor_seconds
        self._is_open = False
        self._has_probe = False
        self._in_a_row = 0
        self._pause = _FIRST_PAUSE_SECONDS
        self._first_failure: float | None = None

    @property
    def is_open(self) -> bool:
        """Return whether the key is parked, or being tried."""
        return self._is_open

    def ask_again_at(self, now: float) -> float:
        """Return 0.0 when a request may be sent, else when to ask again; infinity while a probe is under way."""
        if not self._is_open:
            return 0.0
        if now < self.until:
            return self.until
        return math.inf if self._has_probe else 0.0

    def admitted(self) -> bool:
        """Note an admission; return whether it is a probe."""
        self._has_probe = self._is_open
        return self._has_probe

    def probe_given_back(self, of_trip: int) -> None:
        """Note that a probe was not sent."""
        if of_trip == self.trip:
            self._has_probe = False

    def succeeded(self, of_trip: int) -> bool:
        """Close: the server answers. Return whether it was open.

        An answer to a request from before it opened says nothing of now.
        """
        if of_trip != self.trip:
            return False
        was_open = self._is_open
        self._is_open = self._has_probe = False
        self._in_a_row = 0
        self._first_failure = None
        self._pause = _FIRST_PAUSE_SECONDS
        return was_open

    def failed(self, of_trip: int, reason: str, now: float, *, is_at_floor: bool, is_broken: bool) -> None:
        """Note an end without an answer. ``is_broken``: the call failed; else the server answered that it has no room."""
        if of_trip != self.trip:
            return
        self._in_a_row += is_broken
        if self._first_failure is None:
            self._first_failure = now
        is_stuck = is_at_floor and now - self._first_failure >= self._floor_seconds
        if self._is_open or is_stuck or self._in_a_row >= self._failures:
            until = now + self._pause
            self._pause = min(_LONGEST_PAUSE_SECONDS, 2 * self._pause)
            self.park(until, reason, now)

    def park(self, until: float, reason: str, now: float) -> None:
        """Send nothing before ``until``, and then one request."""
        if not self._is_open:
            self.since = now if self._first_failure is None else self._first_failure
        self._is_open, self._has_probe = True, False
        self.trip += 1
        self.until = until
        self.reason = reason
