"""Finding pending work: the probes of a pass, the waves that can be taken, and when work will be pending next.

One ``PendingWork`` serves all drives of a process: it remembers how often each workload is polled.
"""

from __future__ import annotations

from concurrent.futures import wait as wait_for
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, assert_never

from batchkit.engine.keeping_deadlines import DeadlineKeeper
from batchkit.engine.outage import DriveHealth
from batchkit.engine.polling import Polls
from batchkit.engine.progress import Progress, read_progress
from batchkit.engine.waves import Wave, WaveKind, Waves
from batchkit.errors import AccountRefused, Forbidden, ProviderError, RowsHeld
from batchkit.models import Lane, ShardId, ShardState, WorkloadId
from batchkit.sharding import SYNC_SHARD_LINES
from batchkit.steps import cancel, change_lane, clocks, merge, resubmit, send, settle, submit
from batchkit.steps.context import StepReport
from batchkit.steps.isolation import report_held
from batchkit.store import budgets, shard_leases, shards, workloads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from sqlalchemy.engine import Connection

    from batchkit.engine.polling import Pacing
    from batchkit.models import Trouble
    from batchkit.steps.context import StepContext

_CHECK_WAITS_SECONDS = 300.0
#: How long a pass waits for the scan of the list of batches before it does its other work.
_SETTLE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _WaveSize:
    """The bounds of a wave's size; within them it takes one in ``_WAVE_SHARE`` of the pending shards."""

    least: int
    most: int


_ENDED = (ShardState.ENDED,)
_UNSENT = (ShardState.PLANNED, ShardState.UPLOADED)
_OF_SYNC_LANE = (ShardState.PLANNED, ShardState.SENDING)
#: The most shards of dead processes that one wave ends.
_MOST_ABANDONED = 64
#: The sizes of waves that upload and create batches, and of waves that merge.
_SUBMIT_WAVE = _WaveSize(least=16, most=64)
_MERGE_WAVE = _WaveSize(least=2, most=50)
#: A wave leaves shards for other processes; near the end waves get small, so that all processes end together.
_WAVE_SHARE = 4


class PendingWork:
    """Finds the pending work of any number of workloads, each in its own thread.

    ``parallel_waves`` is how many merge waves are taken together. ``begin`` starts a call in a thread that the process
    need not wait for.
    """

    def __init__(
        self,
        context: StepContext,
        pacing: Pacing,
        *,
        parallel_waves: int,
        begin: Callable[[Callable[[], StepReport]], Future[StepReport]],
    ) -> None:
        self._context = context
        self._pacing = pacing
        self._parallel_waves = parallel_waves
        self._polls = Polls(context, pacing)
        self._deadlines = DeadlineKeeper(context, pacing, self._polls)
        self._seen_at: dict[WorkloadId, float] = {}
        self._waits_checked_at: dict[WorkloadId, float] = {}
        self._troubles: dict[WorkloadId, Trouble] = {}
        #: Until when the sync lane can send nothing of a workload; None when it can.
        self._idle_until: dict[WorkloadId, float | None] = {}
        self._begin = begin
        self._settling: dict[WorkloadId, Future[StepReport]] = {}
        self._is_checked = False

    @property
    def clock(self) -> Callable[[], float]:
        """Return the clock; it returns Unix seconds."""
        return self._context.clock

    @property
    def shortest_wait_seconds(self) -> float:
        """Return the shortest wait between two passes."""
        return self._pacing.shortest_wait_seconds

    def note_trouble(self, workload_id: WorkloadId, trouble: Trouble | None) -> None:
        """Remember the outage that the passes over a workload met; None when there is none, or when the drive has ended."""
        if trouble is None:
            self._troubles.pop(workload_id, None)
        else:
            self._troubles[workload_id] = trouble

    def trouble(self, workload_id: WorkloadId) -> Trouble | None:
        """Return the outage that stops the work on a workload now; None without one. May be called in any thread."""
        of_passes, of_calls = self._troubles.get(workload_id), self._context.provider.trouble()
        if of_calls is None:
            return of_passes
        if of_passes is None:
            return replace(of_calls, gives_up_at=of_calls.since + self._pacing.outage_seconds)
        # One outage with one count of failed calls, of which a pass makes several. The passes know when the command gives up.
        return replace(of_calls, since=min(of_calls.since, of_passes.since), gives_up_at=of_passes.gives_up_at)

    def run_wave(self, wave: Wave) -> StepReport:
        """Run one wave. May be called in any thread."""
        match wave.kind:
            case WaveKind.MERGE:
                return merge.merge(self._context, wave.workload_id, wave.shard_ids)
            case WaveKind.RESUBMIT:
                window = self._deadlines.window(wave.workload_id)
                return resubmit.resubmit(self._context, wave.workload_id, window=window)
            case WaveKind.SEND:
                return send.send(self._context, wave.workload_id, wave.shard_ids)
            case WaveKind.SUBMIT:
                return submit.submit(self._context, wave.workload_id, wave.shard_ids)
            case _ as never:
                assert_never(never)

    def new_health(self) -> DriveHealth:
        """Return a new record of one drive's errors and outages."""
        return DriveHealth(
            self._context.clock,
            limit_seconds=self._pacing.outage_seconds,
            first_wait_seconds=self._pacing.shortest_wait_seconds,
        )

    def progress(self, workload_id: WorkloadId) -> Progress:
        """Read a snapshot of a workload."""
        with self._context.store.read() as connection:
            return read_progress(
                connection,
                workloads.get(connection, workload_id),
                now=self._context.clock(),
                cancel_seconds=self._pacing.cancel_seconds,
            )

    def probe(self, workload_id: WorkloadId) -> StepReport:
        """Begin a pass: settle, cancel, poll, keep the deadline, and before the first upload check that a batch API answers."""
        total = StepReport({})
        for step in (
            self._end_impossible_waits,
            self._settle,
            self._cancel,
            self._poll,
            self._keep_deadline,
            self._check_provider,
        ):
            total += self._unless_held(step, workload_id)
        return total

    def probe_between_submits(self, workload_id: WorkloadId) -> StepReport:
        """Cancel, poll and keep the deadline between two submit waves: submitting everything may take hours, in which batches end."""
        report = self._unless_held(self._cancel, workload_id) + self._unless_held(self._poll, workload_id)
        return report + self._unless_held(self._keep_deadline, workload_id)

    def merges(self, workload_id: WorkloadId) -> Waves:
        """Take ended shards, for as many waves as may run at the same time."""
        ids = self._claim(workload_id, _ENDED, _MERGE_WAVE, waves=self._parallel_waves)
        parts = (ids[start :: self._parallel_waves] for start in range(self._parallel_waves))
        return tuple(Wave(WaveKind.MERGE, workload_id, part) for part in parts if part)

    def submits(self, workload_id: WorkloadId) -> Waves:
        """Take shards without a batch, for one wave: a submit wave does several transfers at a time."""
        if not self._is_checked or self._deadlines.makes_no_batches(workload_id):
            return ()
        is_held = self._is_held(workload_id)
        ids = self._claim(workload_id, _UNSENT, _SUBMIT_WAVE, lanes=(Lane.BATCH,), is_held=is_held)
        return (Wave(WaveKind.SUBMIT, workload_id, ids),) if ids else ()

    def sends(self, workload_id: WorkloadId) -> Waves:
        """Take shards of the sync lane, for one wave: those that this process sends already, and as many as keep it busy.

        None while all models that requests are left for are paused, so that the pass ends and the caller waits.
        """
        owner, context = self._context.owner, self._context
        with context.store.read() as connection:
            if not shards.has_any(connection, workload_id, _OF_SYNC_LANE, lane=Lane.SYNC):
                return ()
        lane = context.lane()
        mine = lane.of_workload(workload_id)
        self._idle_until[workload_id] = lane.idle_until(workload_id)
        is_stopped = self._deadlines.is_stopped(workload_id)
        if self._idle_until[workload_id] is not None and not is_stopped:
            return ()
        ids: list[ShardId] = []
        is_held = self._is_held(workload_id)
        with context.store.write() as connection:
            for state, limit in (
                (ShardState.SENDING, len(mine) + _MOST_ABANDONED),
                (ShardState.PLANNED, 0 if is_stopped else lane.room(shard_lines=SYNC_SHARD_LINES)),
            ):
                claimed = shard_leases.claim(
                    connection,
                    workload_id,
                    state,
                    owner=owner,
                    now=context.clock(),
                    lease_seconds=context.timing.lease_seconds,
                    limit=limit,
                    lanes=(Lane.SYNC,),
                    is_held=is_held,
                )
                ids.extend(shard.id for shard in claimed)
        return (Wave(WaveKind.SEND, workload_id, tuple(ids)),) if ids else ()

    def resubmits(self, workload_id: WorkloadId) -> Waves:
        """Return the wave that cuts new shards, if requests are pending for it."""
        if self._deadlines.is_stopped(workload_id) or not resubmit.is_due(self._context, workload_id):
            return ()
        return (Wave(WaveKind.RESUBMIT, workload_id),)

    def passed_over(self, workload_id: WorkloadId) -> StepReport:
        """Report who holds shards that are still pending after a pass has taken all that it could take."""
        # The shards that are being settled in another thread are ours.
        states = (ShardState.ENDED, *_UNSENT, *(() if workload_id in self._settling else (ShardState.SUBMITTING,)))
        with self._context.store.read() as connection:
            owner, now = self._context.owner, self._context.clock()
            state = budgets.read(connection, workloads.get(connection, workload_id))
            # Shards of the sync lane wait for their turn in the lane of this process.
            due = shard_leases.count_claimable(
                connection,
                workload_id,
                states,
                owner=owner,
                now=now,
                at_most=1,
                lanes=(Lane.BATCH,),
                is_held=state is not None and state.is_held,
            )
        return (report_held(self._context) if due else StepReport({})) + self._outage_of_lane(workload_id)

    def _outage_of_lane(self, workload_id: WorkloadId) -> StepReport:
        """Report that the sync lane waits for a server that does not answer."""
        if self._idle_until.get(workload_id) is None:
            return StepReport({})
        lane = self._context.lane()
        notes = tuple(send.pauses(self._context, lane))
        trouble = lane.trouble()
        if trouble is None:
            return StepReport({}, notes)
        return StepReport({}, notes, outage=trouble.what, outage_since=trouble.since)

    def _unless_held(self, step: Callable[[WorkloadId], StepReport], workload_id: WorkloadId) -> StepReport:
        """Run a step of the pass; rows that another process holds skip this step only."""
        try:
            return step(workload_id)
        except RowsHeld as error:
            return StepReport({}, (error.message,), outage=error.message, error=error)

    def _keep_deadline(self, workload_id: WorkloadId) -> StepReport:
        return self._deadlines.keep(workload_id)

    def _cancel(self, workload_id: WorkloadId) -> StepReport:
        return cancel.cancel(self._context, workload_id)

    def _settle(self, workload_id: WorkloadId) -> StepReport:
        """Settle lost creations in a separate thread: the scan of a long list must not delay the other work."""
        known = self._settling.pop(workload_id, None)
        if known is None:
            with self._context.store.read() as connection:
                if not shards.has_any(connection, workload_id, (ShardState.SUBMITTING,)):
                    return StepReport({})
        running = known or self._begin(partial(settle.settle, self._context, workload_id))
        done, _ = wait_for([running], timeout=_SETTLE_SECONDS if known is None else 0)
        if done:
            return running.result()
        self._settling[workload_id] = running
        return StepReport({})

    def _check_provider(self, workload_id: WorkloadId) -> StepReport:
        """Check, before the first upload of this process, that a batch API answers and takes this account.

        An account without batches sends the requests of a workload with ``--lane auto`` one by one. Raises ``WrongAddress`` and
        ``AccountRefused``.
        """
        if self._is_checked:
            return StepReport({})
        with self._context.store.read() as connection:
            if not shards.has_any(connection, workload_id, _UNSENT, lane=Lane.BATCH):
                return StepReport({})
        try:
            warning = self._context.provider.check()
        except Forbidden as error:
            return change_lane.leave_batches(self._context, workload_id, error)
        except AccountRefused:
            raise
        except ProviderError as error:
            return self._context.outage(error)
        self._is_checked = True
        return StepReport({}, () if warning is None else (warning,))

    def _end_impossible_waits(self, workload_id: WorkloadId) -> StepReport:
        """End waits that a wrong clock wrote: in the first pass, every few minutes, and when this machine's clock was set back."""
        now = self._context.clock()
        seen_at = self._seen_at.get(workload_id, now)
        was_set_back = now < seen_at - clocks.SET_BACK_SECONDS
        self._seen_at[workload_id] = now
        if was_set_back or now >= self._waits_checked_at.get(workload_id, 0.0) + _CHECK_WAITS_SECONDS:
            self._waits_checked_at[workload_id] = now
            clocks.end_impossible_waits(self._context, workload_id, was_set_back=was_set_back)
        return StepReport({})

    def _claim(
        self,
        workload_id: WorkloadId,
        states: Sequence[ShardState],
        size: _WaveSize,
        *,
        waves: int = 1,
        lanes: Sequence[Lane] = tuple(Lane),
        is_held: bool = False,
    ) -> tuple[ShardId, ...]:
        taken: list[ShardId] = []
        owner = self._context.owner
        with self._context.store.write() as connection:
            now = self._context.clock()
            enough = _WAVE_SHARE * waves * size.most
            due = shard_leases.count_claimable(
                connection,
                workload_id,
                states,
                owner=owner,
                now=now,
                at_most=enough,
                lanes=lanes,
                is_held=is_held,
            )
            limit = waves * min(max(-(-due // (_WAVE_SHARE * waves)), size.least), size.most)
            if due and states == _ENDED:
                taken += self._claim_vanishing(connection, workload_id, now=now, limit=limit)
            for state in states if due else ():
                claimed = shard_leases.claim(
                    connection,
                    workload_id,
                    state,
                    owner=owner,
                    now=now,
                    lease_seconds=self._context.timing.lease_seconds,
                    limit=limit - len(taken),
                    lanes=lanes,
                    is_held=is_held,
                )
                # An owner's own shards can be claimed again.
                taken.extend(shard.id for shard in claimed if shard.id not in taken)
        return tuple(taken)

    def _is_held(self, workload_id: WorkloadId) -> bool:
        """Return whether the budget of a workload has no room for anything more now."""
        with self._context.store.read() as connection:
            state = budgets.read(connection, workloads.get(connection, workload_id))
        return state is not None and state.is_held

    def _claim_vanishing(
        self, connection: Connection, workload_id: WorkloadId, *, now: float, limit: int
    ) -> list[ShardId]:
        """Take the ended shards whose results the provider deletes soon, those that vanish first at the front."""
        before = self._context.provider.dialect.retention.vanishing_before(self._context.provider_now())
        if before is None:
            return []
        found = shard_leases.claim_vanishing(
            connection,
            workload_id,
            owner=self._context.owner,
            now=now,
            lease_seconds=self._context.timing.lease_seconds,
            limit=limit,
            created_before=before,
        )
        return [shard.id for shard in found]

    def _poll(self, workload_id: WorkloadId) -> StepReport:
        return self._polls.when_due(workload_id, is_hasty=self._deadlines.is_draining(workload_id))

    def poll_soon(self, workload_id: WorkloadId) -> None:
        """Poll new batches soon, however long the wait between polls has grown."""
        self._polls.soon(workload_id)

    def next_at(self, workload_id: WorkloadId, now: float) -> float:
        """Return when work will be pending, in Unix seconds: from the shortest wait after ``now`` to the longest poll interval."""
        due = [now + self._pacing.max_poll_interval_seconds]
        others = (
            self._polls.due_at(workload_id),
            self._deadlines.due_at(workload_id),
            self._idle_until.get(workload_id),
        )
        due += [at for at in others if at is not None]
        # What the budget holds back is due when something in flight has ended.
        unsent = (ShardState.UPLOADED,) if self._is_held(workload_id) else _UNSENT
        with self._context.store.read() as connection:
            found = (
                shards.next_due(connection, workload_id, *unsent, ShardState.SUBMITTING, ShardState.ENDED),
                resubmit.next_due(connection, self._context, workload_id),
            )
            due += [at for at in found if at is not None]
        return max(min(due), now + self._pacing.shortest_wait_seconds)
