"""Driving one workload: the state machine that decides what is done next.

``Drive.next`` returns waves of work, a wait, or the end of the drive. The caller does the waves: the plain loop of
``Runner.process``, or a Prefect flow that runs each wave as a task. Both do the same things in the same order::

    drive = runner.drive(workload_id)
    while not isinstance(action := drive.next(), Done):
        if isinstance(action, Wait):
            sleep(action.until - clock())
        else:
            drive.report(runner.run_waves(action))

Waves of one call are run at the same time: merging needs the CPU and the database, submitting the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchkit.engine.progress import WorkloadState
from batchkit.engine.waves import Done, DriveUntil, Wait, WaveKind, Waves
from batchkit.errors import AccountRefused, Unauthorized
from batchkit.models import ShardState
from batchkit.steps.context import StepReport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batchkit.engine.pending import PendingWork
    from batchkit.engine.progress import Progress
    from batchkit.models import WorkloadId

#: The outcome of a wave: its report, or the error that it ended with.
WaveOutcome = StepReport | Exception

#: The planned ones first: the budget may hold them back.
_UNSENT = (ShardState.PLANNED, ShardState.UPLOADED, ShardState.SUBMITTING, ShardState.SENDING)


@dataclass(frozen=True, slots=True)
class _PassEnd:
    """The end of a pass that left the workload unfinished; ``now`` and ``next_at`` are Unix seconds."""

    report: StepReport
    progress: Progress
    now: float
    next_at: float


class Drive:
    """Drives one workload in passes. One thread at a time may use it.

    It ends when the workload is finished or submitted, or after one pass, as ``until`` says, and before any wait that would last
    beyond ``stop_at`` (Unix seconds). ``pending`` is shared by the drives of a process. ``begin`` is called before the first pass, and
    again until it succeeds; its errors are handled like errors of a pass. ``ended`` is called once, with the last snapshot or with the
    error that ended the drive.
    """

    def __init__(
        self,
        workload_id: WorkloadId,
        pending: PendingWork,
        *,
        until: DriveUntil,
        stop_at: float | None,
        begin: Callable[[], object],
        ended: Callable[[Progress | None, BaseException | None], object],
    ) -> None:
        self.workload_id = workload_id
        self._pending = pending
        self._begin = begin
        self._tell_end = ended
        self._until = until
        self._stop_at = stop_at
        self._health = pending.new_health()
        self._is_begun = False
        self._pass: _Pass | None = None
        self._ended: Done | BaseException | None = None

    def next(self) -> Waves | Wait | Done:
        """Return what is done next: waves, whose outcomes the caller passes to ``report``; a wait; or the end.

        Raises the error that ends the drive, also when called again: ``SplitUnfinished``, ``AccountRefused`` and ``WrongAddress``
        at once, ``ProviderUnreachable`` and ``StoreUnavailable`` after an outage of ``outage_seconds``.
        """
        if isinstance(self._ended, BaseException):
            raise self._ended
        if self._ended is not None:
            return self._ended
        if self._pass is not None and self._pass.outcomes is None:
            raise RuntimeError("the waves of the last call have not been reported")
        try:
            action = self._next()
        except BaseException as error:
            self._end(error)
            self._tell_end(None, error)
            raise
        if isinstance(action, Done):
            self._end(action)
            self._tell_end(action.progress, None)
        return action

    def report(self, outcomes: Sequence[WaveOutcome]) -> None:
        """Take the outcomes of the waves of the last ``next``, in their order, when all have ended. Does not raise their errors."""
        if self._pass is None:
            raise RuntimeError("no waves are under way")
        self._pass.outcomes = outcomes

    def _end(self, ending: Done | BaseException) -> None:
        self._ended = ending
        self._pass = None
        if isinstance(ending, Done) and (ending.progress.is_finished or self._until is DriveUntil.ONE_PASS):
            # If a drive ends during an outage, the outage continues.
            self._pending.note_trouble(self.workload_id, None)

    def _next(self) -> Waves | Wait | Done:
        try:
            waves = self._next_waves()
            if waves:
                return waves
            ended = self._end_of_pass()
        except Exception as error:  # noqa: BLE001 - raised again, unless the next pass may do better
            # Changes may have been committed before the error: every transition is guarded, and the next pass reads all again.
            self._pass = None
            return self._wait_after(error)
        return ended if isinstance(ended, Done) else self._wait_for(ended)

    def _next_waves(self) -> Waves:
        if not self._is_begun:
            self._begin()
            self._is_begun = True
        if self._pass is None:
            self._pass = _Pass(self.workload_id, self._pending)
        return self._pass.next()

    def _end_of_pass(self) -> Done | _PassEnd:
        report = StepReport({}) if self._pass is None else self._pass.total
        self._pass = None
        now = self._pending.clock()
        progress = self._pending.progress(self.workload_id)
        if progress.is_finished:
            return Done(progress, notes=report.notes)
        if report.refused is not None:
            raise report.refused
        if progress.state is WorkloadState.STOPPED_BY_BUDGET:
            return Done(progress, notes=report.notes)
        if self._until is DriveUntil.ONE_PASS or self._is_submitted(progress):
            return Done(progress, report.outage, report.notes)
        return _PassEnd(report, progress, now, self._pending.next_at(self.workload_id, now))

    def _wait_for(self, ended: _PassEnd) -> Wait | Done:
        self._health.after_pass(ended.report, ended.now, wait_seconds=ended.next_at - ended.now)
        trouble, until = self._health.trouble, ended.next_at
        if trouble is not None and trouble.gives_up_at is not None:
            # Try once more when the limit is reached, not long after it.
            until = min(until, max(trouble.gives_up_at, ended.now + self._pending.shortest_wait_seconds))
        self._pending.note_trouble(self.workload_id, trouble)
        if self._stop_at is not None and until > self._stop_at:
            return Done(ended.progress)
        return Wait(until, ended.progress, ended.report.notes, trouble)

    def _wait_after(self, error: Exception) -> Wait:
        """Return the wait after an error; raises the error when it ends the drive."""
        if self._until is DriveUntil.ONE_PASS:
            raise error
        seconds, notes = self._health.after_error(error)
        until = self._pending.clock() + seconds
        if self._stop_at is not None and until > self._stop_at:
            raise error
        self._pending.note_trouble(self.workload_id, self._health.trouble)
        return Wait(until, None, notes, self._health.trouble)

    def _is_submitted(self, progress: Progress) -> bool:
        """Return whether a drive that only submits has nothing left that it may submit now."""
        if self._until is not DriveUntil.SUBMITTED:
            return False
        states = _UNSENT[1:] if progress.is_held_by_budget else _UNSENT
        return not any(progress.shards.get(state) for state in states)


class _Pass:
    """One pass over a workload: the probes, then waves until nothing is pending.

    After a refusal of the account ended batches are still merged, but nothing more is sent.
    """

    def __init__(self, workload_id: WorkloadId, pending: PendingWork) -> None:
        self._workload_id = workload_id
        self._pending = pending
        self.total = pending.probe(workload_id)
        #: The outcomes of the waves of the last ``next``; None before they have ended.
        self.outcomes: Sequence[WaveOutcome] | None = None
        self._waves: Waves = ()
        self._sends = pending.sends(workload_id)
        self._submits = pending.submits(workload_id)
        self._is_resubmitted = False
        self._are_merges_over = False

    def next(self) -> Waves:
        """Return the next waves; empty when the pass is over. Raises the error of a wave that ends the pass."""
        if self._waves:
            self._take_outcomes()
        self._waves = self._next_waves()
        if not self._waves:
            if self.total.counts.get("submitted") or self.total.counts.get("adopted"):
                self._pending.poll_soon(self._workload_id)
            self.total += self._pending.passed_over(self._workload_id)
        return self._waves

    def _next_waves(self) -> Waves:
        waves = () if self._are_merges_over else self._pending.merges(self._workload_id)
        if self.total.refused is not None:
            return waves
        if not waves and not self._is_resubmitted:
            # After the merges, so that the requests that they return join the same new shards.
            waves = self._pending.resubmits(self._workload_id)
            self._is_resubmitted = bool(waves)
        return waves + self._sends + self._submits

    def _take_outcomes(self) -> None:
        outcomes, self.outcomes = self.outcomes or (), None
        for outcome in outcomes:
            if isinstance(outcome, StepReport):
                self.total += outcome
        error = next((outcome for outcome in outcomes if isinstance(outcome, Exception)), None)
        if error is not None:
            self.total += self._refusal_of(error)
        # Files that fail are soon due again: with many of them this pass, and with it the polls, would never end.
        self._are_merges_over = self.total.refused is None and self._merged_nothing(outcomes)
        if self.total.refused is not None:
            return
        kinds = {wave.kind for wave in self._waves}
        self._sends = self._pending.sends(self._workload_id)
        self._submits = self._pending.submits(self._workload_id)
        if (self._submits and WaveKind.SUBMIT in kinds) or (self._sends and WaveKind.SEND in kinds):
            self.total += self._pending.probe_between_submits(self._workload_id)

    def _merged_nothing(self, outcomes: Sequence[WaveOutcome]) -> bool:
        """Return whether there were waves of merging, and none of them merged a shard."""
        merges = [outcome for wave, outcome in zip(self._waves, outcomes, strict=True) if wave.kind is WaveKind.MERGE]
        return bool(merges) and not any(
            isinstance(merge, StepReport) and merge.counts.get("merged") for merge in merges
        )

    def _refusal_of(self, error: Exception) -> StepReport:
        """Return a report of the first refusal of the account; raise any other error, which ends the pass."""
        if not isinstance(error, AccountRefused) or isinstance(error, Unauthorized) or self.total.refused is not None:
            raise error
        return StepReport({}, refused=error)
