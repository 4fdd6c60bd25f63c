"""The work of a runner that needs only the database: it reads workloads, stores the user's decisions, and exports results."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from batchkit.engine import composition, promising
from batchkit.engine.guards import check_split
from batchkit.engine.outage import StoreOutage
from batchkit.engine.progress import WorkloadState, read_progress
from batchkit.errors import UnknownWorkload
from batchkit.models import Lane, OnLate
from batchkit.owners import new_owner
from batchkit.steps import cancel, export, resubmit, split
from batchkit.steps.answer_copies import AnswerCopies
from batchkit.store import requests, work_time, workloads

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy.engine import Connection

    from batchkit.engine.progress import Progress
    from batchkit.models import Workload, WorkloadId
    from batchkit.settings import Settings
    from batchkit.steps.split import SplitOptions
    from batchkit.store.engine import Store

T = TypeVar("T")

#: The first wait for an unreachable database, and the wait between two tries to split what another process is splitting.
SHORT_WAIT_SECONDS = 1.0


class WorkloadRecords:
    """The workloads of a database; the base of ``Runner``. ``clock`` returns Unix seconds and ``wait`` sleeps for seconds."""

    def __init__(
        self, store: Store, settings: Settings, *, clock: Callable[[], float], wait: Callable[[float], object]
    ) -> None:
        self.store = store
        self.settings = settings
        self.clock = clock
        self._wait = wait

    def known(self, name: str) -> Workload | None:
        """Read a workload by name; None if it does not exist."""

        def read() -> Workload | None:
            with self.store.read() as connection:
                return workloads.find(connection, name)

        return self._wait_for_store(read)

    def find(self, name: str) -> Workload:
        """Read a workload by name. Raises ``UnknownWorkload``."""
        workload = self.known(name)
        if workload is None:
            raise UnknownWorkload(
                f"there is no workload {name!r} in {self.store.display_url}", hint="`batchkit status` lists them"
            )
        return workload

    def all_workloads(self) -> list[Workload]:
        """Read every workload, oldest first."""
        with self.store.read() as connection:
            return workloads.every(connection)

    def open_workloads(self) -> list[Workload]:
        """Read the workloads with open requests, oldest first."""
        with self.store.read() as connection:
            return workloads.open_workloads(connection)

    def progress(self, workload_id: WorkloadId) -> Progress:
        """Read a snapshot of a workload."""
        with self.store.read() as connection:
            return read_progress(
                connection,
                workloads.get(connection, workload_id),
                now=self.clock(),
                linger_seconds=self.settings.resubmit_linger_seconds,
                cancel_seconds=self.settings.cancel_seconds,
            )

    def work_seconds(self, progress: Progress) -> float:
        """Return for how many seconds a command drove a workload or a batch of it ran, up to its end or now."""
        if progress.worked_seconds is not None:
            return progress.worked_seconds
        with self.store.read() as connection:
            return work_time.work_seconds(
                connection, progress.workload.id, until=self.clock(), is_driven=bool(progress.runners)
            )

    def set_output(self, workload_id: WorkloadId, output: str) -> None:
        """Store where the results of a workload are to be written (see ``batchkit.api.remembered``)."""

        def write() -> None:
            with self.store.write() as connection:
                workloads.set_values(connection, workload_id, output=output)

        self._wait_for_store(write)

    def change_policies(self, workload: Workload, options: SplitOptions) -> Workload:
        """Store the retry policies that ``options`` name, for a workload that is split already."""
        return split.change_policies(self.store, workload, options)

    def change_budget(self, workload: Workload, options: SplitOptions) -> None:
        """Store the budget that ``options`` name, as ``change_policies``."""
        split.change_budget(self.store, workload, options)

    def request_cancel(self, name: str) -> Workload:
        """Record that the user cancels a workload; the next pass acts on it.

        A workload whose split was interrupted may be cancelled: nothing of it was sent. Raises ``SplitUnfinished`` while
        another command is splitting it.
        """
        workload = self.find(name)
        if self.progress(workload.id).state is not WorkloadState.INTERRUPTED:
            check_split(self.store, workload.id, now=self.clock())
        with self.store.write() as connection:
            cancel.request(connection, workload, at=self.clock())
        return workload

    def reopen(self, name: str, *, failed: bool, options: SplitOptions | None = None) -> int:
        """Make cancelled, expired and missing requests, and with ``failed`` all failed ones, pending again; return how many.

        They get the deadline that the ``options`` name; without one a finished workload has none any more. Raises ``UsageError``
        for a deadline that cannot be met, and ``SplitUnfinished`` as ``drive``.
        """
        workload = self.find(name)
        check_split(self.store, workload.id, now=self.clock())
        with self.store.write() as connection:
            was_finished = workloads.count_requests(connection, workload).unresolved == 0
            count = resubmit.reopen(connection, workload, failed=failed, at=self.clock(), was_finished=was_finished)
            if options is not None and options.has_deadline:
                self._promise_rest(connection, workload, options)
            return count

    def _promise_rest(self, connection: Connection, workload: Workload, options: SplitOptions) -> None:
        """Store a deadline for the requests of a workload that have no answer."""
        promising.check_lane(options)
        missing = workloads.count_requests(connection, workload).unresolved
        rpm = self.settings.rpm
        rate = None if rpm is None else rpm / 60
        now = self.clock()
        found = promising.rest_plan(
            options,
            self.settings,
            missing=missing,
            rate=rate if workload.sync_rate is None else workload.sync_rate,
            default=Lane.SYNC if missing <= self.settings.small else Lane.BATCH,
            now=now,
        )
        promising.check_possible(found)
        workloads.set_values(
            connection,
            workload.id,
            deadline=found.terms.at,
            deadline_since=now,
            stops_late=options.late is OnLate.STOP,
            sync_rate=found.terms.rate,
            # Batches that run are left at once.
            drain_since=now if found.lane is Lane.SYNC else None,
            lane=found.lane.value,
            is_lane_auto=True,
        )

    def unsendable(self, workload_id: WorkloadId) -> int:
        """Count the requests of a workload that have no answer and whose lines are not known, so that they cannot be sent."""
        with self.store.read() as connection:
            return requests.unsendable_count(connection, workload_id)

    def export(
        self, name: str, target: Path, *, raw_csv: bool = False, advance: Callable[[int], None] = lambda _rows: None
    ) -> int:
        """Write one line per request in input order to ``.jsonl``, ``.csv`` or ``.parquet``; return how many.

        The files of binary answers are copied to where their paths lead from the target's folder.
        """
        spool = composition.open_spool(self.settings, new_owner())
        try:
            return export.export(
                self.store,
                self.find(name),
                target,
                copies=AnswerCopies(target.absolute().parent, spool),
                raw_csv=raw_csv,
                advance=advance,
            )
        finally:
            spool.close()

    def _wait_for_store(self, call: Callable[[], T]) -> T:
        """Retry until the database is reachable, for at most ``outage_seconds``; see ``StoreOutage.call``."""
        outage = StoreOutage(
            self.clock,
            limit_seconds=self.settings.outage_seconds,
            first_wait_seconds=min(SHORT_WAIT_SECONDS, self.settings.poll_interval_seconds),
        )
        return outage.call(call, wait=self._wait)
