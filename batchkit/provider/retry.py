"""The one retry of calls that may be repeated: a count and a total time, jitter, and the server's own wish."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import stamina

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.errors import ProviderError

logger = logging.getLogger(__name__)

T = TypeVar("T")

_FIRST_WAIT_SECONDS = 0.5
_LONGEST_BACKOFF_SECONDS = 8.0
#: 0.5 s times two to the fourth is the longest backoff already; a larger power would only overflow.
_LAST_DOUBLING = 4
_POLITENESS = 0.1


class TryAgain(Exception):
    """Inside this package: ``error`` happened in one attempt, and another attempt may do better.

    ``after_seconds`` is the wait that the server asked for, None when it did not.
    """

    def __init__(self, error: ProviderError, *, after_seconds: float | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.after_seconds = after_seconds


class NotTheApi(TryAgain):
    """Inside this package: something other than the API wrote this reply. ``repeats`` says whether it may pass."""

    def __init__(self, error: ProviderError, *, repeats: bool) -> None:
        super().__init__(error)
        self.repeats = repeats


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
        wait: float | None = None

        def attempt() -> T:
            if wait is not None:
                self.sleep(wait)
            return send()

        def decide(error: Exception) -> bool | float:
            nonlocal failures, wait
            if not isinstance(error, TryAgain) or (isinstance(error, NotTheApi) and not error.repeats):
                return False
            failures += 1
            if failures >= self.attempts or (error.after_seconds or 0) > self.cap_seconds:
                return False
            wait = self._wait_seconds(failures, error.after_seconds)
            if self.clock() - started + wait > total_seconds:
                return False
            logger.debug("attempt %d failed: %s; next one in %.2f s", failures, type(error.error).__name__, wait)
            # The wait is ours, before the next attempt: the library would spend it with a sleep that cannot be passed in.
            return 0.0

        # The total time is judged above, by the passed-in clock and before a wait instead of after it.
        caller = stamina.RetryingCaller(attempts=self.attempts, timeout=None)
        return once(lambda: caller(decide, attempt))

    def _wait_seconds(self, failures: int, after_seconds: float | None) -> float:
        if after_seconds:
            # Never earlier than asked; a little later, so that a crowd turned away together does not return together.
            return after_seconds + self.jitter() * min(1.0, _POLITENESS * after_seconds)
        backoff = min(_LONGEST_BACKOFF_SECONDS, _FIRST_WAIT_SECONDS * 2.0 ** min(failures - 1, _LAST_DOUBLING))
        return backoff * (0.5 + 0.5 * self.jitter())
