"""cancel: the user wants no more. What was not sent is withdrawn, what runs is asked to stop, what was answered is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit.errors import AccountRefused, ProviderError, StateConflict
from batchkit.models import BatchStatus, RequestState, ShardState
from batchkit.steps.context import StepReport
from batchkit.store import batches, events, requests, shards, workloads

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from batchkit.models import Workload, WorkloadId
    from batchkit.steps.context import StepContext

_ENDING = frozenset({BatchStatus.CANCELLING, BatchStatus.CANCELLED, BatchStatus.FINALIZING})


def request(connection: Connection, workload: Workload, *, at: float) -> None:
    """Note the wish; it is a field, not a state."""
    if workload.cancel_requested_at is None:
        workloads.set_values(connection, workload.id, cancel_requested_at=at)
        events.record(connection, workload.id, "cancel requested", at=at)


def cancel(context: StepContext, workload_id: WorkloadId) -> StepReport:
    """Act on the wish, if there is one: as often as it takes.

    Batches may take up to ten minutes to stop (console.groq.com/docs/batch); their answers until then are merged.
    """
    with context.store.read() as connection:
        workload = workloads.get(connection, workload_id)
        if workload.cancel_requested_at is None or workload.request_count is None:
            return StepReport({})
        unsent = shards.in_states(connection, workload_id, (ShardState.PLANNED, ShardState.UPLOADED))
        running = batches.open_of_workload(connection, workload_id)
    with context.store.write() as connection:
        cancelled = requests.cancel_pending(connection, workload_id)
    for shard in unsent:
        try:
            with context.store.write() as connection:
                cancelled += requests.move_back(connection, shard, RequestState.CANCELLED)
                shards.transition(connection, shard, ShardState.WITHDRAWN, at=context.clock(), detail="cancelled")
        except StateConflict:
            continue  # it is on its way; the next pass finds it as a batch
    report = StepReport({"cancelled": cancelled})
    for _shard, batch in running:
        if batch.status in _ENDING:
            continue
        try:
            seen = context.provider.cancel_batch(batch.id)
        except AccountRefused:
            raise
        except ProviderError as error:
            return report + StepReport({}, (f"batch {batch.id} could not be cancelled: {error}",), outage=str(error))
        with context.store.write() as connection:
            batches.see(connection, seen, seen_at=context.clock())
    return report
