"""drain: the requests of a workload leave their batches, so that the sync lane answers them before the deadline.

A request changes lanes only when its batch has ended and was merged: what was not sent is withdrawn, and running batches are asked to
stop. Requests without an answer are then pending, with budgets as before, and ``resubmit`` cuts them into shards of the sync lane.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit.errors import StateConflict
from batchkit.models import Lane, RequestState, ShardState
from batchkit.sharding import SYNC_SHARD_LINES
from batchkit.steps.cancel import stop_batches
from batchkit.steps.context import StepReport
from batchkit.store import batches, events, requests, shards, workloads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.models import BatchId, WorkloadId
    from batchkit.steps.context import StepContext


def begin(context: StepContext, workload_id: WorkloadId) -> StepReport:
    """Store that from now on the requests of a workload travel on the sync lane; a repetition changes nothing."""
    with context.store.write() as connection:
        workload = workloads.get(connection, workload_id)
        if workload.drain_since is not None:
            return StepReport({})
        now = context.clock()
        workloads.set_values(connection, workload_id, lane=Lane.SYNC.value, drain_since=now)
        events.record(connection, workload_id, "lane: batch -> sync", at=now, detail="so that the deadline is kept")
    note = (
        "the batches are stopped so that the deadline is kept: what they lack is sent one by one, at the ordinary price"
    )
    return StepReport({}, (note,))


def withdraw_unsent(context: StepContext, workload_id: WorkloadId) -> StepReport:
    """Make the requests of shards without a batch pending again; no attempt of theirs is counted."""
    with context.store.read() as connection:
        unsent = shards.in_states(connection, workload_id, (ShardState.PLANNED, ShardState.UPLOADED))
    report = StepReport({})
    for shard in unsent:
        if shard.lane is Lane.SYNC:
            continue
        try:
            with context.store.write() as connection:
                count = requests.move_back(connection, shard, RequestState.PENDING)
                shards.transition(
                    connection,
                    shard,
                    ShardState.WITHDRAWN,
                    at=context.clock(),
                    detail="so that the deadline is kept",
                    not_before=0,
                    refusals=0,
                    next_lines=SYNC_SHARD_LINES,
                )
        except StateConflict:
            continue  # it is being submitted; the next pass stops its batch
        report += StepReport({"to be sent one by one": count})
    return report


def stop(context: StepContext, workload_id: WorkloadId, batch_ids: Sequence[BatchId]) -> StepReport:
    """Ask the provider to stop some batches, in this order. Answers until they have stopped are kept."""
    with context.store.read() as connection:
        running = {batch.id: (shard, batch) for shard, batch in batches.open_of_workload(connection, workload_id)}
    return stop_batches(context, [running[batch_id] for batch_id in batch_ids if batch_id in running])
