"""How long something that is away is waited for, measured so that a sleeping machine is not taken for an outage."""

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
#: So many passes in a row that bring nothing but an unexpected error end the drive with it.
_MOST_FAILED_PASSES = 5
#: A pass that did any of these has not met a dead provider, whatever else went wrong.
_SIGNS_OF_LIFE = ("uploaded", "submitted", "adopted", "looked at", "merged")
#: What lies longer between two tries, beyond the wait that was meant, is a machine asleep or a clock that was set.
_LONGEST_PASS_SECONDS = 300.0


class Outage:
    """How long something has been away without a break, as far as this machine was awake and its clock ran evenly."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.tries = 0
        self.since: float | None = None
        self._met_at: float | None = None
        self._wait_seconds = 0.0

    def trouble(self, what: str, now: float, *, limit_seconds: float) -> Trouble:
        """Describe the outage as it is at ``now`` (Unix seconds), when it has been met at least once."""
        since = now if self.since is None else self.since
        return Trouble(what, since, self.tries, gives_up_at=now + max(limit_seconds - self.seconds, 0.0))

    def meet(self, now: float, *, since: float | None = None) -> float:
        """Note that it is away at ``now`` (Unix seconds); returns for how many seconds it has been.

        ``since`` is when the first call failed, None when only ``now`` is known: calls are tried for a while before a pass ends.
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
        """Note how long it will be until the next try."""
        self._wait_seconds = seconds

    def end(self) -> None:
        """Note that it is back."""
        self.seconds, self._met_at, self._wait_seconds = 0.0, None, 0.0
        self.tries, self.since = 0, None


class StoreOutage:
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

    def trouble(self, error: StoreError) -> Trouble:
        """Describe the outage now, after ``wait_seconds``."""
        return self._outage.trouble(error.message, self._clock(), limit_seconds=self._limit_seconds)

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
        """Note that the database is back."""
        self._outage.end()
        self._wait_seconds = self._first_wait_seconds


class DriveHealth:
    """What goes wrong in the passes of one drive, how long to wait for the next one, and when it has lasted long enough.

    ``clock`` gives Unix seconds. An outage of the provider or of the database is waited for up to ``limit_seconds``; an error
    that nobody expected ends the drive after ``_MOST_FAILED_PASSES`` passes in a row that brought nothing else.
    """

    def __init__(self, clock: Callable[[], float], *, limit_seconds: float, first_wait_seconds: float) -> None:
        self._limit_seconds = limit_seconds
        self._first_wait_seconds = first_wait_seconds
        self._store = StoreOutage(clock, limit_seconds=limit_seconds, first_wait_seconds=first_wait_seconds)
        self._provider_away = Outage()
        self._failed_passes = 0
        self._outage = ""
        #: What keeps the drive from its work now.
        self.trouble: Trouble | None = None

    def after_error(self, error: Exception) -> tuple[float, tuple[str, ...]]:
        """Decide after a pass that ended in an error: returns the seconds to wait, and notes. Raises it when it ends the drive."""
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
        """Take note of a pass that ended at ``now``, and of the wait until the next one.

        Raises the error that keeps the drive from its last shards, and ``ProviderUnreachable`` after an outage of ``limit_seconds``.
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
