"""Where a workload stands: one picture, read from the store, for terminals, scripts and dashboards alike."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from batchkit.errors import SplitUnfinished
from batchkit.leases import described, is_certainly_dead
from batchkit.models import ShardState, Usage
from batchkit.store import batches, shards, workloads

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from batchkit.models import Batch, FailureReason, RequestCountsByState, Workload, WorkloadId


class WorkloadState(StrEnum):
    """The workload's state: derived from its requests, stored nowhere.

    ``INTERRUPTED``: whoever was splitting its input ended before that was done; nothing was sent.
    """

    SPLITTING = "splitting"
    INTERRUPTED = "interrupted"
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
        state=_state(connection, workload, counts, now=now),
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


def check_split(connection: Connection, workload_id: WorkloadId, *, now: float) -> None:
    """See that the workload's input is split whole at ``now`` (Unix seconds).

    Raises ``SplitUnfinished``, which says who is splitting it or that its split was interrupted, and ``UnknownWorkload``.
    """
    name = workloads.get(connection, workload_id).name
    status = workloads.split_status(connection, workload_id, now=now)
    if status.is_whole:
        return
    if status.owner is not None and not is_certainly_dead(status.owner):
        raise SplitUnfinished(
            f"workload {name!r} is being split by {described(status.owner)}; nothing of it is sent before it is split whole",
            hint="wait for that command, or stop it",
        )
    raise SplitUnfinished(
        f"workload {name!r}: its split was interrupted, and nothing of it was sent",
        hint=f"run the same `run` command again, which begins the split anew, or remove it with `batchkit clean {name}`",
    )


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
