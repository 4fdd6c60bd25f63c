"""Delivery of the outbox: claimed by lease, handed over at least once, within a time limit, and never in the way of the work."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batchkit.backoff import backoff_seconds
from batchkit.errors import BatchkitError
from batchkit.files import jsonl
from batchkit.leases import dead_among
from batchkit.notifications.targets import NotDelivered
from batchkit.store import notifications

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from batchkit.notifications.targets import Target
    from batchkit.store.engine import Store

logger = logging.getLogger(__name__)

_TRIES = 3
#: Longer than the tries of one row take.
_LEASE_SECONDS = 60.0
#: News that nobody could be told for so long is not told any more.
_KEEP_SECONDS = 3 * 86_400.0
#: Delivered rows stay so long, because they keep the same event from being written again.
_REMEMBER_SECONDS = 30 * 86_400.0
#: What is kept of the limit for ending a command and writing down how it went.
_SPARE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Unsaved:
    """An event that the database could not take; it is delivered by this process or not at all."""

    target: str
    report: dict[str, Any]


class Delivery:
    """Delivers what is due to ``targets``. ``clock`` gives Unix seconds, ``wait`` sleeps for seconds between two tries.

    What goes wrong is logged, each message once while it stays the same.
    """

    def __init__(
        self,
        store: Store,
        targets: Mapping[str, Target],
        *,
        owner: str,
        clock: Callable[[], float],
        wait: Callable[[float], object],
    ) -> None:
        self._store = store
        self._targets = targets
        self._owner = owner
        self._clock = clock
        self._wait = wait
        self._troubles: dict[str, str] = {}

    def deliver(self, within_seconds: float, unsaved: Sequence[Unsaved] = ()) -> None:
        """Deliver what is due, to all targets at the same time; returns after ``within_seconds`` at the latest. Raises nothing.

        What is not delivered by then stays in the outbox for the next process.
        """
        give_up_at = time.monotonic() + within_seconds
        threads = [
            threading.Thread(
                target=self._deliver_to,
                args=(name, give_up_at - _SPARE_SECONDS, [found.report for found in unsaved if found.target == name]),
                name="batchkit-notify",
                daemon=True,
            )
            for name in self._targets
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(give_up_at - time.monotonic(), 0))
        if any(thread.is_alive() for thread in threads):
            self._note(
                "time", f"a notification was not delivered in {within_seconds:.0f} s; the next command tries again"
            )

    def _deliver_to(self, name: str, give_up_at: float, unsaved: Sequence[dict[str, Any]]) -> None:
        target = self._targets[name]
        try:
            for report in unsaved:
                self._send(target, report, give_up_at)
            while time.monotonic() < give_up_at and (row := self._claim(name)) is not None:
                self._deliver_row(target, row, give_up_at)
        except NotDelivered as error:
            self._note(name, f"a notification was not delivered: {error}; the next command tries again")
        except BatchkitError as error:
            self._note(name, f"notifications wait for the database: {error.message}")
        except Exception as error:
            self._note(name, f"a notification was not delivered: {type(error).__name__}; the next command tries again")
            logger.debug("a notification was not delivered", exc_info=True)
        else:
            self._troubles.pop(name, None)

    def _claim(self, name: str) -> notifications.Notification | None:
        now = self._clock()
        since = now - _KEEP_SECONDS
        with self._store.read() as connection:
            if not notifications.is_due(connection, name, since=since):
                return None
            dead = dead_among(notifications.lease_owners(connection))
        with self._store.write() as connection:
            return notifications.claim(
                connection, name, owner=self._owner, now=now, lease_seconds=_LEASE_SECONDS, since=since, dead=dead
            )

    def _deliver_row(self, target: Target, row: notifications.Notification, give_up_at: float) -> None:
        try:
            self._send(target, jsonl.loads(row.report), give_up_at)
        except NotDelivered as error:
            with self._store.write() as connection:
                notifications.give_back(connection, row, owner=self._owner, error=str(error))
            raise
        now = self._clock()
        with self._store.write() as connection:
            notifications.mark_delivered(connection, row, at=now)
            notifications.forget(connection, before=now - _REMEMBER_SECONDS)

    def _send(self, target: Target, report: dict[str, Any], give_up_at: float) -> None:
        """Hand over a report, in several tries if need be. Raises the last ``NotDelivered``."""
        for tried in range(1, _TRIES + 1):
            try:
                target.send(report, within_seconds=max(give_up_at - time.monotonic(), 0.1))
            except NotDelivered as error:
                pause = backoff_seconds(tried, 1.0)
                if not error.may_pass or tried == _TRIES or time.monotonic() + pause >= give_up_at:
                    raise
                self._wait(pause)
            else:
                return

    def _note(self, about: str, text: str) -> None:
        if self._troubles.get(about) != text:
            self._troubles[about] = text
            logger.warning("%s", text)
