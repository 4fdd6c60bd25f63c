"""The one retry of calls that may be repeated: a count and a total time, jitter, and the server's own wish."""

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

_POLITENESS = 0.1


class TryAgain(Exception):
    """Inside this package: ``error`` happened in one attempt, and another attempt may do better.

    ``after_seconds`` is the wait that the server asked for, None when it did not. ``repeats`` False leaves the other attempt
    to the caller, for later.
    """

    def __init__(self, error: ProviderError, *, after_seconds: float | None = None, repeats: bool = True) -> None:
        super().__init__(error)
        self.error = error
        self.after_seconds = after_seconds
        self.repeats = repeats


class NotTheApi(TryAgain):
    """Inside this package: something other than the API wrote this reply."""


def once(send: Callable[[], T]) -> T:
    """Call ``send`` exactly once; a ``TryAgain`` leaves as the error that it carries."""
    try:
        return send()
    except TryAgain as again:
        error = again.error
    # Raised out here, so that the wrapper does not show up as its context.
    raise error


@dataclass(frozen=True, slots=True)
class Retry:
    """How a call that may be repeated is repeated.

    ``attempts`` counts calls and starts at 1. ``cap_seconds`` is the longest wait asked for by the server that is spent
    here; a longer one is the caller's to schedule. ``sleep`` waits for seconds, ``clock`` gives seconds that only rise,
    ``jitter`` a number from 0 to 1.
    """

    attempts: int
    cap_seconds: float
    sleep: Callable[[float], object]
    clock: Callable[[], float]
    jitter: Callable[[], float]

    def call(self, send: Callable[[], T], *, total_seconds: float) -> T:
        """Call ``send`` until it returns, or raises something other than ``TryAgain``, or a budget is used up.

        No wait begins that would end past ``total_seconds`` after the start; the last error is raised then.
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
            # The total time is judged before a wait, not after it.
            if is_last or self.clock() - started + wait > total_seconds:
                # Raised out here, so that the wrapper does not show up as its context.
                raise error
            logger.debug("attempt %d failed: %s; next one in %.2f s", failures, type(error).__name__, wait)
            self.sleep(wait)

    def _wait_seconds(self, failures: int, after_seconds: float | None) -> float:
        backoff = backoff_seconds(failures, self.jitter())
        if after_seconds is None:
            return backoff
        # Never earlier than asked; a little later, so that a crowd turned away together does not return together. And never
        # earlier than without being asked: a wait of nothing would be a hot loop.
        return max(backoff, after_seconds + self.jitter() * min(1.0, _POLITENESS * after_seconds))
