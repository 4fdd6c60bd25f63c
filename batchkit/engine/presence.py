"""Which process works on what: a process that drives workloads records that in the store, and why it stopped.

A process has one row in ``runners``. It is written when the first drive begins, then by a thread every half minute, and when an
outage begins or ends, so that the work never waits for it; an orderly end removes it. A workload's own row is written only when
a command begins or stops.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from batchkit.engine import situation
from batchkit.engine.progress import read_progress
from batchkit.errors import BatchkitError
from batchkit.owners import dead_among
from batchkit.store import runners, work_time, workloads
from batchkit.store.runners import RunnerRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.models import Trouble, WorkloadId
    from batchkit.store.engine import Store

logger = logging.getLogger(__name__)

_WRITE_SECONDS = 30.0
#: The begin or end of an outage is written at once: this is the interval at which it is checked, in memory.
_TROUBLE_SECONDS = 1.0
#: Rows of processes of other machines that died are kept this long, so that the status can show them.
_KEEP_SECONDS = 7 * 86_400.0
_CLOSE_SECONDS = 2.0
#: The verb that drives every open workload, in passes.
SERVE = "serve"
CANCEL = "cancel"


class Presence:
    """The record of one process. ``trouble`` returns the outage that stops the work on a workload now."""

    def __init__(
        self,
        store: Store,
        *,
        owner: str,
        verb: str,
        clock: Callable[[], float],
        trouble: Callable[[WorkloadId], Trouble | None],
    ) -> None:
        self._store = store
        self._owner = owner
        self._verb = verb
        self._host = socket.gethostname()
        self._clock = clock
        self._trouble = trouble
        self._driven: set[WorkloadId] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_written = False

    def began(self, workload_id: WorkloadId, *, is_one_pass: bool) -> None:
        """Record that this process drives a workload from now on.

        A single pass is short: it only clears the workload's stop. ``serve``, which makes many passes, is recorded.
        """
        with self._store.read() as connection:
            was_stopped = workloads.get(connection, workload_id).stopped_at is not None
        if was_stopped or not is_one_pass:
            with self._store.write() as connection:
                # Do not wait for a locked row: the row of this process is newer than the stop, which then does not count.
                if was_stopped and workloads.is_unheld(connection, workload_id):
                    workloads.set_values(connection, workload_id, stopped_at=None, stopped_reason=None)
                if not is_one_pass:
                    now = self._clock()
                    work_time.drive_began(connection, workload_id, at=now, by=f"{self._verb} on {self._host}")
                    if self._thread is None:
                        # Written here, because the thread may start late: until then the workload would seem to have no runner.
                        runners.put(connection, RunnerRow(self._owner, self._verb, self._host, workload_id, now))
                        self._is_written = True
        if is_one_pass and self._verb != SERVE:
            return
        with self._lock:
            self._driven.add(workload_id)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="batchkit-presence", daemon=True)
                self._thread.start()
        self._wake.set()

    def stopped(self, workload_id: WorkloadId, reason: str, *, is_finished: bool, is_one_pass: bool) -> None:
        """Record that this process no longer drives the workload, and why; an unreachable database is not waited for.

        A single pass records it only for ``cancel``, which leaves the batches to the provider.
        """
        with self._lock:
            was_driven = workload_id in self._driven
            self._driven.discard(workload_id)
        if is_one_pass and (self._verb != CANCEL or is_finished):
            return
        if not is_one_pass and not was_driven:
            return
        now = self._clock()
        with suppress(BatchkitError), self._store.write() as connection:
            if not is_finished:
                workloads.set_values(connection, workload_id, stopped_at=now, stopped_reason=reason)
            if not is_one_pass:
                work_time.drive_stopped(connection, workload_id, at=now, why=reason)
        self._wake.set()

    def close(self, reason: str) -> None:
        """Record the stop of all workloads that are still driven, with ``reason``, and remove the row."""
        for workload_id in list(self._driven):
            self.stopped(workload_id, reason, is_finished=False, is_one_pass=False)
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            # With a limit: an unreachable database may block the thread; the row then becomes old and counts as dead.
            self._thread.join(_CLOSE_SECONDS)
        if self._is_written:
            # A row that stays because the database is unreachable becomes old as well.
            with suppress(BatchkitError), self._store.write() as connection:
                runners.remove(connection, [self._owner])

    def _run(self) -> None:
        is_first = True
        while not self._closing.is_set():
            self._wake.clear()
            try:
                stage = self._stage_of_trouble()
                self._write(is_first=is_first)
                is_first = False
                self._wait(stage)
            except Exception:
                logger.debug("who works on what could not be written down", exc_info=True)
                self._wake.wait(_WRITE_SECONDS)

    def _wait(self, stage: tuple[bool, bool]) -> None:
        """Wait half a minute, or until an outage begins or ends, or until woken."""
        until = time.monotonic() + _WRITE_SECONDS
        while time.monotonic() < until and not self._wake.wait(_TROUBLE_SECONDS):
            if self._stage_of_trouble() != stage:
                return

    def _stage_of_trouble(self) -> tuple[bool, bool]:
        """Return whether there is an outage, and whether it is known when it is given up."""
        trouble = self._current_trouble()
        return trouble is not None, trouble is not None and trouble.gives_up_at is not None

    def _current_trouble(self) -> Trouble | None:
        found = (self._trouble(workload_id) for workload_id in list(self._driven))
        return next((trouble for trouble in found if trouble is not None), None)

    def _write(self, *, is_first: bool) -> None:
        now = self._clock()
        driven = set(self._driven)
        if not driven and self._verb != SERVE:
            if self._is_written:
                with self._store.write() as connection:
                    runners.remove(connection, [self._owner])
                self._is_written = False
            return
        alone = next(iter(driven)) if len(driven) == 1 and self._verb != SERVE else None
        wait = self._waiting(driven, now)
        row = RunnerRow(
            owner=self._owner,
            verb=self._verb,
            host=self._host,
            workload_id=alone,
            seen_at=now,
            waiting_for=None if wait is None else wait.text,
            since=None if wait is None else wait.since,
            until=None if wait is None else wait.until,
        )
        with self._store.write() as connection:
            runners.put(connection, row)
            if is_first:
                runners.remove(connection, dead_among(runners.owners(connection) - {self._owner}))
                runners.remove_unseen(connection, before=now - _KEEP_SECONDS)
        self._is_written = True

    def _waiting(self, driven: set[WorkloadId], now: float) -> situation.Waiting | None:
        trouble = self._current_trouble()
        if trouble is not None:
            return situation.outage(trouble)
        if len(driven) != 1:
            return None
        with self._store.read() as connection:
            workload = workloads.get(connection, next(iter(driven)))
            waits = situation.waits(read_progress(connection, workload, now=now))
        return next((wait for wait in waits if wait.kind is not situation.WaitKind.OUTAGE), None)
