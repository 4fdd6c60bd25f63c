"""How long an outage is waited for. Time in which the machine slept does not count."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from batchkit import formatting
from batchkit.errors import BatchkitError, ProviderUnreachable, RowsHeld, StoreUnavailable, StoreUnusable
from batchkit.models import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.errors import StoreError
    from batchkit.steps.context import StepReport

T = TypeVar("T")

logger = logging.getLogger(__name__)

_LONGEST_STORE_WAIT_SECONDS = 30.0
#: An unexpected error ends the drive after this many passes in a row without any other result.
_MOST_FAILED_PASSES = 5
#: A pass with any of these counts has reached the provider, whatever else failed.
_SIGNS_OF_LIFE = ("uploaded", "submitted", "adopted", "polled", "merged", "sent")
#: A longer time between two tries, beyond the planned wait, means that the machine slept or its clock was set.
_LONGEST_PASS_SECONDS = 300.0


class Outage:
    """How long something has been unreachable without a break, counting only the time in which this machine was awake."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.tries = 0
        self.since: float | None = None
        self._met_at: float | None = None
        self._wait_seconds = 0.0

    def trouble(self, what: str, now: float, *, limit_seconds: float) -> Trouble:
        """Return the outage as it is at ``now`` (Unix seconds); it must have been met at least once."""
        since = now if self.since is None else self.since
        return Trouble(what, since, self.tries, gives_up_at=now + max(limit_seconds - self.seconds, 0.0))

    def meet(self, now: float, *, since: float | None = None) -> float:
        """Record that it is unreachable at ``now`` (Unix seconds); return for how many seconds it has been.

        ``since`` is when the first call failed, None when unknown: calls are repeated for a while before a pass ends.
        """
        self.tries += 1
        if self._met_at is None:
            self.seconds = min(max(now - (now if since is None else since), 0.0), _LONGEST_PASS_SECONDS)
            self.since = now - self.seconds
        else:
            self.seconds += min(max(now - self._met_at, 0.0), self._wait_seconds + _LONGEST_PASS_SECONDS)
        self._met_at, self._wait_seconds = now, 0.0
        return self.seconds

    def wait(self, seconds: float) -> None:
        """Record the wait until the next try."""
        self._wait_seconds = seconds

    def end(self) -> None:
        """Record that it is reachable again."""
        self.seconds, self._met_at, self._wait_seconds = 0.0, None, 0.0
        self.tries, self.since = 0, None


class StoreOutage:
    """Decides how long to wait for an unreachable database, and when to give up.

    ``clock`` returns Unix seconds; an outage is waited for up to ``limit_seconds``.
    """

    def __init__(self, clock: Callable[[], float], *, limit_seconds: float, first_wait_seconds: float) -> None:
        self._clock = clock
        self._limit_seconds = limit_seconds
        self._first_wait_seconds = first_wait_seconds
        self._wait_seconds = first_wait_seconds
        self._outage = Outage()

    def wait_seconds(self, error: StoreError) -> float:
        """Return the wait before the next try, in seconds. Raises an error of the same class after ``limit_seconds``."""
        away_seconds = self._outage.meet(self._clock())
        if away_seconds >= self._limit_seconds:
            raise type(error)(f"{error.message}, for {away_seconds:.0f} s now", hint=error.hint) from error
        wait = self._wait_seconds
        self._outage.wait(wait)
        self._wait_seconds = min(wait * 2, max(_LONGEST_STORE_WAIT_SECONDS, self._first_wait_seconds))
        return wait

    def trouble(self, error: StoreError) -> Trouble:
        """Return the outage as it is now; call it after ``wait_seconds``."""
        return self._outage.trouble(error.message, self._clock(), limit_seconds=self._limit_seconds)

    def call(self, call: Callable[[], T], *, wait: Callable[[float], object]) -> T:
        """Retry until the database is reachable; ``wait`` sleeps for some seconds between two tries.

        Logs one line when an outage begins and one when it ends. Raises ``StoreUnavailable`` and ``RowsHeld`` after
        ``limit_seconds``, ``StoreUnusable`` and any other error of ``call`` at once.
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
                    logger.warning(
                        "%s; waiting for it, up to %s", error.message, formatting.duration(self._limit_seconds)
                    )
                is_away = True
                wait(seconds)
                continue
            if is_away:
                logger.warning("the database is back; the work continues")
                self.end()
            return result

    def end(self) -> None:
        """Record that the database is reachable again."""
        self._outage.end()
        self._wait_seconds = self._first_wait_seconds


class DriveHealth:
    """Errors and outages of one drive: how long to wait before the next pass, and when to end the drive.

    ``clock`` returns Unix seconds. An outage of the provider or of the database is waited for up to ``limit_seconds``; an
    unexpected error ends the drive after ``_MOST_FAILED_PASSES`` passes in a row without any other result.
    """

    def __init__(self, clock: Callable[[], float], *, limit_seconds: float, first_wait_seconds: float) -> None:
        self._limit_seconds = limit_seconds
        self._first_wait_seconds = first_wait_seconds
        self._store = StoreOutage(clock, limit_seconds=limit_seconds, first_wait_seconds=first_wait_seconds)
        self._provider_away = Outage()
        self._failed_passes = 0
        self._outage = ""
        #: The outage that stops the drive now.
        self.trouble: Trouble | None = None

    def after_error(self, error: Exception) -> tuple[float, tuple[str, ...]]:
        """Return the seconds to wait after a pass that ended in an error, and notes. Raises the error when it ends the drive."""
        if isinstance(error, StoreUnavailable | RowsHeld):
            wait = self._store.wait_seconds(error)
            self.trouble = self._store.trouble(error)
            return wait, ()
        self._failed_passes += 1
        if isinstance(error, BatchkitError) or self._failed_passes >= _MOST_FAILED_PASSES:
            raise error
        logger.error("a pass failed", exc_info=error)
        wait = self._first_wait_seconds * 2.0**self._failed_passes
        return wait, (f"unexpected error ({type(error).__name__}: {error}); tried again in {wait:.0f} s",)

    def after_pass(self, report: StepReport, now: float, *, wait_seconds: float) -> None:
        """Record a pass that ended at ``now``, and the wait until the next one.

        Raises an error that several passes in a row met on a shard, and ``ProviderUnreachable`` after an outage of ``limit_seconds``.
        """
        self._store.end()
        self.trouble = None
        if any(report.counts.get(name) for name in _SIGNS_OF_LIFE):
            self._provider_away.end()
            self._failed_passes = 0
            return
        if report.error is not None and not isinstance(report.error, RowsHeld):
            self._failed_passes += 1
            if self._failed_passes >= _MOST_FAILED_PASSES:
                raise report.error
        if report.outage is not None:
            away_seconds = self._provider_away.meet(now, since=report.outage_since)
            if away_seconds >= self._limit_seconds:
                did = "did not answer as it should" if report.is_reached else "could not be reached"
                raise report.error or ProviderUnreachable(
                    f"the provider {did} for {away_seconds:.0f} s: {report.outage}",
                    hint="nothing is lost: run the same command again later",
                )
            self._provider_away.wait(wait_seconds)
            self._outage = report.outage
            if report.error is None:
                does = "does not answer as it should" if report.is_reached else "cannot be reached"
                self._outage = f"the provider {does}: {report.outage}"
        if self._provider_away.since is not None:
            self.trouble = self._provider_away.trouble(self._outage, now, limit_seconds=self._limit_seconds)
