"""poll: ask how the batches are, up to 200 in one call, and note which have ended."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from batchkit.errors import Forbidden, NotFound, ProviderError, StateConflict, Unauthorized
from batchkit.models import GONE, ShardState
from batchkit.steps.context import StepReport
from batchkit.store import batches, events, shards

if TYPE_CHECKING:
    from batchkit.models import Batch, BatchId, Shard, WorkloadId
    from batchkit.steps.context import StepContext


def poll(context: StepContext, workload_id: WorkloadId) -> StepReport:
    """Read the state of every submitted batch; terminal ones end their shard.

    ``looked at`` in the report counts batches, ``changed`` those whose status is another than last time. Raises ``Unauthorized`` and
    ``Forbidden``; any other trouble is reported as an outage, and what was read until then is kept.
    """
    with context.store.read() as connection:
        watched = batches.open_of_workload(connection, workload_id)
    report = StepReport({})
    size = context.provider.limits.ids_per_status_call
    for start in range(0, len(watched), size):
        part = watched[start : start + size]
        try:
            seen = context.provider.get_batches([batch.id for _, batch in part])
            for shard, last in part:
                report += _look_at(context, shard, last, seen.get(last.id))
        except (Unauthorized, Forbidden):
            raise
        except ProviderError as error:
            return report + StepReport({}, (f"the provider cannot be asked: {error}",), outage=str(error))
    return report


def _look_at(context: StepContext, shard: Shard, last: Batch, seen: Batch | None) -> StepReport:
    if seen is None:
        try:
            seen = context.provider.get_batch(last.id)
        except NotFound:
            return _not_known(context, shard, last)
    if seen.is_terminal:
        return _end(context, shard, replace(seen, id=last.id), detail=seen.status)
    report = _overdue(context, shard, seen)
    if report.counts.get("ended"):
        return report
    if (seen.status, seen.counts, seen.expires_at) != (last.status, last.counts, last.expires_at):
        with context.store.write() as connection:
            batches.see(connection, seen, seen_at=context.clock())
    return report + StepReport({"looked at": 1, "changed": int(seen.status != last.status)})


def _end(context: StepContext, shard: Shard, batch: Batch, *, detail: str) -> StepReport:
    try:
        with context.store.write() as connection:
            batches.see(connection, batch, seen_at=context.clock())
            shards.transition(
                connection, shard, ShardState.ENDED, at=context.clock(), detail=detail, not_before=0, refusals=0
            )
    except StateConflict:
        return StepReport({})
    return StepReport({"looked at": 1, "ended": 1, "changed": 1})


def _not_known(context: StepContext, shard: Shard, last: Batch) -> StepReport:
    """A batch may be unknown for a while; one that stays so is gone, and its requests count as missing.

    To give it up is to pay for its answers again, so the wait is long.
    """
    with context.store.write() as connection:
        since = batches.mark_missing(connection, last.id, at=context.clock())
    if context.clock() - since < context.timing.stuck_seconds:
        return StepReport({}, (f"batch {last.id} is not known to the provider; it will be looked for again",))
    note = f"batch {last.id} is gone at the provider; its requests are sent again"
    return _end(context, shard, replace(last, status=GONE), detail=note) + StepReport({}, (note,))


def _overdue(context: StepContext, shard: Shard, batch: Batch) -> StepReport:
    """A batch that does not end is asked to cancel, and given up with whatever files it has when that does not help.

    Before each of the two ``stuck_seconds`` pass, the first of them in case that it is our clock that is wrong: what runs is
    paid for. ``not_before`` of the submitted shard remembers until when, ``refusals`` how many of them have begun.
    """
    now = context.clock()
    if batch.expires_at is None or now < batch.expires_at + context.timing.stuck_seconds:
        return StepReport({})
    if shard.refusals and now < shard.not_before:
        return StepReport({})
    late = f"batch {batch.id} is still {batch.status} {now - batch.expires_at:.0f} s past its expiry"
    match shard.refusals:
        case 0:
            note = f"{late} by the clock of this machine; if it stays so, it will be asked to cancel"
        case 1:
            _cancel_quietly(context, batch.id)
            note = f"{late}; it was asked to cancel"
        case _:
            note = f"{late} and does not cancel; what it has is merged and the rest is sent again"
            return _end(context, shard, batch, detail=note) + StepReport({}, (note,))
    with context.store.write() as connection:
        shards.wait_until(connection, shard, now + context.timing.stuck_seconds, refusals=shard.refusals + 1)
        events.record(connection, shard.workload_id, "overdue", at=now, shard_id=shard.id, detail=note)
    return StepReport({}, (note,))


def _cancel_quietly(context: StepContext, batch_id: BatchId) -> None:
    try:
        context.provider.cancel_batch(batch_id)
    except ProviderError:
        return  # the wait for it ends whether or not it could be asked
