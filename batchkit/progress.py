"""Where a workload stands: one picture, read from the store, for terminals, scripts and dashboards alike."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from batchkit.models import ShardState, Usage
from batchkit.store import batches, shards, workloads

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from batchkit.models import Batch, FailureReason, RequestCountsByState, Workload


class WorkloadState(StrEnum):
    """The workload's state: derived from its requests, stored nowhere."""

    SPLITTING = "splitting"
    RUNNING = "running"
    CANCELLING = "cancelling"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Progress:
    """A workload at one moment.

    ``remote_done`` counts requests that the provider says it has answered in batches that have not ended; ``batches`` counts
    open batches by the provider's status; ``expired_rides`` rides that came back unexecuted and were or will be sent again.

    ``attention`` lists batches that did not simply complete. Times are Unix seconds.
    """

    workload: Workload
    state: WorkloadState
    counts: RequestCountsByState
    shards: dict[ShardState, int]
    batches: dict[str, int]
    remote_done: int
    failures: tuple[FailureReason, ...]
    usage: Usage
    expired_rides: int
    attention: tuple[Batch, ...]
    last_merged_at: float | None
    read_at: float

    @property
    def is_finished(self) -> bool:
        """Whether every request has its final state."""
        return self.state is WorkloadState.FINISHED

    @property
    def all_succeeded(self) -> bool:
        """Whether every request of the input succeeded."""
        return self.is_finished and self.counts.succeeded == self.counts.total


_ATTENTION_LIMIT = 50


def read_progress(connection: Connection, workload: Workload, *, now: float) -> Progress:
    """Read the picture of one workload; indexed queries only."""
    totals = shards.totals_by_state(connection, workload.id)
    counts = workloads.count_requests(connection, workload, totals)
    prompt_tokens = sum(total.prompt_tokens for total in totals.values())
    completion_tokens = sum(total.completion_tokens for total in totals.values())
    merges = [total.last_merged_at for total in totals.values() if total.last_merged_at is not None]
    open_batches = batches.open_statuses(connection, workload.id)
    return Progress(
        workload=workload,
        state=_state(workload, counts),
        counts=counts,
        shards={state: totals[state].shards for state in ShardState if state in totals},
        batches={status: count for status, count, _ in open_batches},
        remote_done=sum(done for _, _, done in open_batches),
        failures=tuple(workloads.failure_reasons(connection, workload.id)),
        usage=Usage(prompt_tokens, completion_tokens, prompt_tokens + completion_tokens),
        expired_rides=sum(total.expired for total in totals.values()),
        attention=tuple(batches.troubled(connection, workload.id, limit=_ATTENTION_LIMIT)),
        last_merged_at=max(merges, default=None),
        read_at=now,
    )


def _state(workload: Workload, counts: RequestCountsByState) -> WorkloadState:
    if workload.request_count is None:
        return WorkloadState.SPLITTING
    if counts.unresolved == 0:
        return WorkloadState.FINISHED
    if workload.cancel_requested_at is not None:
        return WorkloadState.CANCELLING
    return WorkloadState.RUNNING
