"""Figures of a workload's open shards and what they wait for: few rows, whatever the size of the workload."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import BigInteger, and_, bindparam, case, func, or_, select

from batchkit.lifecycle import OPEN_SHARD_STATES
from batchkit.models import TERMINAL_STATUSES, BatchStatus, ShardId, ShardState
from batchkit.store.tables import batches, events, shards

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.engine import Connection

    from batchkit.models import WorkloadId

#: At most this many refusals of a shard are read to find the first one.
_MOST_REFUSALS = 50
_REFUSED = f"{ShardState.SUBMITTING.value} -> {ShardState.UPLOADED.value}"


class OpenShards(NamedTuple):
    """The shards of one open state. Times are Unix seconds, ``expires_at`` by the provider's clock.

    ``done`` counts requests that the provider reports as done; of batches that ended other than completed it counts only the
    successful ones, because failed ones include expired ones. Of the sync lane it counts the lines of the journals. ``refused`` shards were refused and wait until ``refused_until`` at
    the earliest. ``since`` is the oldest intent of shards in ``submitting`` and ``sending``, the submission of the oldest batch of submitted ones,
    and the first observed end of ended ones; else None. ``expires_at`` is the end of the last window. ``missing`` counts batches
    that the provider does not know now. ``news_at`` is when a change of a batch was last read.
    """

    shards: int
    requests: int
    done: int
    refused: int
    refused_requests: int
    refused_until: float | None
    since: float | None
    expires_at: float | None
    missing: int
    news_at: float | None = None


class Refusal(NamedTuple):
    """Why the provider refuses shards: its message, since when (Unix seconds), and the most refusals of one shard."""

    message: str | None
    since: float | None
    times: int


def _open_shards() -> Select[Any]:
    is_refused = and_(shards.c.state.in_([ShardState.PLANNED.value, ShardState.UPLOADED.value]), shards.c.refusals > 0)
    ended_early = batches.c.status.in_(sorted({*TERMINAL_STATUSES} - {BatchStatus.COMPLETED}))
    since = case(
        (
            shards.c.state.in_([ShardState.SUBMITTING.value, ShardState.SENDING.value]),
            shards.c.submitting_since,
        ),
        # By our own clock if known: an adopted batch has only the provider's time.
        (shards.c.state == ShardState.SUBMITTED.value, func.coalesce(shards.c.submitting_since, batches.c.created_at)),
        (shards.c.state == ShardState.ENDED.value, batches.c.seen_at),
    )
    done = batches.c.completed + case((ended_early, 0), else_=batches.c.failed)
    return (
        select(
            shards.c.state,
            func.count().label("shard_count"),
            func.sum(shards.c.line_count).label("requests"),
            (func.coalesce(func.sum(done), 0) + func.sum(shards.c.answered)).label("done"),
            func.sum(case((is_refused, 1), else_=0)).label("refused"),
            func.sum(case((is_refused, shards.c.line_count), else_=0)).label("refused_requests"),
            func.min(case((is_refused, shards.c.not_before))).label("refused_until"),
            func.min(since).label("since"),
            func.max(batches.c.expires_at).label("expires_at"),
            func.count(batches.c.missing_since).label("missing"),
            func.max(batches.c.seen_at).label("news_at"),
        )
        .join_from(shards, batches, batches.c.shard_id == shards.c.id, isouter=True)
        .where(
            shards.c.workload_id == bindparam("workload_id"),
            shards.c.state.in_([state.value for state in OPEN_SHARD_STATES]),
        )
        .group_by(shards.c.state)
    )


_OPEN_SHARDS = _open_shards()


def open_shards(connection: Connection, workload_id: WorkloadId) -> dict[ShardState, OpenShards]:
    """Return figures of the open shards and their batches by state; states without a shard do not appear."""
    return {
        ShardState(row.state): OpenShards(
            shards=row.shard_count,
            requests=int(row.requests),
            done=int(row.done),
            refused=int(row.refused),
            refused_requests=int(row.refused_requests),
            refused_until=row.refused_until,
            since=None if row.since is None else float(row.since),
            expires_at=None if row.expires_at is None else float(row.expires_at),
            missing=int(row.missing),
            news_at=None if row.news_at is None else float(row.news_at),
        )
        for row in connection.execute(_OPEN_SHARDS, {"workload_id": workload_id})
    }


class OldBatches(NamedTuple):
    """Batches whose results are not fetched: how many, and when the oldest one was created (Unix seconds)."""

    batches: int
    created_at: float


_OLD_BATCHES = (
    select(func.count(), func.min(batches.c.created_at))
    .join_from(shards, batches, batches.c.shard_id == shards.c.id)
    .where(
        shards.c.workload_id == bindparam("workload_id"),
        batches.c.created_at < bindparam("created_before", type_=BigInteger),
        or_(
            shards.c.state == ShardState.ENDED.value,
            # Nobody has looked, but its window is over.
            and_(
                shards.c.state == ShardState.SUBMITTED.value,
                or_(batches.c.expires_at.is_(None), batches.c.expires_at < bindparam("now", type_=BigInteger)),
            ),
        ),
    )
)


def old_batches(
    connection: Connection, workload_id: WorkloadId, *, created_before: float, now: float
) -> OldBatches | None:
    """Count the batches that have ended, or must have by their windows, and were created before a time; None without any."""
    bound = {"workload_id": workload_id, "created_before": int(created_before), "now": int(now)}
    count, created_at = connection.execute(_OLD_BATCHES, bound).one()
    return OldBatches(count, float(created_at)) if count else None


def refusal(connection: Connection, workload_id: WorkloadId) -> Refusal | None:
    """Read why shards are refused, from the one that was refused most often; None when no shard is refused."""
    query = (
        select(shards.c.id, shards.c.refusals)
        .where(
            shards.c.workload_id == workload_id,
            shards.c.state.in_([ShardState.PLANNED.value, ShardState.UPLOADED.value]),
            shards.c.refusals > 0,
        )
        .order_by(shards.c.refusals.desc(), shards.c.id)
        .limit(1)
    )
    found = connection.execute(query).one_or_none()
    if found is None:
        return None
    shard_id, times = found
    told = connection.execute(
        select(events.c.at, events.c.detail)
        .where(events.c.workload_id == workload_id, events.c.shard_id == ShardId(shard_id), events.c.kind == _REFUSED)
        .order_by(events.c.id.desc())
        .limit(min(times, _MOST_REFUSALS))
    ).all()
    if not told:
        return Refusal(None, None, times)
    return Refusal(told[0].detail, float(told[-1].at), times)
