"""The runner that every command works with: composed from the settings, with the user's verbs and the drives of workloads."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
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
from batchkit.engine.records import SHORT_WAIT_SECONDS, WorkloadRecords
from batchkit.engine.threads import ThreadGroup, WorkStopped
from batchkit.engine.waves import Done, DriveUntil, Wait
from batchkit.files.spool import scratch_folder
from batchkit.notifications.delivery import Delivery
from batchkit.notifications.targets import targets_of
from batchkit.owners import is_certainly_dead, new_owner
from batchkit.provider.keyless import keyless
from batchkit.steps import adopt, adopted_files, clean, split, split_plan
from batchkit.steps.adopted_rest import adopted_facts
from batchkit.steps.context import StepContext, StepReport
from batchkit.store import migrate
from batchkit.store.engine import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from batchkit.engine.progress import Progress
    from batchkit.engine.waves import Wave, Waves
    from batchkit.models import BatchId, Trouble, Workload, WorkloadId
    from batchkit.provider.base import Provider
    from batchkit.provider.client import BatchApi
    from batchkit.settings import Settings
    from batchkit.steps.adopted_rest import AdoptedFacts
    from batchkit.steps.reuse_plan import PlannedReuse
    from batchkit.steps.split import SplitOptions
    from batchkit.steps.split_plan import SplitPlan

#: How long the end of a command may wait for its notifications.
NOTIFY_SECONDS = 10.0


class Runner(WorkloadRecords):
    """Everything that a command or a flow needs; open it once, and close it at the end (or use ``with``).

    ``clock`` returns Unix seconds and ``wait`` sleeps for seconds; tests pass their own. ``verb`` is the command of this process,
    which the status shows. An unreachable database is waited for, even while the runner is opened. Raises ``ConfigurationError``
    for a database that does not exist, ``StoreUnusable``, and after ``outage_seconds`` ``StoreUnavailable`` or ``RowsHeld``.
    """

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

    # The user's verbs

    def plan(
        self,
        sources: Sequence[Path],
        options: SplitOptions,
        *,
        advance: Callable[[int], None],
        reuse: PlannedReuse | None = None,
    ) -> SplitPlan:
        """Check the input and return how it would be cut; store and send nothing. ``advance`` takes the number of lines read.

        ``reuse`` tells which requests would not be sent.
        """
        composition.check_sizes(self.settings, options)
        return split_plan.plan(
            sources,
            options=options,
            defaults=composition.split_defaults(self.settings),
            advance=advance,
            reuse=reuse,
        )

    def split(
        self,
        sources: Sequence[Path],
        *,
        name: str,
        options: SplitOptions,
        advance: Callable[[int], None] = lambda _lines: None,
        waiting: Callable[[], None] = lambda: None,
        blanks: Callable[[int], None] = lambda _lines: None,
        accept: Callable[[Collection[str]], None] = lambda _models: None,
        keep: Mapping[str, Path] | None = None,
    ) -> Workload:
        """Make sure that the workload exists and is completely split; with the same input again this is a no-op.

        ``advance`` takes how many more lines were read; ``waiting`` is called while another runner is splitting. ``accept`` takes
        the models before the split is complete, and may raise ``UsageError``. ``blanks`` takes the number of blank lines, if there
        are any, when this call has split the input. ``keep`` maps the names of ``kept_file`` to files that the workload keeps until
        it is cleaned.
        After an outage of the database the split starts again. Raises ``InputInvalid`` and ``WorkloadConflict``, and
        ``StoreUnavailable`` after an outage of ``outage_seconds``; nothing is sent.
        """
        composition.check_sizes(self.settings, options)
        self._wait_for_store(self._leases.hold)
        options = replace(options, reuse_scope=composition.reuse_scope(self.settings, options))
        while True:
            workload = self._wait_for_store(
                partial(
                    split.split,
                    self._context(),
                    sources,
                    name=name,
                    options=options,
                    defaults=composition.split_defaults(self.settings),
                    advance=advance,
                    blanks=blanks,
                    accept=accept,
                    keep=keep,
                )
            )
            if workload is not None:
                return workload
            waiting()
            self._wait(SHORT_WAIT_SECONDS)

    def adopt(
        self,
        ids: Sequence[BatchId],
        *,
        name: str,
        options: SplitOptions,
        separate: bool = False,
        requests: Sequence[Path] = (),
        outputs: Sequence[Path] = (),
        errors: Sequence[Path] = (),
        note: Callable[[str], object] = lambda _text: None,
        waiting: Callable[[], None] = lambda: None,
    ) -> Workload:
        """Make sure that the workload of these batches exists; with the same batches again this is a no-op. Nothing is sent.

        ``requests`` are files of requests, used for batches whose input the provider does not have. ``outputs`` and ``errors`` are
        files of answers: with them there are no ids, and nothing is asked of the provider. ``note`` takes sentences about what is
        missing or odd. Raises ``UsageError``, ``WorkloadConflict`` and ``InputUnreadable``, and then nothing is stored.
        """
        composition.check_sizes(self.settings, options)
        self._wait_for_store(self._leases.hold)
        context = self._context()
        with self.scratch() as folder:
            imported = None
            if not ids:
                batch, answers = adopt.files_as_batch(outputs, errors, folder)
                imported = adopted_files.imported(batch, answers, requests, folder)
                ids = [batch.id]
            find = partial(adopt.find_adopted, context, name, ids)
            known = self._wait_for_store(find)
            if known is not None:
                return known
            if imported is None:
                found = adopted_files.read_batches(context, ids)
                imported = adopted_files.fetch_files(context, found, folder, given=requests)
            adoption = adopt.prepare(context, imported.adopted, separate=separate)
            for text in (*imported.notes, *adoption.index.notes()):
                note(text)
            make = partial(
                adopt.adopt,
                context,
                adoption,
                name=name,
                options=options,
                defaults=composition.split_defaults(self.settings),
            )
            while (workload := self._wait_for_store(make)) is None:
                waiting()
                self._wait(SHORT_WAIT_SECONDS)
                workload = self._wait_for_store(find)
                if workload is not None:
                    break
            return workload

    def adopted(self, workload_id: WorkloadId) -> AdoptedFacts:
        """Return how the requests of a workload of adopted batches failed, and what ``resubmit`` would send. Raises ``SpoolError``."""
        return adopted_facts(self._context(is_local=True), workload_id)

    def kept_file(self, workload: Workload, name: str) -> Path:
        """Return the path of a file that the workload keeps. Raises ``SpoolError`` when it is lost."""
        return self.spool.kept(f"{workload.directory}/{name}")

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield a folder for files that only the ``with`` block needs; the folders of killed processes are deleted."""
        with scratch_folder(self.settings.home, self.owner, is_dead=is_certainly_dead) as folder:
            yield folder

    def clean(self, name: str, *, keep_results: bool, with_adopted: bool = False) -> StepReport:
        """Delete a finished workload's files in the spool and at the provider, and its rows unless ``keep_results``.

        Files of adopted batches stay at the provider unless ``with_adopted``. Everything of an interrupted split is deleted. Raises ``SplitUnfinished`` while another command is splitting it.
        """
        self._leases.hold()
        workload = self.find(name)
        if workload.request_count is None and not self._leases.take_split(workload.id):
            check_split(self.store, workload.id, now=self.clock())
            workload = self.find(name)
        is_local = clean.is_local(self.store, workload, with_adopted=with_adopted)
        return clean.clean(
            self._context(is_local=is_local),
            workload,
            keep_results=keep_results and workload.request_count is not None,
            with_adopted=with_adopted,
        )

    # Driving

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
            if progress is None:
                reason = stop_reasons.of_error(error)
            else:
                reason = stop_reasons.of_end(until, is_finished=is_finished)
            self._presence.stopped(workload_id, reason, is_finished=is_finished, is_one_pass=is_one_pass)
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
        )

    def _check_credential(self, workload_id: WorkloadId) -> None:
        if self._given_provider is None:
            check_credential(self.store, workload_id, self.settings)
