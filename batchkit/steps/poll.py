"""poll: ask how the batches are, up to 200 in one call, and note which have ended."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from batchkit.errors import AccountRefused, NotFound, ProviderError, StateConflict
from batchkit.models import GONE, ShardState
from batchkit.steps.context import StepReport
from batchkit.store import batches, events, shards

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.models import Batch, BatchId, Shard, WorkloadId
    from batchkit.steps.context import StepContext


def poll(context: StepContext, workload_id: WorkloadId) -> StepReport:
    """Read the state of every submitted batch; terminal ones end their shard.

    ``looked at`` in the report counts batches, ``changed`` those whose status is another than last time, ``status calls`` what
    it took to ask. Raises ``AccountRefused``; any other trouble is reported as an outage, and what was read until then is kept.
    """
    with context.store.read() as connection:
        watched = batches.open_of_workload(connection, workload_id)
    report = StepReport({})
    size = context.provider.limits.ids_per_status_call
    for start in range(0, len(watched), size):
        report += _poll_some(context, watched[start : start + size]) + StepReport({"status calls": 1})
        if report.outage is not None:
            break
    return report


@dataclass(slots=True)
class _News:
    """What one status call brought, to be written down together: a batch by itself would be a sync of the disk by itself.

    ``running`` has batches that tell something new, ``ended`` those that end their shard, with a word for the journal.
    """

    running: list[Batch] = field(default_factory=list)
    ended: list[tuple[Shard, Batch, str]] = field(default_factory=list)


def _poll_some(context: StepContext, part: Sequence[tuple[Shard, Batch]]) -> StepReport:
    news = _News()
    report = StepReport({})
    try:
        seen = context.provider.get_batches([batch.id for _, batch in part])
        for shard, last in part:
            report += _look_at(context, shard, last, seen.get(last.id), news)
    except AccountRefused:
        raise
    except ProviderError as error:
        report += StepReport({}, (f"the provider cannot be asked: {error}",), outage=str(error))
    return report + _write_down(context, news)


def _look_at(context: StepContext, shard: Shard, last: Batch, seen: Batch | None, news: _News) -> StepReport:
    if seen is None:
        try:
            seen = context.provider.get_batch(last.id)
        except NotFound:
            return _not_known(context, shard, last, news)
    if seen.is_terminal:
        news.ended.append((shard, replace(seen, id=last.id), seen.status))
        return StepReport({})
    is_given_up, note = _overdue(context, shard, seen)
    notes = () if note is None else (note,)
    if is_given_up:
        news.ended.append((shard, seen, note or seen.status))
        return StepReport({}, notes)
    if (seen.status, seen.counts, seen.expires_at) != (last.status, last.counts, last.expires_at):
        news.running.append(seen)
    return StepReport({"looked at": 1, "changed": int(seen.status != last.status)}, notes)


def _write_down(context: StepContext, news: _News) -> StepReport:
    """Write what is new in two transactions, each in the order of the shards, so that runners never wait for each other in a circle."""
    now = context.clock()
    if news.running:
        with context.store.write() as connection:
            batches.see(connection, *news.running, seen_at=now)
    ended = 0
    if news.ended:
        with context.store.write() as connection:
            for shard, batch, detail in news.ended:
                # What another runner has taken on is found out before anything is written of it.
                with suppress(StateConflict):
                    shards.transition(
                        connection, shard, ShardState.ENDED, at=now, detail=detail, not_before=0, refusals=0
                    )
                    batches.see(connection, batch, seen_at=now)
                    ended += 1
    return StepReport({"looked at": ended, "ended": ended, "changed": ended} if ended else {})


def _not_known(context: StepContext, shard: Shard, last: Batch, news: _News) -> StepReport:
    """A batch may be unknown for a while; one that stays so is gone, and its requests count as missing.

    To give it up is to pay for its answers again, so the wait is long.
    """
    with context.store.write() as connection:
        since = batches.mark_missing(connection, last.id, at=context.clock())
    if context.clock() - since < context.timing.stuck_seconds:
        return StepReport({}, (f"batch {last.id} is not known to the provider; it will be looked for again",))
    note = f"batch {last.id} is gone at the provider; its requests are sent again"
    news.ended.append((shard, replace(last, status=GONE), note))
    return StepReport({}, (note,))


def _overdue(context: StepContext, shard: Shard, batch: Batch) -> tuple[bool, str | None]:
    """A batch that does not end is asked to cancel, and given up with whatever files it has when that does not help.

    Before each of the two ``stuck_seconds`` pass, the first of them in case that it is our clock that is wrong: what runs is
    paid for. ``not_before`` of the submitted shard remembers until when, ``refusals`` how many of them have begun. Returns
    whether it is given up now, and what there is to say.
    """
    now = context.clock()
    if batch.expires_at is None or now < batch.expires_at + context.timing.stuck_seconds:
        return False, None
    if shard.refusals and now < shard.not_before:
        return False, None
    late = f"batch {batch.id} is still {batch.status} {now - batch.expires_at:.0f} s past its expiry"
    match shard.refusals:
        case 0:
            note = f"{late} by the clock of this machine; if it stays so, it will be asked to cancel"
        case 1:
            _cancel_quietly(context, batch.id)
            note = f"{late}; it was asked to cancel"
        case _:
            return True, f"{late} and does not cancel; what it has is merged and the rest is sent again"
    with context.store.write() as connection:
        shards.wait_until(connection, shard, now + context.timing.stuck_seconds, refusals=shard.refusals + 1)
        events.record(connection, shard.workload_id, "overdue", at=now, shard_id=shard.id, detail=note)
    return False, note


def _cancel_quietly(context: StepContext, batch_id: BatchId) -> None:
    try:
        context.provider.cancel_batch(batch_id)
    except ProviderError:
        return  # the wait for it ends whether or not it could be asked
