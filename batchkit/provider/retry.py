"""Retries of calls that may be repeated: limited in number and total time, with jitter, respecting the server's wait."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from batchkit.backoff import backoff_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.errors import ProviderError

logger = logging.getLogger(__name__)

T = TypeVar("T")

_EXTRA_WAIT_SHARE = 0.1


class TryAgain(Exception):
    """Inside this package: ``error`` happened in one attempt, and another attempt may succeed.

    ``after_seconds`` is the wait that the server asked for, None without one. ``repeats`` False: the caller makes the next
    attempt later.
    """

    def __init__(self, error: ProviderError, *, after_seconds: float | None = None, repeats: bool = True) -> None:
        super().__init__(error)
        self.error = error
        self.after_seconds = after_seconds
        self.repeats = repeats


class NotTheApi(TryAgain):
    """Inside this package: another server than the API wrote this reply."""


def once(send: Callable[[], T]) -> T:
    """Call ``send`` exactly once; raise the error that a ``TryAgain`` carries."""
    try:
        return send()
    except TryAgain as again:
        error = again.error
    # Raised outside the handler, so that the wrapper does not appear as its context.
    raise error


@dataclass(frozen=True, slots=True)
class Retry:
    """Repeats a call that may be repeated.

    ``attempts`` is the most calls, from 1. ``cap_seconds`` is the longest wait for the server that is waited here; a longer
    one is left to the caller. ``sleep`` waits for seconds, ``clock`` returns monotonic seconds, ``jitter`` a number from 0 to 1.
    """

    attempts: int
    cap_seconds: float
    sleep: Callable[[float], object]
    clock: Callable[[], float]
    jitter: Callable[[], float]

    def call(self, send: Callable[[], T], *, total_seconds: float) -> T:
        """Call ``send`` until it returns, raises something other than ``TryAgain``, or a limit is reached.

        A wait that would end later than ``total_seconds`` after the start is not begun: the last error is raised.
        """
        started = self.clock()
        failures = 0
        while True:
            try:
                return send()
            except TryAgain as again:
                error, after_seconds, repeats = again.error, again.after_seconds, again.repeats
            failures += 1
            wait = self._wait_seconds(failures, after_seconds)
            is_last = not repeats or failures >= self.attempts or (after_seconds or 0) > self.cap_seconds
            # The total time is checked before a wait, not after it.
            if is_last or self.clock() - started + wait > total_seconds:
                # Raised outside the handler, so that the wrapper is not its context.
                raise error
            logger.debug("attempt %d failed: %s; next one in %.2f s", failures, type(error).__name__, wait)
            self.sleep(wait)

    def _wait_seconds(self, failures: int, after_seconds: float | None) -> float:
        backoff = backoff_seconds(failures, self.jitter())
        if after_seconds is None:
            return backoff
        # Never earlier than asked; a little later, so that callers that were refused together do not return together. And never
        # earlier than the backoff: a wait of 0 would be a hot loop.
        return max(backoff, after_seconds + self.jitter() * min(1.0, _EXTRA_WAIT_SHARE * after_seconds))
