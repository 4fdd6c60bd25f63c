"""settle: find out what became of a batch whose creation was never answered. By looking, never by sending again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit.errors import Forbidden, ProviderError, StateConflict, Unauthorized
from batchkit.models import ShardState
from batchkit.steps.context import StepReport
from batchkit.steps.refusal import postpone, step_aside
from batchkit.steps.submit import LOOKS_PER_SETTLE, adopt
from batchkit.store import shards

if TYPE_CHECKING:
    from batchkit.models import Batch, Shard, WorkloadId
    from batchkit.steps.context import StepContext

_SHARDS_PER_LOOK = 10_000


def settle(context: StepContext, workload_id: WorkloadId) -> StepReport:
    """Look for the batches of all due shards in ``submitting`` with one reading of the whole list.

    Found by our key in the metadata, or by the input file: adopted. Not found in a complete list that was begun after the
    grace period: the shard goes back to ``uploaded``. In any other case it stays, to be looked for again.
    """
    with context.store.write() as connection:
        lost = shards.claim(
            connection,
            workload_id,
            ShardState.SUBMITTING,
            owner=context.owner,
            now=context.clock(),
            lease_seconds=context.timing.lease_seconds,
            limit=_SHARDS_PER_LOOK,
        )
    if not lost:
        return StepReport({})
    began = context.clock()
    pause = context.timing.settle_seconds / LOOKS_PER_SETTLE
    try:
        found = _look(context, lost)
    except (Unauthorized, Forbidden):
        with context.store.write() as connection:
            shards.release(connection, context.owner, [shard.id for shard in lost])
        raise
    except ProviderError as error:
        for shard in lost:
            step_aside(context, shard)
        note = f"{len(lost)} shards wait to be settled: the list of batches could not be read ({error})"
        return StepReport({"unsettled": len(lost)}, (note,), outage=str(error))
    report = StepReport({})
    for shard in lost:
        try:
            report += _decide(context, shard, found.get(shard.key), began=began, pause=pause)
        except StateConflict:
            continue
    return report


def _look(context: StepContext, lost: list[Shard]) -> dict[str, Batch]:
    """Read the whole list; map keys of lost shards to their batches, the oldest if there should be several."""
    by_key = {shard.key for shard in lost}
    by_file = {shard.input_file_id: shard.key for shard in lost if shard.input_file_id is not None}
    found: dict[str, Batch] = {}
    for batch in context.provider.list_batches():
        key = batch.metadata.get("batchkit_key")
        if key not in by_key:
            key = by_file.get(batch.input_file_id) if batch.input_file_id is not None else None
        if key is None:
            continue
        known = found.get(key)
        if known is None or (batch.created_at or 0) < (known.created_at or 0):
            found[key] = batch
    return found


def _decide(context: StepContext, shard: Shard, batch: Batch | None, *, began: float, pause: float) -> StepReport:
    if batch is not None:
        adopt(context, shard, batch, detail=f"{batch.id}, found in the list")
        return StepReport({"adopted": 1}, (f"shard {shard.number}: its batch {batch.id} exists and was adopted",))
    grace_ends = (shard.submitting_since or 0.0) + context.timing.settle_seconds
    if began < grace_ends:
        postpone(context, shard, min(pause, max(grace_ends - context.clock(), 0.0)))
        return StepReport({"unsettled": 1})
    with context.store.write() as connection:
        shards.transition(
            connection,
            shard,
            ShardState.UPLOADED,
            at=context.clock(),
            owner=context.owner,
            detail="no batch exists",
            not_before=0,
        )
    return StepReport({"not created": 1}, (f"shard {shard.number}: no batch was created, it will be submitted",))
