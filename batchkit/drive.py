"""Deciding what is due: the one loop there is.

``Driver.drive`` yields what to do next, a wave of work or a wait, and somebody else does it: the plain loop of
``Runner.process``, or Prefect flows that run each wave as a task. Both therefore do the same things in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from batchkit.errors import ProviderUnreachable
from batchkit.models import ShardId, ShardState, WorkloadId
from batchkit.progress import Progress, read_progress
from batchkit.steps import cancel, merge, poll, resubmit, settle, submit
from batchkit.steps.context import StepReport
from batchkit.store import shards, workloads

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from batchkit.steps.context import StepContext

#: Shards uploaded and created, and shards merged, in one wave.
SUBMIT_WAVE_SHARDS = 200
MERGE_WAVE_SHARDS = 50

_SHORTEST_WAIT_SECONDS = 1.0
_POLL_BACKOFF = 1.5
#: A pass that did any of these has not met a dead provider, whatever else went wrong.
_SIGNS_OF_LIFE = ("uploaded", "submitted", "adopted", "looked at", "merged")


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


@dataclass(frozen=True, slots=True)
class Pacing:
    """Waits in seconds; see the settings of the same names."""

    poll_interval_seconds: float
    max_poll_interval_seconds: float
    outage_seconds: float


class Driver:
    """Drives workloads, any number of them, one after the other or in several threads."""

    def __init__(self, context: StepContext, pacing: Pacing) -> None:
        self._context = context
        self._pacing = pacing
        self._paces: dict[WorkloadId, _PollPace] = {}

    def drive(
        self, workload_id: WorkloadId, *, until: DriveUntil, deadline: float | None
    ) -> Generator[Wave | Wait, StepReport | None, Progress]:
        """See ``Runner.drive``."""
        outage_since: float | None = None
        while True:
            report = yield from self._pass(workload_id)
            now = self._context.clock()
            progress = self._progress(workload_id)
            if progress.is_finished or until is DriveUntil.ONE_PASS or _is_reached(until, progress):
                return progress
            if any(report.counts.get(name) for name in _SIGNS_OF_LIFE):
                outage_since = None
            elif report.outage is not None:
                outage_since = now if outage_since is None else outage_since
                if now - outage_since >= self._pacing.outage_seconds:
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
        match wave.kind:
            case WaveKind.MERGE:
                return merge.merge(self._context, wave.workload_id, wave.shard_ids)
            case WaveKind.RESUBMIT:
                return resubmit.resubmit(self._context, wave.workload_id)
            case WaveKind.SUBMIT:
                return submit.submit(self._context, wave.workload_id, wave.shard_ids)
            case _ as never:
                assert_never(never)

    def _progress(self, workload_id: WorkloadId) -> Progress:
        with self._context.store.read() as connection:
            return read_progress(connection, workloads.get(connection, workload_id), now=self._context.clock())

    def _pass(self, workload_id: WorkloadId) -> Generator[Wave, StepReport | None, StepReport]:
        """One look at a workload, and a wave for everything that is due."""
        total = settle.settle(self._context, workload_id)
        total += cancel.cancel(self._context, workload_id)
        total += self._poll(workload_id)
        while ids := self._claim(workload_id, (ShardState.ENDED,), MERGE_WAVE_SHARDS):
            total += (yield Wave(WaveKind.MERGE, workload_id, ids)) or StepReport({})
        if resubmit.is_due(self._context, workload_id):
            total += (yield Wave(WaveKind.RESUBMIT, workload_id)) or StepReport({})
        while ids := self._claim(workload_id, (ShardState.PLANNED, ShardState.UPLOADED), SUBMIT_WAVE_SHARDS):
            total += (yield Wave(WaveKind.SUBMIT, workload_id, ids)) or StepReport({})
        if total.counts.get("submitted") or total.counts.get("adopted"):
            self._pace_anew(workload_id)
        return total

    def _claim(self, workload_id: WorkloadId, states: Sequence[ShardState], limit: int) -> tuple[ShardId, ...]:
        taken: list[ShardId] = []
        with self._context.store.write() as connection:
            for state in states:
                claimed = shards.claim(
                    connection,
                    workload_id,
                    state,
                    owner=self._context.owner,
                    now=self._context.clock(),
                    lease_seconds=self._context.timing.lease_seconds,
                    limit=limit - len(taken),
                )
                taken.extend(shard.id for shard in claimed)
        return tuple(taken)

    def _poll(self, workload_id: WorkloadId) -> StepReport:
        """Poll when it is time; the wait grows while no status changes."""
        pace = self._paces.get(workload_id)
        if pace is not None and self._context.clock() < pace.due_at:
            return StepReport({})
        report = poll.poll(self._context, workload_id)
        shortest = self._pacing.poll_interval_seconds
        interval = shortest
        if pace is not None and not report.counts.get("changed"):
            interval = min(pace.interval_seconds * _POLL_BACKOFF, max(self._pacing.max_poll_interval_seconds, shortest))
        self._paces[workload_id] = _PollPace(interval, self._context.clock() + interval)
        return report

    def _pace_anew(self, workload_id: WorkloadId) -> None:
        """Fresh batches are looked at soon, however long the wait for the old ones had grown."""
        shortest = self._pacing.poll_interval_seconds
        pace = self._paces.get(workload_id)
        due_at = self._context.clock() + shortest
        self._paces[workload_id] = _PollPace(shortest, due_at if pace is None else min(pace.due_at, due_at))

    def _next_due(self, workload_id: WorkloadId, now: float) -> float:
        """Say when something is due next; never sooner than a moment, never later than the longest poll interval."""
        pace = self._paces.get(workload_id)
        due = [now + self._pacing.max_poll_interval_seconds]
        if pace is not None:
            due.append(pace.due_at)
        with self._context.store.read() as connection:
            for state in (ShardState.PLANNED, ShardState.UPLOADED, ShardState.SUBMITTING, ShardState.ENDED):
                at = shards.next_due(connection, workload_id, state)
                if at is not None:
                    due.append(at)
            pending = resubmit.next_due(connection, self._context, workload_id)
            if pending is not None:
                due.append(pending)
        return max(min(due), now + min(_SHORTEST_WAIT_SECONDS, self._pacing.poll_interval_seconds))


def _is_reached(until: DriveUntil, progress: Progress) -> bool:
    unsent = (ShardState.PLANNED, ShardState.UPLOADED, ShardState.SUBMITTING)
    return until is DriveUntil.SUBMITTED and not any(progress.shards.get(state) for state in unsent)
