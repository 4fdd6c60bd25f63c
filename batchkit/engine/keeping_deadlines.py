"""Keeping the deadlines of workloads: in each pass it is decided whether requests leave their batches for the sync lane."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from batchkit import formatting
from batchkit.engine.deadline import Terms, terms_of
from batchkit.engine.progress import read_progress
from batchkit.errors import DeadlineMissed
from batchkit.models import Lane, ShardState
from batchkit.steps import drain
from batchkit.steps.cancel import ENDING
from batchkit.steps.context import StepReport
from batchkit.store import batches, shards, workloads

if TYPE_CHECKING:
    from batchkit.engine.polling import Pacing, Polls
    from batchkit.models import BatchId, Workload, WorkloadId
    from batchkit.steps.context import StepContext

#: A measured rate is stored when it differs by more than this share from the stored one.
_NEWS_OF_RATE = 0.25


@dataclass(slots=True)
class _Standing:
    """What the last pass found: when the next decision is due, and whether batches may be made and shards cut."""

    due_at: float | None = None
    is_draining: bool = False
    is_stopped: bool = False


class DeadlineKeeper:
    """Keeps the deadlines of the workloads of a process. One thread at a time may use it for one workload."""

    def __init__(self, context: StepContext, pacing: Pacing, polls: Polls) -> None:
        self._context = context
        self._pacing = pacing
        self._polls = polls
        self._standings: dict[WorkloadId, _Standing] = {}

    def is_draining(self, workload_id: WorkloadId) -> bool:
        """Return whether the requests of a workload leave their batches: no further batch is made."""
        return workload_id in self._standings and self._standings[workload_id].is_draining

    def is_stopped(self, workload_id: WorkloadId) -> bool:
        """Return whether nothing more of a workload may be sent, because its deadline has passed."""
        return workload_id in self._standings and self._standings[workload_id].is_stopped

    def makes_no_batches(self, workload_id: WorkloadId) -> bool:
        """Return whether no batch of a workload may be made any more."""
        return self.is_draining(workload_id) or self.is_stopped(workload_id)

    def due_at(self, workload_id: WorkloadId) -> float | None:
        """Return when the next decision is due, in Unix seconds; None when only the next poll can change it."""
        return self._standings[workload_id].due_at if workload_id in self._standings else None

    def window(self, workload_id: WorkloadId) -> str | None:
        """Return the window of batches that are made now; None for one without a deadline, or with no batches."""
        with self._context.store.read() as connection:
            workload = workloads.get(connection, workload_id)
            terms = self._terms(workload)
            if terms is None or workload.lane is Lane.SYNC:
                return None
            progress = read_progress(connection, workload, now=self._context.clock())
        return terms.window(self._context.provider.dialect.windows, progress.missing, self._context.clock())

    def keep(self, workload_id: WorkloadId) -> StepReport:
        """Do what the deadline of a workload asks for now, if it has one: nothing, or leave the batches.

        Reports ``DeadlineMissed`` as the error that ends the command once a late workload that stops has nothing under way.
        """
        self._standings.pop(workload_id, None)
        with self._context.store.read() as connection:
            workload = workloads.get(connection, workload_id)
        if workload.deadline is None or workload.cancel_requested_at is not None or workload.request_count is None:
            return StepReport({})
        now = self._context.clock()
        standing = self._standings[workload_id] = _Standing(is_draining=workload.drain_since is not None)
        if workload.is_stopped_late(now):
            return self._stop(workload, standing)
        standing.due_at = workload.deadline if workload.stops_late else None
        workload = self._with_measured_rate(workload)
        if workload.lane is Lane.SYNC and workload.drain_since is None:
            return StepReport({})
        report = StepReport({})
        if workload.drain_since is None:
            if (cutoff := self._cutoff(workload)) is None or now < cutoff:
                standing.due_at = cutoff or standing.due_at
                return report
            # The counts decide: they must be those of now.
            report += self._polls.now(workload_id)
            if (cutoff := self._cutoff(workload)) is None or now < cutoff:
                standing.due_at = cutoff or standing.due_at
                return report
            report += drain.begin(self._context, workload_id)
            standing.is_draining = True
        return report + self._leave_batches(workload)

    def _leave_batches(self, workload: Workload) -> StepReport:
        terms = self._terms(workload)
        if terms is None:
            return StepReport({})
        report = drain.withdraw_unsent(self._context, workload.id)
        with self._context.store.read() as connection:
            running = {
                batch.id: max(shard.line_count - batch.counts.completed - batch.counts.failed, 0)
                for shard, batch in batches.open_of_workload(connection, workload.id)
                # An adopted batch is not ours to stop.
                if batch.status not in ENDING and not shard.is_adopted
            }
            missing = read_progress(connection, workload, now=self._context.clock()).missing
        chosen: list[BatchId] = terms.to_stop(running, max(missing - sum(running.values()), 0))
        if chosen:
            report += drain.stop(self._context, workload.id, chosen)
            self._polls.soon(workload.id)
        return report

    def _stop(self, workload: Workload, standing: _Standing) -> StepReport:
        """Send nothing more of a late workload: calls under way end, and their answers are stored."""
        standing.is_stopped = True
        with self._context.store.read() as connection:
            if shards.has_any(connection, workload.id, (ShardState.SENDING,)):
                return StepReport({})
            progress = read_progress(connection, workload, now=self._context.clock())
        left = formatting.counted(progress.counts.unresolved, "request")
        at = formatting.when(workload.deadline or 0.0, self._context.clock())
        return StepReport(
            {},
            refused=DeadlineMissed(
                f"the deadline of {workload.name!r}, {at}, has passed: nothing more is sent, {left} have no answer here",
                hint="the command that began it, with --late finish, continues it",
            ),
        )

    def _cutoff(self, workload: Workload) -> float | None:
        """Return when what is missing leaves its batches; None when every request has an answer, here or at the provider."""
        now = self._context.clock()
        with self._context.store.read() as connection:
            missing = read_progress(connection, workload, now=now).missing
        terms = self._terms(workload)
        return None if terms is None or not missing else terms.cutoff(missing, now)

    def _terms(self, workload: Workload) -> Terms | None:
        return terms_of(
            workload,
            cancel_seconds=self._pacing.cancel_seconds,
            poll_seconds=self._pacing.poll_interval_seconds,
        )

    def _with_measured_rate(self, workload: Workload) -> Workload:
        """Return a workload with the rate at which this process answers its requests now, and store that if it is news."""
        if workload.lane is not Lane.SYNC:
            return workload
        rate = self._context.lane().answers_per_second(workload.id)
        if rate is None:
            return workload
        known = workload.sync_rate
        if known is None or abs(rate - known) > _NEWS_OF_RATE * known:
            with self._context.store.write() as connection:
                workloads.set_values(connection, workload.id, sync_rate=rate)
        return replace(workload, sync_rate=rate)
