"""The state of a workload: one snapshot, read from the store, for terminals, scripts and dashboards alike."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from batchkit.engine.deadline import standing, terms_of
from batchkit.lifecycle import OPEN_SHARD_STATES
from batchkit.models import Lane, ShardState, Usage
from batchkit.owners import is_certainly_dead
from batchkit.provider.stored import stored_dialect
from batchkit.store import attempts, batches, budgets, requests, runners, shards, waits, work_time, workloads
from batchkit.store.shards import Resubmitted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

    from batchkit.engine.deadline import Standing
    from batchkit.models import Batch, FailureReason, RequestCountsByState, Workload
    from batchkit.store.budgets import BudgetState
    from batchkit.store.runners import RunnerRow
    from batchkit.store.waits import OpenShards, Refusal


_NOTHING_RESUBMITTED = Resubmitted(0, 0)


class WorkloadState(StrEnum):
    """The workload's state: derived from its requests, and not stored.

    ``INTERRUPTED``: the process that split its input ended before the split was complete; nothing was sent. ``STOPPED_BY_BUDGET``:
    the budget has no room for its next request, and nothing is in flight that could leave any.
    """

    SPLITTING = "splitting"
    INTERRUPTED = "interrupted"
    RUNNING = "running"
    CANCELLING = "cancelling"
    STOPPED_BY_BUDGET = "stopped_by_budget"
    FINISHED = "finished"

    @property
    def label(self) -> str:
        """Return the state for people."""
        return self.value.replace("_", " ")


class Reopenable(StrEnum):
    """What ``resubmit`` would send again of a held workload: what has no answer; with ``--failed`` alone; nothing at all."""

    UNANSWERED = "unanswered"
    REFUSED = "refused"
    NOTHING = "nothing"


class Vanishing(NamedTuple):
    """Batches whose results the provider deletes soon: how many, and from when on (Unix seconds)."""

    batches: int
    first_at: float


@dataclass(frozen=True, slots=True, repr=False)
class Progress:
    """A workload at one moment. Times are Unix seconds.

    ``remote_done`` counts requests that the provider reports as done in batches that have not ended, and requests of shards that
    are being sent which have an answer in a journal; ``batches`` counts open
    batches by the provider's status; ``expired_attempts`` counts attempts that expired unexecuted, whose requests were or will be
    resubmitted. ``attention`` lists batches with problems.

    ``open_work`` has figures of the open shards by state, ``refusal`` why the provider refuses some of them.
    ``resubmit_at`` is when pending requests will be cut into shards, None when none are pending. ``runners`` are the processes
    that work on the workload, the one that drives it alone first; ``lost_runner`` is the last one that died.
    ``worked_seconds`` is for how many seconds a command drove it or a batch ran; None unless it is finished.
    ``budget`` is its budget and what is spent of it, None without one.
    ``doubts`` counts the attempts of the sync lane that may have been paid for without an answer.
    ``vanishing`` are batches whose results are not fetched and are soon deleted. ``reopenable`` is read for a finished workload
    that holds; else None. ``deadline`` is None without one. ``resubmitted`` counts the requests of resubmitted shards; it is read only while some requests wait to be sent again.
    """

    workload: Workload
    state: WorkloadState
    counts: RequestCountsByState
    shards: dict[ShardState, int]
    batches: dict[str, int]
    remote_done: int
    failures: tuple[FailureReason, ...]
    usage: Usage
    expired_attempts: int
    attention: tuple[Batch, ...]
    last_merged_at: float | None
    read_at: float
    open_work: Mapping[ShardState, OpenShards] = field(default_factory=dict)
    refusal: Refusal | None = None
    resubmit_at: float | None = None
    runners: tuple[RunnerRow, ...] = ()
    lost_runner: RunnerRow | None = None
    worked_seconds: float | None = None
    resubmitted: Resubmitted = _NOTHING_RESUBMITTED
    doubts: int = 0
    vanishing: Vanishing | None = None
    reopenable: Reopenable | None = None
    budget: BudgetState | None = None
    deadline: Standing | None = None

    def __repr__(self) -> str:
        counts = self.counts
        parts = [f"{counts.succeeded:,} of {counts.total:,} succeeded"]
        parts += [
            f"{count:,} {what}"
            for what, count in (
                ("failed", counts.failed),
                ("cancelled", counts.cancelled),
                ("rows skipped", self.workload.skipped_rows),
                ("not sent", self.workload.unsent_requests),
            )
            if count
        ]
        return f"<{type(self).__name__} {self.workload.name}: {self.state.value}, {', '.join(parts)}>"

    @property
    def is_held_by_budget(self) -> bool:
        """Return whether the budget has no room for anything more now; what is in flight may leave some."""
        return self.budget is not None and self.budget.is_held and not self.is_finished

    @property
    def doubt_tokens(self) -> int:
        """Return about how many tokens the ``doubts`` used, by the mean of the answers; 0 before the first answer."""
        answers = self.counts.succeeded
        return round(self.doubts * self.usage.total_tokens / answers) if answers else 0

    @property
    def is_split(self) -> bool:
        """Return whether the input was completely split, so that its requests may be sent."""
        return self.state not in {WorkloadState.SPLITTING, WorkloadState.INTERRUPTED}

    @property
    def not_sent(self) -> int:
        """Return the number of requests in shards without a batch, whose creation was not begun."""
        return sum(self.open_work[state].requests for state in UNSENT_STATES if state in self.open_work)

    @property
    def never_sent(self) -> int:
        """Return the number of ``not_sent`` requests that were never in a batch."""
        return max(self.not_sent - self.resubmitted.unsent, 0)

    @property
    def to_send_again(self) -> int:
        """Return the number of requests that were in a batch and wait for the next one."""
        return self.counts.pending + self.not_sent - self.never_sent

    @property
    def unanswered(self) -> int:
        """Return the number of requests, without an answer by the provider's counts, in ended batches that are not merged yet."""
        ended = self.open_work.get(ShardState.ENDED)
        if ended is None:
            return 0
        return max(min(ended.requests - ended.done, self._in_shards - self.not_sent - self.not_fetched), 0)

    @property
    def in_flight(self) -> int:
        """Return the number of requests without an answer in batches that run or are being created."""
        return self._in_shards - self.not_sent - self.not_fetched - self.unanswered

    @property
    def fetched(self) -> int:
        """Return the number of requests whose result, an answer or an error, is stored here."""
        return self.counts.succeeded + self.counts.failed

    @property
    def not_fetched(self) -> int:
        """Return the number of requests that the provider reports as done, and whose results are not stored here yet."""
        ended = self.open_work.get(ShardState.ENDED)
        return min(self.remote_done + (0 if ended is None else ended.done), self._in_shards - self.not_sent)

    @property
    def _in_shards(self) -> int:
        """Return the number of requests in open shards."""
        return self.counts.in_flight - self.counts.following

    @property
    def answered(self) -> int:
        """Return the number of requests that have an answer or an error, here or at the provider."""
        return self.fetched + self.not_fetched

    @property
    def missing(self) -> int:
        """Return the number of requests that are to get an answer of their own and have none, here or at the provider."""
        counts = self.counts
        return max(counts.total - self.answered - counts.cancelled - counts.following, 0)

    @property
    def is_finished(self) -> bool:
        """Return whether every request has its final state."""
        return self.state is WorkloadState.FINISHED

    @property
    def all_succeeded(self) -> bool:
        """Return whether every request of the input succeeded."""
        return self.is_finished and self.counts.succeeded == self.counts.total


#: Shards in these states have no batch, and its creation was not begun.
UNSENT_STATES = (ShardState.PLANNED, ShardState.UPLOADED)
#: Something of shards in these states may still cost less than it was estimated to.
_SENT_STATES = (
    ShardState.UPLOADED,
    ShardState.SUBMITTING,
    ShardState.SUBMITTED,
    ShardState.SENDING,
    ShardState.ENDED,
)
_AT_THE_PROVIDER = {ShardState.SUBMITTED, ShardState.ENDED}
#: A process writes its row every 30 s; after this long without a write it counts as dead.
UNSEEN_SECONDS = 120.0
_ATTENTION_LIMIT = 50
_LINGER_SECONDS = 300.0
_CANCEL_SECONDS = 600.0


def read_progress(
    connection: Connection,
    workload: Workload,
    *,
    now: float,
    linger_seconds: float = _LINGER_SECONDS,
    cancel_seconds: float = _CANCEL_SECONDS,
) -> Progress:
    """Read a snapshot of one workload; indexed queries only.

    ``linger_seconds`` is the setting ``resubmit_linger_seconds``, ``cancel_seconds`` that of the same name.
    """
    totals = shards.totals_by_state(connection, workload.id)
    counts = workloads.count_requests(connection, workload, totals)
    prompt_tokens = sum(total.prompt_tokens for total in totals.values())
    completion_tokens = sum(total.completion_tokens for total in totals.values())
    merges = [total.last_merged_at for total in totals.values() if total.last_merged_at is not None]
    # A finished workload has no open shards, and its snapshot is read in four fifths of the time without these two queries.
    open_batches = batches.open_statuses(connection, workload.id) if ShardState.SUBMITTED in totals else []
    open_work = waits.open_shards(connection, workload.id) if totals.keys() & OPEN_SHARD_STATES else {}
    last_merged_at = max(merges, default=None)
    resubmit_at = requests.next_resubmit_due(connection, workload.id) if counts.pending else None
    if resubmit_at is not None and open_work and counts.pending < workload.shard_lines:
        # As in ``steps.resubmit.next_due``: a few requests wait for further ones, so that they share a shard.
        resubmit_at = max(resubmit_at, (last_merged_at or 0.0) + linger_seconds)
    budget = budgets.read(connection, workload)
    state = _state(connection, workload, counts, now=now)
    is_idle = not any(state in totals for state in _SENT_STATES)
    if state is WorkloadState.RUNNING and budget is not None and is_idle and budget.is_exhausted:
        state = WorkloadState.STOPPED_BY_BUDGET
    alive, lost = _NOBODY if state is WorkloadState.FINISHED else _runners(connection, workload, now)
    expired = sum(total.expired for total in totals.values())
    resubmitted = _NOTHING_RESUBMITTED
    if workload.request_count is not None and (counts.pending or any(state in totals for state in UNSENT_STATES)):
        resubmitted = shards.resubmitted(
            connection, workload.id, request_count=workload.request_count - workload.unsent_requests
        )
    worked = ended_at = None
    if state is WorkloadState.FINISHED:
        # A workload may end without a merge: cancelled before anything was sent, or answered by other requests.
        ended_at = last_merged_at or work_time.ended_at(connection, workload.id) or now
        worked = work_time.work_seconds(connection, workload.id, until=ended_at, is_driven=False)
    progress = Progress(
        workload=workload,
        state=state,
        counts=counts,
        shards={state: totals[state].shards for state in ShardState if state in totals},
        batches={found.status: found.batches for found in open_batches},
        remote_done=sum(found.done for found in open_batches)
        + (open_work[ShardState.SENDING].done if ShardState.SENDING in open_work else 0),
        failures=tuple(workloads.failure_reasons(connection, workload.id)),
        usage=Usage(prompt_tokens, completion_tokens, prompt_tokens + completion_tokens),
        expired_attempts=expired,
        attention=tuple(batches.troubled(connection, workload.id, limit=_ATTENTION_LIMIT)),
        last_merged_at=last_merged_at,
        read_at=now,
        open_work=open_work,
        refusal=waits.refusal(connection, workload.id) if any(open_.refused for open_ in open_work.values()) else None,
        resubmit_at=resubmit_at,
        runners=alive,
        lost_runner=lost,
        worked_seconds=worked,
        resubmitted=resubmitted,
        budget=budget,
        doubts=attempts.count_doubts(connection, workload.id) if workload.lane is Lane.SYNC else 0,
        reopenable=_reopenable(connection, workload) if workload.holds and state is WorkloadState.FINISHED else None,
        vanishing=_vanishing(connection, workload, now) if totals.keys() & _AT_THE_PROVIDER else None,
    )
    if workload.deadline is None or not progress.is_split:
        return progress
    return replace(progress, deadline=_standing(connection, progress, ended_at, cancel_seconds=cancel_seconds))


def _standing(
    connection: Connection, progress: Progress, ended_at: float | None, *, cancel_seconds: float
) -> Standing | None:
    workload = progress.workload
    terms = terms_of(workload, cancel_seconds=cancel_seconds, poll_seconds=0.0)
    if terms is None:
        return None
    return standing(
        terms,
        missing=progress.missing,
        now=progress.read_at,
        ended_at=ended_at,
        in_batches=workload.lane is Lane.BATCH,
        answers=shards.answers_by_lane(connection, workload.id, until=terms.at),
    )


def _reopenable(connection: Connection, workload: Workload) -> Reopenable:
    if requests.has_reopenable(connection, workload.id, failed=False):
        return Reopenable.UNANSWERED
    if requests.has_reopenable(connection, workload.id, failed=True):
        return Reopenable.REFUSED
    return Reopenable.NOTHING


def _vanishing(connection: Connection, workload: Workload, now: float) -> Vanishing | None:
    dialect = stored_dialect(workload.provider)
    before = None if dialect is None else dialect.retention.vanishing_before(now)
    if dialect is None or before is None:
        return None
    found = waits.old_batches(connection, workload.id, created_before=before, now=now)
    at = None if found is None else dialect.retention.vanishes_at(found.created_at)
    return None if found is None or at is None else Vanishing(found.batches, at)


_NOBODY: Final = ((), None)


def _runners(connection: Connection, workload: Workload, now: float) -> tuple[tuple[RunnerRow, ...], RunnerRow | None]:
    """Read who works on a workload, and who died while working on it since the last orderly stop."""
    rows = runners.of_workload(connection, workload.id, seen_after=workload.stopped_at or 0.0)
    alive = tuple(row for row in rows if row.seen_at > now - UNSEEN_SECONDS and not is_certainly_dead(row.owner))
    lost = [row for row in rows if row not in alive and row.workload_id == workload.id]
    return alive, max(lost, key=lambda row: row.seen_at, default=None)


def _state(connection: Connection, workload: Workload, counts: RequestCountsByState, *, now: float) -> WorkloadState:
    if workload.request_count is None:
        status = workloads.split_status(connection, workload.id, now=now)
        is_alive = status.owner is not None and not is_certainly_dead(status.owner)
        return WorkloadState.SPLITTING if status.is_whole or is_alive else WorkloadState.INTERRUPTED
    if counts.unresolved == 0:
        return WorkloadState.FINISHED
    if workload.cancel_requested_at is not None:
        return WorkloadState.CANCELLING
    return WorkloadState.RUNNING
