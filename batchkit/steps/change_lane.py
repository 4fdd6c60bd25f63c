"""change_lane: what is not sent yet leaves the batch lane, when the account has no batches and the user left the lane open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit import formatting
from batchkit.models import Lane
from batchkit.steps.context import StepReport
from batchkit.store import events, shards, workloads

if TYPE_CHECKING:
    from batchkit.errors import Forbidden
    from batchkit.models import WorkloadId
    from batchkit.steps.context import StepContext


def leave_batches(context: StepContext, workload_id: WorkloadId, refusal: Forbidden) -> StepReport:
    """Send the requests of planned shards one by one from now on.

    Raises the refusal of batches unless the workload was begun with ``--lane auto``.
    """
    with context.store.write() as connection:
        workload = workloads.get(connection, workload_id)
        if not workload.is_lane_auto:
            raise refusal
        moved = shards.move_to_lane(connection, workload_id, Lane.SYNC)
        workloads.set_values(connection, workload_id, lane=Lane.SYNC.value)
        events.record(connection, workload_id, "lane: batch -> sync", at=context.clock(), detail=refusal.message)
    text = f"{refusal.message}; {formatting.counted(moved, 'request')} not sent yet will be sent one by one, at the ordinary price"
    return StepReport({}, (text,))
