"""How long something that is away is waited for, measured so that a sleeping machine is not taken for an outage."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from batchkit import words
from batchkit.errors import RowsHeld, StoreUnavailable, StoreUnusable

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.errors import StoreError

T = TypeVar("T")

logger = logging.getLogger(__name__)

_LONGEST_STORE_WAIT_SECONDS = 30.0
#: What lies longer between two looks, beyond the wait that was meant, is a machine asleep or a clock that was set.
_LONGEST_PASS_SECONDS = 300.0


class Outage:
    """How long something has been away without a break, as far as this machine was awake and its clock ran evenly."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._met_at: float | None = None
        self._wait_seconds = 0.0

    def meet(self, now: float) -> float:
        """Note that it is away at ``now`` (Unix seconds); returns for how many seconds it has been."""
        if self._met_at is not None:
            self.seconds += min(max(now - self._met_at, 0.0), self._wait_seconds + _LONGEST_PASS_SECONDS)
        self._met_at, self._wait_seconds = now, 0.0
        return self.seconds

    def wait(self, seconds: float) -> None:
        """Note how long it will be until the next look."""
        self._wait_seconds = seconds

    def end(self) -> None:
        """Note that it is back."""
        self.seconds, self._met_at, self._wait_seconds = 0.0, None, 0.0


class StorePatience:
    """Waits for a database that is away: how long until the next try, and when it has been enough.

    ``clock`` gives Unix seconds; an outage is borne for ``limit_seconds``.
    """

    def __init__(self, clock: Callable[[], float], *, limit_seconds: float, first_wait_seconds: float) -> None:
        self._clock = clock
        self._limit_seconds = limit_seconds
        self._first_wait_seconds = first_wait_seconds
        self._wait_seconds = first_wait_seconds
        self._outage = Outage()

    def wait_seconds(self, error: StoreError) -> float:
        """Say how long to wait before the next try. Raises an error of the same class when there have been enough."""
        away_seconds = self._outage.meet(self._clock())
        if away_seconds >= self._limit_seconds:
            raise type(error)(f"{error.message}, for {away_seconds:.0f} s now", hint=error.hint) from error
        wait = self._wait_seconds
        self._outage.wait(wait)
        self._wait_seconds = min(wait * 2, max(_LONGEST_STORE_WAIT_SECONDS, self._first_wait_seconds))
        return wait

    def call(self, call: Callable[[], T], *, wait: Callable[[float], object]) -> T:
        """Call until the database is there; ``wait`` sleeps for some seconds between two tries.

        One line in the log says that an outage begins, and one that it has ended. Raises ``StoreUnavailable`` and ``RowsHeld`` when
        there have been enough tries, ``StoreUnusable`` and what else ``call`` raises at once.
        """
        is_away = False
        while True:
            try:
                result = call()
            except StoreUnusable:
                raise
            except (StoreUnavailable, RowsHeld) as error:
                seconds = self.wait_seconds(error)
                if not is_away:
                    logger.warning("%s; waiting for it, up to %s", error.message, words.duration(self._limit_seconds))
                is_away = True
                wait(seconds)
                continue
            if is_away:
                logger.warning("the database is back; the work continues")
                self.end()
            return result

    def end(self) -> None:
        """Note that the database is back."""
        self._outage.end()
        self._wait_seconds = self._first_wait_seconds
