"""Delivery of the outbox: events are claimed by lease and delivered at least once, within a time limit, without blocking the work."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batchkit.backoff import backoff_seconds
from batchkit.errors import BatchkitError
from batchkit.files import jsonl
from batchkit.notifications.targets import NotDelivered
from batchkit.owners import dead_among
from batchkit.store import notifications

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from batchkit.notifications.targets import Target
    from batchkit.store.engine import Store

logger = logging.getLogger(__name__)

_TRIES = 3
#: Longer than all tries of one row.
_LEASE_SECONDS = 60.0
#: Events that could not be delivered for this time are dropped.
_KEEP_SECONDS = 3 * 86_400.0
#: Delivered rows are kept for this time: they prevent the same event from being stored again.
_REMEMBER_SECONDS = 30 * 86_400.0
#: The part of the time limit that is reserved for ending a command and storing the result.
_SPARE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Unsaved:
    """An event that the database could not store; only this process can deliver it."""

    target: str
    report: dict[str, Any]


class Delivery:
    """Delivers pending notifications to ``targets``. ``clock`` returns Unix seconds, ``wait`` sleeps for seconds between two tries.

    Errors are logged, an unchanged message only once.
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
        """Deliver pending notifications to all targets at the same time; return after at most ``within_seconds``. Raise nothing.

        Undelivered notifications stay in the outbox for the next process.
        """
        deadline = time.monotonic() + within_seconds
        threads = [
            threading.Thread(
                target=self._deliver_to,
                args=(name, deadline - _SPARE_SECONDS, [found.report for found in unsaved if found.target == name]),
                name="batchkit-notify",
                daemon=True,
            )
            for name in self._targets
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0))
        if any(thread.is_alive() for thread in threads):
            self._note(
                "time", f"a notification was not delivered in {within_seconds:.0f} s; the next command tries again"
            )

    def _deliver_to(self, name: str, deadline: float, unsaved: Sequence[dict[str, Any]]) -> None:
        target = self._targets[name]
        try:
            for report in unsaved:
                self._send(target, report, deadline)
            while time.monotonic() < deadline and (row := self._claim(name)) is not None:
                self._deliver_row(target, row, deadline)
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

    def _deliver_row(self, target: Target, row: notifications.Notification, deadline: float) -> None:
        try:
            self._send(target, jsonl.loads(row.report), deadline)
        except NotDelivered as error:
            with self._store.write() as connection:
                notifications.give_back(connection, row, owner=self._owner, error=str(error))
            raise
        now = self._clock()
        with self._store.write() as connection:
            notifications.mark_delivered(connection, row, at=now)
            notifications.forget(connection, before=now - _REMEMBER_SECONDS)

    def _send(self, target: Target, report: dict[str, Any], deadline: float) -> None:
        """Send a report, with several tries if needed. Raises the last ``NotDelivered``."""
        for tried in range(1, _TRIES + 1):
            try:
                target.send(report, within_seconds=max(deadline - time.monotonic(), 0.1))
            except NotDelivered as error:
                pause = backoff_seconds(tried, 1.0)
                if not error.is_transient or tried == _TRIES or time.monotonic() + pause >= deadline:
                    raise
                self._wait(pause)
            else:
                return

    def _note(self, about: str, text: str) -> None:
        if self._troubles.get(about) != text:
            self._troubles[about] = text
            logger.warning("%s", text)
