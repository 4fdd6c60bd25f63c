"""The work of a runner that needs this process: it opens the provider, the files and the leases, and drives workloads."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Self

from batchkit.engine import composition, stop_reasons
from batchkit.engine.announcements import Announcer
from batchkit.engine.driver import Drive
from batchkit.engine.guards import check_credential, check_same_database, check_split
from batchkit.engine.leases import ProcessLeases
from batchkit.engine.observer import DO_NOTHING, Observer
from batchkit.engine.pending import PendingWork
from batchkit.engine.presence import Presence
from batchkit.engine.progress import WorkloadState
from batchkit.engine.records import WorkloadRecords
from batchkit.engine.threads import ThreadGroup, WorkStopped
from batchkit.engine.waves import Done, DriveUntil, Wait
from batchkit.notifications.delivery import Delivery
from batchkit.notifications.targets import targets_of
from batchkit.owners import new_owner
from batchkit.provider.keyless import keyless
from batchkit.steps.context import StepContext, StepReport
from batchkit.store import migrate
from batchkit.store.engine import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.engine.progress import Progress
    from batchkit.engine.waves import Wave, Waves
    from batchkit.models import Trouble, WorkloadId
    from batchkit.provider.base import Provider
    from batchkit.provider.client import BatchApi
    from batchkit.sending.lane import SyncLane
    from batchkit.settings import Settings

#: How long the end of a command may wait for its notifications.
NOTIFY_SECONDS = 10.0


class WorkloadDriving(WorkloadRecords):
    """What a process holds while it works, and the drives of its workloads; the base of ``Runner``, which says what it raises."""

    def __init__(
        self,
        settings: Settings,
        *,
        provider: Provider | None = None,
        clock: Callable[[], float] = time.time,
        wait: Callable[[float], object] | None = None,
        verb: str = "python",
    ) -> None:
        self._given_provider = provider
        self._own_provider: BatchApi | None = None
        self._lock = threading.Lock()
        self._pending: PendingWork | None = None
        self._lane: SyncLane | None = None
        self.owner = new_owner()
        #: The threads of waves that run at the same time.
        self.threads = ThreadGroup()
        self.spool = composition.open_spool(settings, self.owner)
        super().__init__(
            Store(settings.resolved_database_url), settings, clock=clock, wait=wait or threading.Event().wait
        )
        try:
            self._wait_for_store(partial(migrate.upgrade, self.store))
        except BaseException:
            self.spool.close()
            self.store.close()
            raise
        self._leases = ProcessLeases(
            self.store, self.spool, owner=self.owner, clock=clock, lease_seconds=settings.lease_seconds
        )
        targets = targets_of(settings)
        self._has_targets = bool(targets)
        #: Writes the events of notifications.
        self.announcer = Announcer(self.store, targets, owner=self.owner, clock=clock)
        self._delivery = Delivery(self.store, targets, owner=self.owner, clock=clock, wait=self._wait)
        self._presence = Presence(self.store, owner=self.owner, verb=verb, clock=clock, trouble=self.trouble)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        reason = stop_reasons.of_error(error)
        # An interrupted command does not wait: the next command delivers.
        self.close(reason, notify_seconds=0.0 if reason == stop_reasons.INTERRUPTED else NOTIFY_SECONDS)

    def close(self, reason: str = stop_reasons.COMMAND_ENDED, *, notify_seconds: float = 0.0) -> None:
        """Give up the leases and close the connections; ``reason`` is stored with the workloads that are still driven.

        Before the connections close, notifications are delivered for ``notify_seconds`` at most.
        """
        self.finish_calls(0.0)
        self._presence.close(reason)
        # Threads that still run are not waited for; they end at their next step.
        self.threads.stopping.set()
        self._leases.give_up()
        if notify_seconds:
            self.notify(notify_seconds)
        if self._own_provider is not None:
            self._own_provider.close()
        self.spool.close()
        self.store.close()

    def calls_under_way(self) -> int:
        """Return how many calls of the sync lane have no answer yet."""
        return 0 if self._lane is None else self._lane.in_flight

    def finish_calls(self, grace_seconds: float) -> int:
        """Send nothing more over the sync lane, and wait so long for the calls under way; return how many got no answer.

        Their requests are in doubt: they may have been paid for.
        """
        return 0 if self._lane is None else self._lane.close(grace_seconds)

    def notify(self, within_seconds: float) -> None:
        """Deliver pending notifications of all processes for at most ``within_seconds``; raise nothing."""
        if self._has_targets:
            self._delivery.deliver(within_seconds, self.announcer.take_unsaved())

    @property
    def provider(self) -> Provider:
        """Return the batch API. Raises ``ConfigurationError`` when there is no key."""
        if self._given_provider is not None:
            return self._given_provider
        with self._lock:
            if self._own_provider is None:
                self._own_provider = composition.build_provider(self.settings)
            return self._own_provider

    def trouble(self, workload_id: WorkloadId) -> Trouble | None:
        """Return the outage that stops the work on a workload, as far as this process knows; None without one."""
        return None if self._pending is None else self._pending.trouble(workload_id)

    def drive(
        self, workload_id: WorkloadId, *, until: DriveUntil = DriveUntil.FINISHED, stop_at: float | None = None
    ) -> Drive:
        """Return a drive of a workload that ends as ``until`` says, or at ``stop_at`` (Unix seconds); see ``Drive``."""
        is_one_pass = until is DriveUntil.ONE_PASS

        def begin() -> None:
            self._leases.hold()
            check_split(self.store, workload_id, now=self.clock())
            self._check_credential(workload_id)
            self.announcer.began(workload_id)
            self._presence.began(workload_id, is_one_pass=is_one_pass)

        def ended(progress: Progress | None, error: BaseException | None) -> None:
            is_finished = progress is not None and progress.is_finished
            reason = stop_reasons.of_error(error) if progress is None else stop_reasons.of_end(until, progress)
            self._presence.stopped(workload_id, reason, is_finished=is_finished, is_one_pass=is_one_pass)
            if progress is not None and progress.state is WorkloadState.STOPPED_BY_BUDGET:
                self.announcer.stopped_by_budget(progress)
            self.announcer.ended(workload_id, error, is_finished=is_finished, is_one_pass=is_one_pass)

        return Drive(workload_id, self._pending_work(), until=until, stop_at=stop_at, begin=begin, ended=ended)

    def run_wave(self, wave: Wave) -> StepReport:
        """Run one wave of a drive. May be called in any thread."""
        self._leases.hold()
        return self._pending_work().run_wave(wave)

    def run_wave_for(self, wave: Wave, *, owner: str, directory: str) -> StepReport:
        """Run a wave of another process, whose runner is ``owner``: take over the shards that it still holds, then run it.

        ``directory`` is the workload's; it shows whether both processes use the same database. Raises ``ConfigurationError``
        when they do not, or when the key is another one.
        """
        self._leases.hold()
        check_same_database(self.store, wave.workload_id, directory)
        self._check_credential(wave.workload_id)
        ids = self._leases.take_over(wave.shard_ids, owner=owner)
        if wave.shard_ids and not ids:
            return StepReport({"taken over": len(wave.shard_ids)})
        return self.run_wave(replace(wave, shard_ids=ids))

    def run_waves(self, waves: Waves) -> list[StepReport | Exception]:
        """Run waves of a drive at the same time: the first in this thread, the others in their own threads.

        Returns the report of each, or the error that it ended with, in their order, when all have ended.
        """
        return self.threads.do([partial(self.run_wave, wave) for wave in waves])

    def process(
        self,
        workload_id: WorkloadId,
        *,
        until: DriveUntil = DriveUntil.FINISHED,
        stop_at: float | None = None,
        observer: Observer = DO_NOTHING,
    ) -> Progress:
        """Drive a workload in a plain loop; return the last snapshot. Raises as ``Drive.next``."""
        drive = self.drive(workload_id, until=until, stop_at=stop_at)
        while True:
            action = self.work(drive, observer)
            if isinstance(action, Done):
                return action.progress
            self._wait(max(action.until - self.clock(), 0))

    def work(self, drive: Drive, observer: Observer) -> Wait | Done:
        """Run the waves of a drive until it wants to wait, or has ended.

        Raises as ``Drive.next``, and ``WorkStopped`` in place of further waves when ``threads.stopping`` is set.
        """
        while isinstance(action := drive.next(), tuple):
            if self.threads.stopping.is_set():
                raise WorkStopped
            for wave in action:
                observer.wave_started(wave)
            outcomes = self.run_waves(action)
            for wave, outcome in zip(action, outcomes, strict=True):
                observer.wave_ended(wave, outcome)
            drive.report(outcomes)
        if isinstance(action, Wait):
            observer.waiting(drive.workload_id, action)
        else:
            for note in action.notes:
                observer.note(note)
        return action

    def _pending_work(self) -> PendingWork:
        """Return the pending work of this process: it remembers how often each workload is polled."""
        context = self._context()
        with self._lock:
            if self._pending is None:
                self._pending = PendingWork(
                    context,
                    composition.pacing_of(self.settings),
                    parallel_waves=self.settings.resolved_parallel_waves,
                    begin=self.threads.begin,
                )
            return self._pending

    def _context(self, *, is_local: bool = False) -> StepContext:
        """Return the context of steps; those that are ``is_local`` need no key."""
        return StepContext(
            store=self.store,
            provider=keyless(self.settings.dialect) if is_local else self.provider,
            spool=self.spool,
            owner=self.owner,
            clock=self.clock,
            timing=composition.timing_of(self.settings),
            transfers=self.settings.transfers,
            stopping=self.threads.stopping,
            merged=self.announcer.merged,
            lane=self._sync_lane,
        )

    def _sync_lane(self) -> SyncLane:
        with self._lock:
            if self._lane is None:
                self._lane = composition.build_lane(self.settings, self.clock)
            return self._lane

    def _check_credential(self, workload_id: WorkloadId) -> None:
        if self._given_provider is None:
            check_credential(self.store, workload_id, self.settings)
