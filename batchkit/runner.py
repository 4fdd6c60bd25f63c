"""The composition root: builds store, provider and spool, and decides which step is due.

``Runner.drive`` is the one loop there is. It yields what to do next, a wave of work or a wait, and somebody else does it: the
plain loop below, or Prefect flows that run each wave as a task. Both therefore do exactly the same things in the same order.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Self, assert_never

from batchkit.errors import ConfigurationError, ProviderUnreachable, UnknownWorkload
from batchkit.leases import LeaseKeeper, dead_among, new_owner
from batchkit.models import ShardId, ShardState, WorkloadId
from batchkit.progress import Progress, read_progress
from batchkit.provider.groq import GroqProvider, credential_digest
from batchkit.spool import Spool
from batchkit.steps import cancel, clean, export, merge, poll, resubmit, settle, split, submit
from batchkit.steps.context import StepContext, StepReport, Timing
from batchkit.steps.split import SplitDefaults
from batchkit.store import migrate, shards, workloads
from batchkit.store.engine import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from batchkit.models import Workload
    from batchkit.provider.base import Provider
    from batchkit.settings import Settings
    from batchkit.steps.split import SplitOptions, SplitPlan

#: Shards uploaded and created, and shards merged, in one wave.
SUBMIT_WAVE_SHARDS = 200
MERGE_WAVE_SHARDS = 50

_SHORTEST_WAIT_SECONDS = 1.0
_POLL_BACKOFF = 1.5


class WaveKind(StrEnum):
    """The kinds of work that are worth a task of their own."""

    MERGE = "merge"
    RESUBMIT = "resubmit"
    SUBMIT = "submit"


@dataclass(frozen=True, slots=True)
class Wave:
    """Work that is due now: ids only, so that it travels anywhere."""

    kind: WaveKind
    workload_id: WorkloadId
    shard_ids: tuple[ShardId, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is due until ``until`` (Unix seconds); ``progress`` is the picture now, ``notes`` what the pass has to say."""

    until: float
    progress: Progress
    notes: tuple[str, ...]


class DriveUntil(StrEnum):
    """When a drive ends by itself."""

    FINISHED = "finished"
    SUBMITTED = "submitted"
    ONE_PASS = "one_pass"  # noqa: S105 - a pass, not a password


@dataclass(slots=True)
class _PollPace:
    interval_seconds: float
    due_at: float


class Runner:
    """Everything a command or a flow needs; open it once, close it at the end (or use ``with``).

    ``clock`` gives Unix seconds and ``wait`` sleeps for some; tests pass their own.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        provider: Provider | None = None,
        clock: Callable[[], float] = time.time,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self._wait = wait or threading.Event().wait
        self._given_provider = provider
        self._own_provider: GroqProvider | None = None
        self._lock = threading.Lock()
        self._keeper: LeaseKeeper | None = None
        self._paces: dict[WorkloadId, _PollPace] = {}
        self.owner = new_owner()
        self.spool = Spool(settings.home)
        self.store = Store(settings.resolved_database_url)
        migrate.upgrade(self.store)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up the leases and close the connections."""
        if self._keeper is not None:
            self._keeper.close()
            with self.store.write() as connection:
                shards.release(connection, self.owner)
                workloads.release_lease(connection, self.owner)
        if self._own_provider is not None:
            self._own_provider.close()
        self.store.close()

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

    def find(self, name: str) -> Workload:
        """Read a workload by name. Raises ``UnknownWorkload``."""
        with self.store.read() as connection:
            workload = workloads.find(connection, name)
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
            return read_progress(connection, workloads.get(connection, workload_id), now=self.clock())

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
    ) -> Workload:
        """Make sure that the workload exists and is split whole; the same input again is a no-op.

        ``advance`` is told how many more lines were read; ``waiting`` is called while another runner is splitting.
        Raises ``InputInvalid`` and ``WorkloadConflict``; nothing is sent.
        """
        self._hold_leases()
        while True:
            workload = split.split(
                self._context(),
                sources,
                name=name,
                options=options,
                defaults=self._split_defaults(),
                advance=advance,
            )
            if workload is not None:
                return workload
            waiting()
            self._wait(_SHORTEST_WAIT_SECONDS)

    def request_cancel(self, name: str) -> Workload:
        """Note that the user wants no more of a workload; the next pass acts on it."""
        workload = self.find(name)
        with self.store.write() as connection:
            cancel.request(connection, workload, at=self.clock())
        return workload

    def reopen(self, name: str, *, failed: bool) -> int:
        """Make what was cancelled, and with ``failed`` what failed, pending again; returns how many requests."""
        workload = self.find(name)
        with self.store.write() as connection:
            return resubmit.reopen(connection, workload, failed=failed, at=self.clock())

    def export(self, name: str, target: Path, *, advance: Callable[[int], None] = lambda _rows: None) -> int:
        """Write one line per request in input order to ``.jsonl`` or ``.csv``; returns how many."""
        return export.export(self.store, self.find(name), target, advance=advance)

    def clean(self, name: str, *, keep_results: bool) -> StepReport:
        """Delete a finished workload's files here and at the provider, and its rows unless ``keep_results``."""
        return clean.clean(self._context(), self.find(name), keep_results=keep_results)

    # Driving

    def drive(
        self, workload_id: WorkloadId, *, until: DriveUntil = DriveUntil.FINISHED, deadline: float | None = None
    ) -> Generator[Wave | Wait, StepReport | None, Progress]:
        """Yield what is to be done for a workload, until it is finished, submitted, or ``deadline`` (Unix seconds) is reached.

        A ``Wave`` is answered with its report (``send``), a ``Wait`` with nothing. Returns the last picture. Raises
        ``Unauthorized`` and ``Forbidden`` at once, ``ProviderUnreachable`` after an outage of ``outage_seconds``.
        """
        self._check_credential(workload_id)
        outage_since: float | None = None
        while True:
            report = yield from self._pass(workload_id)
            progress = self.progress(workload_id)
            if progress.is_finished or until is DriveUntil.ONE_PASS or self._stops(until, progress):
                return progress
            now = self.clock()
            outage_since = (outage_since or now) if report.outage else None
            if report.outage and outage_since is not None and now - outage_since >= self.settings.outage_seconds:
                raise ProviderUnreachable(
                    f"the provider could not be reached for {now - outage_since:.0f} s: {report.outage}",
                    hint="nothing is lost: run the same command again later",
                )
            due = self._next_due(workload_id, now)
            if deadline is not None and due > deadline:
                return progress
            yield Wait(due, progress, report.notes)

    def run_wave(self, wave: Wave) -> StepReport:
        """Do one wave. May be called in any thread."""
        context = self._context()
        match wave.kind:
            case WaveKind.MERGE:
                return merge.merge(context, wave.workload_id, wave.shard_ids)
            case WaveKind.RESUBMIT:
                return resubmit.resubmit(context, wave.workload_id)
            case WaveKind.SUBMIT:
                return submit.submit(context, wave.workload_id, wave.shard_ids)
            case _ as never:
                assert_never(never)

    def process(
        self,
        workload_id: WorkloadId,
        *,
        until: DriveUntil = DriveUntil.FINISHED,
        deadline: float | None = None,
        on_wave: Callable[[Wave, StepReport], None] = lambda _wave, _report: None,
        on_wait: Callable[[Wait], None] = lambda _wait: None,
    ) -> Progress:
        """Drive a workload in a plain loop, without Prefect."""
        drive = self.drive(workload_id, until=until, deadline=deadline)
        report: StepReport | None = None
        while True:
            try:
                action = drive.send(report)
            except StopIteration as stop:
                progress: Progress = stop.value
                return progress
            report = None
            match action:
                case Wave():
                    report = self.run_wave(action)
                    on_wave(action, report)
                case Wait():
                    on_wait(action)
                    self._wait(max(action.until - self.clock(), 0))
                case _ as never:
                    assert_never(never)

    # Inside

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
        )

    def _hold_leases(self) -> None:
        """Start renewing our leases, and free those of processes of this machine that are dead."""
        with self._lock:
            if self._keeper is not None:
                return
            self._keeper = LeaseKeeper(self._renew_leases, self.settings.lease_seconds / 3)
        with self.store.write() as connection:
            for owner in dead_among(shards.lease_owners(connection) | workloads.lease_owners(connection)):
                shards.release(connection, owner)
                workloads.release_lease(connection, owner)

    def _renew_leases(self) -> None:
        until = self.clock() + self.settings.lease_seconds
        with self.store.write() as connection:
            shards.renew_leases(connection, self.owner, until)
            workloads.renew_leases(connection, self.owner, until)

    def _check_credential(self, workload_id: WorkloadId) -> None:
        """Refuse to go on with another key than the one that submitted: it would not see the batches, and buy them again."""
        if self._given_provider is not None:
            return
        key = self.settings.api_key
        digest = credential_digest(self.settings.base_url, key.get_secret_value() if key else "")
        with self.store.write() as connection:
            workload = workloads.get(connection, workload_id)
            if workload.credential is None or (workload.credential != digest and self.settings.accept_other_key):
                workloads.set_values(connection, workload_id, credential=digest)
            elif workload.credential != digest:
                raise ConfigurationError(
                    f"workload {workload.name!r} was submitted with another key or address than the present one",
                    hint="set the GROQ_API_KEY and BATCHKIT_BASE_URL that submitted it; if both belong to the same"
                    " organisation, say so with --accept-other-key",
                )

    def _pass(self, workload_id: WorkloadId) -> Generator[Wave, StepReport | None, StepReport]:
        """One look at a workload, and a wave for everything that is due."""
        self._hold_leases()
        context = self._context()
        total = settle.settle(context, workload_id)
        total += cancel.cancel(context, workload_id)
        total += self._poll(context, workload_id)
        for kind, states, limit in (
            (WaveKind.MERGE, (ShardState.ENDED,), MERGE_WAVE_SHARDS),
            (WaveKind.RESUBMIT, (), 0),
            (WaveKind.SUBMIT, (ShardState.PLANNED, ShardState.UPLOADED), SUBMIT_WAVE_SHARDS),
        ):
            if kind is WaveKind.RESUBMIT:
                if resubmit.is_due(context, workload_id):
                    total += (yield Wave(kind, workload_id)) or StepReport({})
                continue
            while ids := self._claim(workload_id, states, limit):
                report = (yield Wave(kind, workload_id, ids)) or StepReport({})
                if report.counts.get("submitted"):
                    self._pace_anew(workload_id)
                total += report
        return total

    def _claim(self, workload_id: WorkloadId, states: Sequence[ShardState], limit: int) -> tuple[ShardId, ...]:
        taken: list[ShardId] = []
        with self.store.write() as connection:
            for state in states:
                claimed = shards.claim(
                    connection,
                    workload_id,
                    state,
                    owner=self.owner,
                    now=self.clock(),
                    lease_seconds=self.settings.lease_seconds,
                    limit=limit - len(taken),
                )
                taken.extend(shard.id for shard in claimed)
        return tuple(taken)

    def _poll(self, context: StepContext, workload_id: WorkloadId) -> StepReport:
        """Poll when it is time; the wait grows while no status changes."""
        pace = self._paces.get(workload_id)
        if pace is not None and self.clock() < pace.due_at:
            return StepReport({})
        report = poll.poll(context, workload_id)
        shortest = self.settings.poll_interval_seconds
        interval = shortest
        if pace is not None and not report.counts.get("changed"):
            interval = min(
                pace.interval_seconds * _POLL_BACKOFF, max(self.settings.max_poll_interval_seconds, shortest)
            )
        self._paces[workload_id] = _PollPace(interval, self.clock() + interval)
        return report

    def _pace_anew(self, workload_id: WorkloadId) -> None:
        """Fresh batches are looked at soon, however long the wait for the old ones had grown."""
        shortest = self.settings.poll_interval_seconds
        pace = self._paces.get(workload_id)
        due_at = self.clock() + shortest
        self._paces[workload_id] = _PollPace(shortest, due_at if pace is None else min(pace.due_at, due_at))

    def _stops(self, until: DriveUntil, progress: Progress) -> bool:
        if until is not DriveUntil.SUBMITTED:
            return False
        unsent = (ShardState.PLANNED, ShardState.UPLOADED, ShardState.SUBMITTING)
        return not any(progress.shards.get(state) for state in unsent)

    def _next_due(self, workload_id: WorkloadId, now: float) -> float:
        """Say when something is due next; never sooner than a moment, never later than the longest poll interval."""
        pace = self._paces.get(workload_id)
        due = [now + self.settings.max_poll_interval_seconds]
        if pace is not None:
            due.append(pace.due_at)
        with self.store.read() as connection:
            for state in (ShardState.PLANNED, ShardState.UPLOADED, ShardState.SUBMITTING, ShardState.ENDED):
                at = shards.next_due(connection, workload_id, state)
                if at is not None:
                    due.append(at)
            pending = resubmit.next_due(connection, self._context(), workload_id)
            if pending is not None:
                due.append(pending)
        return max(min(due), now + min(_SHORTEST_WAIT_SECONDS, self.settings.poll_interval_seconds))


def _build_provider(settings: Settings) -> GroqProvider:
    if settings.api_key is None or not settings.api_key.get_secret_value():
        raise ConfigurationError(
            "there is no API key",
            hint="set GROQ_API_KEY (console.groq.com/keys), or try everything without one: `batchkit demo`",
        )
    return GroqProvider(
        base_url=settings.base_url,
        api_key=settings.api_key,
        read_timeout_seconds=settings.http_timeout_seconds,
        connect_timeout_seconds=settings.connect_timeout_seconds,
        http_attempts=settings.http_attempts,
        allow_insecure_http=settings.allow_insecure_http,
    )
