"""poll: read the status of all submitted batches, up to 200 in one call, and end the shards of those that have ended.

A batch is read individually before it is cancelled or given up: the list may be out of date.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from batchkit.errors import AccountRefused, NotFound, ProviderError, StateConflict
from batchkit.models import GONE, BatchStatus, ShardState
from batchkit.steps.context import StepReport
from batchkit.steps.isolation import is_of_one_shard, leave_for_later, report_held
from batchkit.store import batches, events, shard_leases, shards

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.models import Batch, BatchId, Shard, WorkloadId
    from batchkit.steps.context import StepContext

#: A batch counts as unknown for ``stuck_seconds`` only after as many intervals between two probes.
_LEAST_ABSENCES = 4
#: After this many failed calls in a row the provider counts as away; until then the other batches are polled.
_MOST_FAILURES = 2


def poll(context: StepContext, workload_id: WorkloadId) -> StepReport:
    """Read the status of every submitted batch; a terminal one ends its shard.

    In the report ``polled`` counts batches, ``changed`` those with a new status, ``status calls`` the list calls. Raises
    ``AccountRefused``; any other error of the provider is reported as an outage, and what was read before it is stored.
    """
    with context.store.read() as connection:
        watched = batches.open_of_workload(connection, workload_id)
    report = StepReport({})
    failures = 0
    size = context.provider.dialect.batches_per_poll
    for start in range(0, len(watched), size):
        part = _poll_some(context, watched[start : start + size])
        report += part + StepReport({"status calls": 1})
        failures = 0 if part.counts.get("polled") else failures + (part.outage is not None)
        if failures >= _MOST_FAILURES:
            break
    return report


@dataclass(slots=True)
class _News:
    """The results of one status call and its individual reads, to be stored in two transactions: each one syncs the disk.

    ``running`` has batches that have changed, ``relieved`` shards whose batch is no longer overdue, ``ended`` batches that end
    their shard, with the detail for the journal. ``own_reads`` are batches that are read individually because the list is not
    trusted alone; ``failed_reads`` counts unanswered reads of batches that the list lacks.
    """

    own_reads: set[BatchId]
    failed_reads: int = 0
    running: list[Batch] = field(default_factory=list)
    relieved: list[Shard] = field(default_factory=list)
    ended: list[tuple[Shard, Batch, str]] = field(default_factory=list)


def _poll_some(context: StepContext, part: Sequence[tuple[Shard, Batch]]) -> StepReport:
    news = _News(context.probes.choose([batch for _, batch in part], now=context.clock()))
    report = StepReport({})
    try:
        listed = context.provider.get_batches([batch.id for _, batch in part])
        for shard, last in part:
            try:
                report += _judge(context, shard, last, listed.get(last.id), news)
            except Exception as error:
                if not is_of_one_shard(error):
                    raise
                report += leave_for_later(context, shard.id, error, work="polling")
    except AccountRefused:
        raise
    except ProviderError as error:
        report += context.outage(error)
    return report + _store_news(context, news)


def _judge(context: StepContext, shard: Shard, last: Batch, listed: Batch | None, news: _News) -> StepReport:
    """Decide one batch by the reply to a status call."""
    seen = _read_missing(context, shard, last, news) if listed is None else _read_where_due(context, last, listed, news)
    if isinstance(seen, StepReport):
        return seen
    if seen.is_terminal:
        return _end(context, shard, replace(seen, id=last.id), seen.status, news)
    has_changed = _differs(seen, last) or seen.expires_at != last.expires_at
    context.probes.saw(last.id, changed=has_changed)
    is_overdue = _is_overdue(context, seen)
    if shard.refusals and (_shows_progress(seen, last) or not is_overdue):
        # Any sign of life restarts the waits of an overdue batch.
        news.relieved.append(shard)
    elif is_overdue:
        return _handle_overdue(context, shard, seen, news)
    if has_changed or last.missing_since is not None:
        news.running.append(seen)
    return StepReport({"polled": 1, "changed": int(seen.status != last.status)})


def _read_missing(context: StepContext, shard: Shard, last: Batch, news: _News) -> Batch | StepReport:
    """Read a batch that the list lacks, or report why it cannot be decided now. Raises ``AccountRefused``."""
    if news.failed_reads >= _MOST_FAILURES:
        return StepReport({})
    try:
        return context.provider.get_batch(last.id)
    except NotFound:
        return _not_known(context, shard, last, news)
    except AccountRefused:
        raise
    except ProviderError as error:
        news.failed_reads += 1
        return context.outage(error, what=f"batch {last.id} cannot be read")


def _read_where_due(context: StepContext, last: Batch, listed: Batch, news: _News) -> Batch | StepReport:
    """Read a batch individually if the list is not trusted alone. Raises ``AccountRefused``."""
    if not _needs_own_read(context, last, listed, news):
        return listed
    try:
        seen = context.provider.get_batch(last.id)
    except AccountRefused:
        raise
    except ProviderError:
        # The list shows that it exists; the decision has to wait for a reply.
        return StepReport({"polled": 1})
    context.probes.read_alone(last.id, list_was_wrong=_differs(seen, listed) and _differs(seen, last))
    return seen


def _needs_own_read(context: StepContext, last: Batch, listed: Batch, news: _News) -> bool:
    """Return whether the list is not enough: it contradicts the last reply, needs a decision, or has not changed for long."""
    if listed.is_terminal:
        return False
    if last.is_terminal or _is_overdue(context, listed):
        return True
    return last.id in news.own_reads and not _differs(listed, last)


def _differs(one: Batch, other: Batch) -> bool:
    return (one.status, one.counts) != (other.status, other.counts)


def _shows_progress(seen: Batch, last: Batch) -> bool:
    """Return whether the batch made progress since the last reply. Our own cancellation, or a list without it, is no progress."""
    is_about_a_cancel = BatchStatus.CANCELLING in {seen.status, last.status}
    return seen.counts != last.counts or (seen.status != last.status and not is_about_a_cancel)


def _end(context: StepContext, shard: Shard, batch: Batch, detail: str, news: _News) -> StepReport:
    context.probes.forget(batch.id)
    news.ended.append((shard, batch, detail))
    return StepReport({})


def _store_news(context: StepContext, news: _News) -> StepReport:
    """Store the news in two transactions. Rows that another process holds are left to the next poll; no lock is waited for.

    Reports who holds the rows of a batch that has ended.
    """
    now = context.clock()
    if news.running or news.relieved:
        with context.store.write() as connection:
            free_shards = shard_leases.unheld(connection, [shard.id for shard in news.relieved])
            for shard in news.relieved:
                if shard.id in free_shards:
                    shards.wait_until(connection, shard, 0, refusals=0)
            free = batches.unheld(connection, [batch.id for batch in news.running])
            batches.see(connection, *(batch for batch in news.running if batch.id in free), seen_at=now)
    ended = passed_over = 0
    if news.ended:
        with context.store.write() as connection:
            free_shards = shard_leases.unheld(connection, [shard.id for shard, _, _ in news.ended])
            free = batches.unheld(connection, [batch.id for _, batch, _ in news.ended])
            for shard, batch, detail in news.ended:
                if shard.id not in free_shards or batch.id not in free:
                    passed_over += 1
                    continue
                # A shard that another runner has moved raises here, before anything of it is written.
                with suppress(StateConflict):
                    shards.transition(
                        connection, shard, ShardState.ENDED, at=now, detail=detail, not_before=0, refusals=0
                    )
                    batches.see(connection, batch, seen_at=now)
                    ended += 1
    report = StepReport({"polled": ended, "ended": ended, "changed": ended} if ended else {})
    return report + report_held(context, ("shards", "batches")) if passed_over else report


def _not_known(context: StepContext, shard: Shard, last: Batch, news: _News) -> StepReport:
    """Record that the provider does not know a batch; after ``stuck_seconds`` it is gone, and its requests count as missing.

    Giving it up means paying for its answers again: the wait is long, and the time between two probes counts only in part.
    """
    stuck_seconds = context.timing.stuck_seconds
    with context.store.write() as connection:
        now = context.clock()
        since = batches.mark_missing(connection, last.id, at=now, longest_gap=stuck_seconds / _LEAST_ABSENCES)
    if now - since < stuck_seconds:
        return StepReport({}, (f"batch {last.id} is not known to the provider; it will be looked for again",))
    then = "count as missing" if shard.is_adopted else "are sent again"
    note = f"batch {last.id} is gone at the provider; its requests {then}"
    return _end(context, shard, replace(last, status=GONE), note, news) + StepReport({}, (note,))


def _is_overdue(context: StepContext, batch: Batch) -> bool:
    """Return whether a batch still runs ``stuck_seconds`` after its expiry, both by the provider's clock."""
    expires_at = batch.expires_at
    return expires_at is not None and context.provider_now() >= expires_at + context.timing.stuck_seconds


def _handle_overdue(context: StepContext, shard: Shard, batch: Batch, news: _News) -> StepReport:
    """Cancel an overdue batch, and if it still does not end, give it up with the files that it has. An adopted one is only watched.

    ``stuck_seconds`` pass before each of the two: a running batch is paid for. ``not_before`` of the submitted shard is the end of
    the current wait, ``refusals`` how many of these waits have begun.
    """
    now, stuck_seconds = context.clock(), context.timing.stuck_seconds
    # A wait that ends later than this was written by a wrong clock.
    if shard.refusals and now < shard.not_before <= now + stuck_seconds:
        return StepReport({"polled": 1})
    late_seconds = context.provider_now() - (batch.expires_at or 0)
    late = f"batch {batch.id} is still {batch.status} {late_seconds:.0f} s past its expiry"
    match shard.refusals:
        case _ if shard.is_adopted:
            # Whoever created it may still want it.
            if shard.refusals:
                return StepReport({"polled": 1})
            note = f"{late}; only `batchkit cancel` cancels a batch that was adopted"
        case 0:
            note = f"{late}; if it stays so, it will be asked to cancel"
        case 1:
            replied = _cancel_quietly(context, batch.id)
            if replied is not None and replied.is_terminal:
                return _end(context, shard, replied, replied.status, news)
            if replied is not None:
                news.running.append(replied)
            note = f"{late}; it was asked to cancel"
        case _:
            note = f"{late} and does not cancel; what it has is merged and the rest is sent again"
            return _end(context, shard, batch, note, news) + StepReport({}, (note,))
    with context.store.write() as connection:
        shards.wait_until(connection, shard, now + stuck_seconds, refusals=shard.refusals + 1)
        events.record(connection, shard.workload_id, "overdue", at=now, shard_id=shard.id, detail=note)
    return StepReport({"polled": 1}, (note,))


def _cancel_quietly(context: StepContext, batch_id: BatchId) -> Batch | None:
    """Cancel a batch; return the provider's reply, None when the call failed.

    The wait for the batch ends in both cases. Raises ``AccountRefused``.
    """
    try:
        return context.provider.cancel_batch(batch_id)
    except AccountRefused:
        raise
    except ProviderError:
        return None
