"""cancel: withdraw shards that were not sent, ask running batches to stop, and keep answers that exist."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from batchkit.errors import AccountRefused, NotFound, ProviderError, StateConflict
from batchkit.models import BatchStatus, RequestState, ShardState
from batchkit.steps.context import StepReport
from batchkit.steps.isolation import is_of_one_shard, leave_for_later
from batchkit.store import batches, events, requests, shards, workloads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from batchkit.models import Batch, Shard, Workload, WorkloadId
    from batchkit.steps.context import StepContext

#: After this many batches that cannot be cancelled the provider counts as away; until then the other batches are cancelled.
_MOST_FAILURES = 3

#: Batches that stop, or have only their files left to be written.
ENDING = frozenset({BatchStatus.CANCELLING, BatchStatus.CANCELLED, BatchStatus.FINALIZING})


def request(connection: Connection, workload: Workload, *, at: float) -> None:
    """Store the user's request to cancel; it is a field, not a state."""
    if workload.cancel_requested_at is None:
        workloads.set_values(connection, workload.id, cancel_requested_at=at)
        events.record(connection, workload.id, "cancel requested", at=at)


def cancel(context: StepContext, workload_id: WorkloadId) -> StepReport:
    """Cancel a workload if the user asked for it; every pass repeats this until nothing runs.

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
        if cancelled:
            context.merged(connection, workload_id)
    report = StepReport({"cancelled": cancelled})
    for shard in unsent:
        try:
            report += _withdraw(context, shard)
        except StateConflict:
            continue  # it is being submitted; the next pass cancels its batch
        except Exception as error:
            if not is_of_one_shard(error):
                raise
            report += leave_for_later(context, shard.id, error, work="cancelling")
    return report + stop_batches(context, running)


def stop_batches(context: StepContext, running: Sequence[tuple[Shard, Batch]]) -> StepReport:
    """Cancel every batch that is not ending already; a failure does not stop the others from being cancelled."""
    report = StepReport({})
    failures = 0
    for shard, batch in running:
        if batch.status in ENDING:
            continue
        try:
            _stop_batch(context, shard, batch)
        except NotFound as error:
            report += StepReport({}, (f"batch {batch.id} could not be cancelled: {error}",))
        except AccountRefused:
            raise
        except ProviderError as error:
            report += context.outage(error, what=f"batch {batch.id} could not be cancelled")
            failures += 1
            if failures >= _MOST_FAILURES:
                break
        except Exception as error:
            if not is_of_one_shard(error):
                raise
            report += leave_for_later(context, shard.id, error, work="cancelling")
    return report


def _withdraw(context: StepContext, shard: Shard) -> StepReport:
    with context.store.write() as connection:
        count = requests.move_back(connection, shard, RequestState.CANCELLED)
        shards.transition(connection, shard, ShardState.WITHDRAWN, at=context.clock(), detail="cancelled")
        context.merged(connection, shard.workload_id)
    return StepReport({"cancelled": count})


def _stop_batch(context: StepContext, shard: Shard, batch: Batch) -> None:
    """Ask the provider to stop a batch. A reply with a terminal status ends its shard, whatever the list says later."""
    seen = context.provider.cancel_batch(batch.id)
    now = context.clock()
    # Another runner may have moved the shard meanwhile: what it saw of the batch counts.
    with context.store.write() as connection, suppress(StateConflict):
        if seen.is_terminal:
            shards.transition(connection, shard, ShardState.ENDED, at=now, detail=seen.status, not_before=0, refusals=0)
        batches.see(connection, seen, seen_at=now)
