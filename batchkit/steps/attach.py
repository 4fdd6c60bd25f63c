"""attach: record an existing batch for its shard, and cancel a second batch of the same shard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit.errors import AccountRefused, BatchIdTaken, ProviderError, StateConflict
from batchkit.models import ShardState
from batchkit.steps.context import StepReport
from batchkit.store import batches, events, shards

if TYPE_CHECKING:
    from batchkit.models import Batch, Shard
    from batchkit.steps.context import StepContext


def attach(context: StepContext, shard: Shard, batch: Batch, *, detail: str, count: str) -> StepReport:
    """Record the batch of a shard's file: ``submitting`` becomes ``submitted``; the report counts it as ``count``.

    Needs no lease: the batch exists, whoever holds the shard by now. When the shard has moved on without this batch, the
    batch is surplus. Raises ``BatchIdTaken`` when this database has the id for another shard.
    """
    try:
        _record(context, shard, batch, detail=detail)
    except StateConflict:
        with context.store.read() as connection:
            now = shards.get(connection, shard.id)
        if now.batch_id == batch.id:
            return StepReport({"taken over": 1})
        return cancel_surplus(context, now, batch)
    return StepReport({count: 1})


def _record(context: StepContext, shard: Shard, batch: Batch, *, detail: str) -> None:
    with context.store.write() as connection:
        if shards.get(connection, shard.id).input_file_id != shard.input_file_id:
            raise StateConflict(f"shard {shard.number} was uploaded anew")
        holder = batches.holder_of(connection, batch.id)
        if holder is not None and holder.shard_id != shard.id:
            raise _taken(shard, batch, holder)
        shards.transition(
            connection,
            shard,
            ShardState.SUBMITTED,
            at=context.clock(),
            detail=detail,
            batch_id=batch.id,
            not_before=0,
            refusals=0,
        )
        batches.add(connection, batch, workload_id=shard.workload_id, shard_id=shard.id, seen_at=context.clock())


def _taken(shard: Shard, batch: Batch, holder: batches.Holder) -> BatchIdTaken:
    remedy = ""
    if holder.workload_id != shard.workload_id:
        remedy = (
            f", or `batchkit clean {holder.workload_name}`, which deletes its answers, and run the same command again"
        )
    return BatchIdTaken(
        f"the provider gave the batch of shard {shard.number} the id {batch.id}, which belongs to shard"
        f" {holder.shard_number} of workload {holder.workload_name!r} already",
        hint=f"a server that was reset counts its ids anew: give it a database of its own (BATCHKIT_DATABASE_URL){remedy}",
    )


def cancel_surplus(context: StepContext, shard: Shard, batch: Batch) -> StepReport:
    """Cancel a batch that its shard does not need, and record that. Raises ``AccountRefused``."""
    note = f"shard {shard.number}: batch {batch.id} is one too many"
    if shard.batch_id is not None:
        note += f" beside {shard.batch_id}"
    try:
        context.provider.cancel_batch(batch.id)
        note += "; it was cancelled"
    except AccountRefused:
        raise
    except ProviderError as error:
        note += f" and could not be cancelled ({error}): cancel it by hand, nobody reads its answers"
    with context.store.write() as connection:
        events.record(
            connection, shard.workload_id, "surplus batch", at=context.clock(), shard_id=shard.id, detail=note
        )
    return StepReport({"surplus": 1}, (note,))
