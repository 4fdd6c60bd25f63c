"""The composition root: builds store, provider and spool from the settings, and offers the user's verbs on them."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar

from batchkit.engine.announcements import Announcer
from batchkit.engine.driver import Drive
from batchkit.engine.observer import DO_NOTHING, Observer
from batchkit.engine.outage import StoreOutage
from batchkit.engine.pending import Pacing, PendingWork
from batchkit.engine.presence import Presence
from batchkit.engine.progress import Progress, WorkloadState, check_split, read_progress
from batchkit.engine.threads import ThreadGroup, WorkStopped
from batchkit.engine.waves import Done, DriveUntil, Wait
from batchkit.errors import (
    BatchkitError,
    ConfigurationError,
    SpoolError,
    StoreError,
    UnknownWorkload,
)
from batchkit.files.remote import RemoteFiles
from batchkit.files.shared_spool import SharedSpool
from batchkit.files.spool import Spool, scratch_folder
from batchkit.leases import LeaseKeeper, dead_among, is_certainly_dead, new_owner
from batchkit.models import ShardState
from batchkit.notifications.delivery import Delivery
from batchkit.notifications.targets import targets_of
from batchkit.provider.groq.client import GroqProvider, credential_digest
from batchkit.provider.options import HttpOptions
from batchkit.steps import cancel, clean, export, resubmit, split
from batchkit.steps.context import StepContext, StepReport, Timing
from batchkit.steps.split import SplitDefaults
from batchkit.store import migrate, shards, work_time, workloads
from batchkit.store.engine import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from batchkit.engine.waves import Wave, Waves
    from batchkit.models import Trouble, Workload, WorkloadId
    from batchkit.provider.base import Provider
    from batchkit.settings import Settings
    from batchkit.steps.split import SplitOptions, SplitPlan

T = TypeVar("T")

logger = logging.getLogger(__name__)

_SPLIT_WAIT_SECONDS = 1.0
#: Why a drive that met no error ended before its workload did.
_REASONS = {
    DriveUntil.FINISHED: "its time was up",
    DriveUntil.SUBMITTED: "everything was submitted",
    DriveUntil.ONE_PASS: "the command waits for no batch",
}
#: How long the end of a command may wait for its notifications.
NOTIFY_SECONDS = 10.0
#: The exit code of a command after Ctrl-C.
_INTERRUPTED = 130
_REASON_INTERRUPTED = "interrupted"
#: A workload that has no shard in any of these states has nothing at the provider: not a file, not a batch.
_SENT = tuple(state for state in ShardState if state not in {ShardState.PLANNED, ShardState.WITHDRAWN})


class Runner:
    """Everything a command or a flow needs; open it once, close it at the end (or use ``with``).

    ``clock`` gives Unix seconds and ``wait`` sleeps for some; tests pass their own. ``verb`` is the command that this process
    carries out, as others are told who works on a workload. A database that is away is waited for, also while a runner is
    opened. Raises ``ConfigurationError`` for a database that does not exist, ``StoreUnusable``, and after ``outage_seconds``
    ``StoreUnavailable`` or ``RowsHeld``.
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
        self.settings = settings
        self.clock = clock
        self._wait = wait or threading.Event().wait
        self._given_provider = provider
        self._own_provider: GroqProvider | None = None
        self._lock = threading.Lock()
        self._keeper: LeaseKeeper | None = None
        self._are_dead_owners_freed = False
        self._pending: PendingWork | None = None
        self.owner = new_owner()
        #: Does the waves that run at the same time.
        self.threads = ThreadGroup()
        self.spool = _open_spool(settings, self.owner)
        self.store = Store(settings.resolved_database_url)
        try:
            self._wait_for_store(partial(migrate.upgrade, self.store))
        except BaseException:
            self.spool.close()
            self.store.close()
            raise
        targets = targets_of(settings)
        self._has_targets = bool(targets)
        #: Writes the events that users are notified of.
        self.announcer = Announcer(self.store, targets, owner=self.owner, clock=clock)
        self._delivery = Delivery(self.store, targets, owner=self.owner, clock=clock, wait=self._wait)
        self._presence = Presence(self.store, owner=self.owner, verb=verb, clock=clock, trouble=self.trouble)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        reason = _reason(error)
        # Whoever interrupts a command does not want to wait: the next command delivers.
        self.close(reason, notify_seconds=0.0 if reason == _REASON_INTERRUPTED else NOTIFY_SECONDS)

    def close(self, reason: str = "the command ended", *, notify_seconds: float = 0.0) -> None:
        """Give up the leases and close the connections; ``reason`` is told of the workloads that are still driven.

        In between notifications are delivered, for ``notify_seconds`` at most.
        """
        self._presence.close(reason)
        # Whatever still runs in a thread of its own is not waited for, and ends at its next step.
        self.threads.stopping.set()
        if self._keeper is not None:
            self._keeper.close()
            # Leases that cannot be given up, because the database is away, run out by themselves.
            with suppress(StoreError), self.store.write() as connection:
                shards.leave_submitting(connection, self.owner, now=self.clock())
                shards.release(connection, self.owner)
                workloads.release_lease(connection, self.owner)
        if notify_seconds:
            self.notify(notify_seconds)
        if self._own_provider is not None:
            self._own_provider.close()
        self.spool.close()
        self.store.close()

    def notify(self, within_seconds: float) -> None:
        """Deliver the notifications that are due, this process's and others', for ``within_seconds`` at most; raises nothing."""
        if self._has_targets:
            self._delivery.deliver(within_seconds, self.announcer.take_unsaved())

    @property
    def provider(self) -> Provider:
        """The batch API. Raises ``ConfigurationError`` when there is no key."""
        if self._given_provider is not None:
            return self._given_provider
        with self._lock:
            if self._own_provider is None:
                self._own_provider = _build_provider(self.settings)
            return self._own_provider

    # Reading

    def known(self, name: str) -> Workload | None:
        """Read a workload by name; None when there is none."""

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
        """Read the workloads that still owe answers, oldest first."""
        with self.store.read() as connection:
            return workloads.open_workloads(connection)

    def progress(self, workload_id: WorkloadId) -> Progress:
        """Read where a workload stands."""
        with self.store.read() as connection:
            return read_progress(
                connection,
                workloads.get(connection, workload_id),
                now=self.clock(),
                linger_seconds=self.settings.resubmit_linger_seconds,
            )

    def work_seconds(self, progress: Progress) -> float:
        """Read how long a workload was worked on: seconds in which a command drove it or a batch ran, up to its end or now."""
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

    def trouble(self, workload_id: WorkloadId) -> Trouble | None:
        """Return what this process knows to be away, so that the work on a workload cannot continue; None when nothing is."""
        return None if self._pending is None else self._pending.trouble(workload_id)

    # The user's verbs

    def plan(self, sources: Sequence[Path], options: SplitOptions, *, advance: Callable[[int], None]) -> SplitPlan:
        """Check the input and say how it would be cut; stores and sends nothing. ``advance`` is told lines read."""
        return split.plan(sources, options=options, defaults=self._split_defaults(), advance=advance)

    def split(
        self,
        sources: Sequence[Path],
        *,
        name: str,
        options: SplitOptions,
        advance: Callable[[int], None] = lambda _lines: None,
        waiting: Callable[[], None] = lambda: None,
        keep: Mapping[str, Path] | None = None,
    ) -> Workload:
        """Make sure that the workload exists and is split whole; the same input again is a no-op.

        ``advance`` is told how many more lines were read; ``waiting`` is called while another runner is splitting. ``keep`` are
        files that the workload keeps until it is cleaned, by the names that ``kept_file`` finds them by.
        A database that goes away is waited for, and the split begun anew. Raises ``InputInvalid`` and ``WorkloadConflict``,
        and ``StoreUnavailable`` after an outage of ``outage_seconds``; nothing is sent.
        """
        self._wait_for_store(self._hold_leases)
        while True:
            workload = self._wait_for_store(
                partial(
                    split.split,
                    self._context(),
                    sources,
                    name=name,
                    options=options,
                    defaults=self._split_defaults(),
                    advance=advance,
                    keep=keep,
                )
            )
            if workload is not None:
                return workload
            waiting()
            self._wait(_SPLIT_WAIT_SECONDS)

    def change_policies(self, workload: Workload, options: SplitOptions) -> Workload:
        """Take over the retry policies that ``options`` give anew, for a workload that is split already."""
        return split.change_policies(self.store, workload, options)

    def kept_file(self, workload: Workload, name: str) -> Path:
        """Find a file that the workload keeps. Raises ``SpoolError`` when it is lost."""
        return self.spool.kept(f"{workload.directory}/{name}")

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give a folder for files that are needed no more after the ``with`` block; what a killed process left there is deleted."""
        with scratch_folder(self.settings.home, self.owner, is_dead=is_certainly_dead) as folder:
            yield folder

    def request_cancel(self, name: str) -> Workload:
        """Note that the user wants no more of a workload; the next pass acts on it.

        Of a workload whose split was interrupted nothing was sent, and nothing will be. Raises ``SplitUnfinished`` while another
        command is splitting it.
        """
        workload = self.find(name)
        if self.progress(workload.id).state is not WorkloadState.INTERRUPTED:
            self._check_split(workload.id)
        with self.store.write() as connection:
            cancel.request(connection, workload, at=self.clock())
        return workload

    def reopen(self, name: str, *, failed: bool) -> int:
        """Make what was cancelled, and with ``failed`` what failed, pending again; returns how many requests.

        Raises ``SplitUnfinished`` as ``drive``.
        """
        workload = self.find(name)
        self._check_split(workload.id)
        with self.store.write() as connection:
            return resubmit.reopen(connection, workload, failed=failed, at=self.clock())

    def export(
        self, name: str, target: Path, *, raw_csv: bool = False, advance: Callable[[int], None] = lambda _rows: None
    ) -> int:
        """Write one line per request in input order to ``.jsonl``, ``.csv`` or ``.parquet``; returns how many."""
        return export.export(self.store, self.find(name), target, raw_csv=raw_csv, advance=advance)

    def clean(self, name: str, *, keep_results: bool) -> StepReport:
        """Delete a finished workload's files in the spool and at the provider, and its rows unless ``keep_results``.

        What an interrupted split left is deleted whole. Raises ``SplitUnfinished`` while another command is splitting it.
        """
        self._hold_leases()
        workload = self.find(name)
        if workload.request_count is None and not self._takes_split(workload.id):
            self._check_split(workload.id)
            workload = self.find(name)
        return clean.clean(self._context(), workload, keep_results=keep_results and workload.request_count is not None)

    # Driving

    def drive(
        self, workload_id: WorkloadId, *, until: DriveUntil = DriveUntil.FINISHED, stop_at: float | None = None
    ) -> Drive:
        """Begin to drive a workload until it is finished, submitted, or ``stop_at`` (Unix seconds) is reached; see ``Drive``."""
        is_one_pass = until is DriveUntil.ONE_PASS

        def begin() -> None:
            self._hold_leases()
            self._check_split(workload_id)
            self._check_credential(workload_id)
            self.announcer.began(workload_id)
            self._presence.began(workload_id, is_one_pass=is_one_pass)

        def ended(progress: Progress | None, error: BaseException | None) -> None:
            is_finished = progress is not None and progress.is_finished
            reason = _reason(error) if progress is None else "finished" if is_finished else _REASONS[until]
            self._presence.stopped(workload_id, reason, is_finished=is_finished, is_one_pass=is_one_pass)
            self.announcer.ended(workload_id, error, is_finished=is_finished, is_one_pass=is_one_pass)

        return Drive(workload_id, self._pending_work(), until=until, stop_at=stop_at, begin=begin, ended=ended)

    def run_wave(self, wave: Wave) -> StepReport:
        """Do one wave of a drive. May be called in any thread."""
        self._hold_leases()
        return self._pending_work().run_wave(wave)

    def run_wave_for(self, wave: Wave, *, owner: str, directory: str) -> StepReport:
        """Do a wave that another process's runner, ``owner``, has taken; its shards become ours first, as far as it still holds them.

        ``directory`` is the workload's, which tells whether both use the same database. Raises ``ConfigurationError``
        when they do not, or when the key is another one.
        """
        self._hold_leases()
        with self.store.read() as connection:
            names = {workload.id: workload.directory for workload in workloads.open_workloads(connection)}
        if names.get(wave.workload_id) != directory:
            raise ConfigurationError(
                f"a process that is to do work finds no such workload in {self.store.display_url}",
                hint="set the same BATCHKIT_DATABASE_URL in the environment of every worker",
            )
        self._check_credential(wave.workload_id)
        with self.store.write() as connection:
            ids = shards.hand_over(
                connection,
                wave.shard_ids,
                owner=owner,
                to=self.owner,
                until=self.clock() + self.settings.lease_seconds,
            )
        if wave.shard_ids and not ids:
            return StepReport({"taken over": len(wave.shard_ids)})
        return self.run_wave(replace(wave, shard_ids=ids))

    def run_waves(self, waves: Waves) -> list[StepReport | Exception]:
        """Do waves of a drive at the same time: the first in this thread, the others beside it.

        Returns what each did, or the error that it ended with, in their order, when all have ended.
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
        """Drive a workload in a plain loop; returns the last snapshot. Raises as ``Drive.next``."""
        drive = self.drive(workload_id, until=until, stop_at=stop_at)
        while True:
            action = self.work(drive, observer)
            if isinstance(action, Done):
                return action.progress
            self._wait(max(action.until - self.clock(), 0))

    def work(self, drive: Drive, observer: Observer) -> Wait | Done:
        """Do the waves of a drive until it wants to wait, or has ended.

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

    # Inside

    def _wait_for_store(self, call: Callable[[], T]) -> T:
        """Call until the database is there, for ``outage_seconds`` at most; see ``StoreOutage.call``."""
        outage = StoreOutage(
            self.clock,
            limit_seconds=self.settings.outage_seconds,
            first_wait_seconds=min(_SPLIT_WAIT_SECONDS, self.settings.poll_interval_seconds),
        )
        return outage.call(call, wait=self._wait)

    def _split_defaults(self) -> SplitDefaults:
        settings = self.settings
        return SplitDefaults(
            window=settings.window,
            max_window=settings.max_window,
            shard_lines=settings.shard_lines,
            shard_bytes=settings.shard_bytes,
            max_attempts=settings.max_attempts,
            max_expiries=settings.max_expiries,
        )

    def _pending_work(self) -> PendingWork:
        """Return the one there is: it remembers how often each workload is polled."""
        context = self._context()
        with self._lock:
            if self._pending is None:
                self._pending = PendingWork(
                    context,
                    Pacing(
                        poll_interval_seconds=self.settings.poll_interval_seconds,
                        max_poll_interval_seconds=self.settings.max_poll_interval_seconds,
                        outage_seconds=self.settings.outage_seconds,
                    ),
                    parallel_waves=self.settings.resolved_parallel_waves,
                    begin=self.threads.begin,
                )
            return self._pending

    def _context(self) -> StepContext:
        settings = self.settings
        return StepContext(
            store=self.store,
            provider=self.provider,
            spool=self.spool,
            owner=self.owner,
            clock=self.clock,
            timing=Timing(
                lease_seconds=settings.lease_seconds,
                settle_seconds=settings.settle_seconds,
                stuck_seconds=settings.stuck_seconds,
                resubmit_linger_seconds=settings.resubmit_linger_seconds,
                capacity_wait_seconds=settings.capacity_wait_seconds,
            ),
            transfers=settings.transfers,
            stopping=self.threads.stopping,
            merged=self.announcer.merged,
        )

    def _hold_leases(self) -> None:
        """Start renewing our leases, and free those of processes of this machine that are dead."""
        with self._lock:
            if self._keeper is None:
                self._keeper = LeaseKeeper(self._renew_leases, self.settings.lease_seconds / 3)
        if self._are_dead_owners_freed:
            return
        with self.store.write() as connection:
            for owner in dead_among(shards.lease_owners(connection) | workloads.lease_owners(connection)):
                shards.release(connection, owner)
                workloads.release_lease(connection, owner)
        self._are_dead_owners_freed = True
        try:
            self.spool.sweep(is_certainly_dead)
        except SpoolError as error:
            # What others left takes room and is in nobody's way: the next process tries again.
            logger.warning("%s; the work continues without that", error.message)

    def _renew_leases(self) -> None:
        until = self.clock() + self.settings.lease_seconds
        with self.store.write() as connection:
            shards.renew_leases(connection, self.owner, until)
            workloads.renew_leases(connection, self.owner, until)

    def _check_split(self, workload_id: WorkloadId) -> None:
        """See that the input is split whole: of any other workload nothing may be sent."""
        with self.store.read() as connection:
            check_split(connection, workload_id, now=self.clock())

    def _takes_split(self, workload_id: WorkloadId) -> bool:
        """Take an interrupted split from whoever might begin it anew; says whether nobody has it."""
        with self.store.write() as connection:
            return workloads.take_lease(
                connection,
                workload_id,
                owner=self.owner,
                now=self.clock(),
                lease_seconds=self.settings.lease_seconds,
            )

    def _check_credential(self, workload_id: WorkloadId) -> None:
        """Refuse another key than the one that submitted: it would not see the batches, and buy them again."""
        if self._given_provider is not None:
            return
        key = self.settings.api_key
        digest = credential_digest(self.settings.base_url, key.get_secret_value() if key else "")
        with self.store.write() as connection:
            workload = workloads.get(connection, workload_id)
            if workload.credential == digest:
                return
            was_sent = shards.has_any(connection, workload_id, _SENT)
            if workload.credential is None or self.settings.accept_other_key or not was_sent:
                workloads.set_values(connection, workload_id, credential=digest)
            else:
                raise ConfigurationError(
                    f"workload {workload.name!r} was submitted with another key or address than the present one",
                    hint="set the GROQ_API_KEY and BATCHKIT_BASE_URL that submitted it; if both belong to the same"
                    " organisation, say so with --accept-other-key",
                )


def _reason(error: BaseException | None) -> str:
    """Write why a command stopped, for whoever asks for the status later."""
    if error is None:
        return "the command ended"
    if isinstance(error, KeyboardInterrupt):
        return _REASON_INTERRUPTED
    if isinstance(error, BatchkitError):
        return error.message
    code = getattr(error, "exit_code", None)
    if code is None:
        return f"{type(error).__name__}: {error}"
    return _REASON_INTERRUPTED if code == _INTERRUPTED else "the command ended"


def _open_spool(settings: Settings, owner: str) -> Spool:
    if not settings.spool_url:
        return Spool(settings.home)
    return SharedSpool(settings.home, RemoteFiles(settings.spool_url), owner=owner)


def _build_provider(settings: Settings) -> GroqProvider:
    if settings.api_key is None or not settings.api_key.get_secret_value():
        raise ConfigurationError(
            "there is no API key",
            hint="set GROQ_API_KEY (console.groq.com/keys), or try everything without one: `batchkit demo`",
        )
    return GroqProvider(
        base_url=settings.base_url,
        api_key=settings.api_key,
        options=HttpOptions(
            connect_timeout_seconds=settings.connect_timeout_seconds,
            read_timeout_seconds=settings.http_timeout_seconds,
            attempts=settings.http_attempts,
            allow_insecure_http=settings.allow_insecure_http,
        ),
    )
