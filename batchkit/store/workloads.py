"""Workloads: rows, the lease for cutting shards, and counts for reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Integer, and_, bindparam, delete, exists, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from batchkit.errors import UnknownWorkload
from batchkit.lifecycle import OPEN_SHARD_STATES
from batchkit.models import (
    FailureReason,
    Lane,
    RequestCountsByState,
    RequestState,
    RetryPolicy,
    Workload,
    WorkloadId,
)
from batchkit.store import events, reuse
from batchkit.store import shards as shard_rows
from batchkit.store.tables import (
    FAILED,
    UNFINISHED,
    attempts,
    batches,
    bodies,
    placements,
    requests,
    results,
    reviews,
    runners,
    shards,
    workloads,
)
from batchkit.store.tables import events as event_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import BindParameter, Select
    from sqlalchemy.engine import Connection

    from batchkit.models import ShardState
    from batchkit.store.shards import ShardTotals


def _workload(row: Any) -> Workload:
    return Workload(
        id=WorkloadId(row.id),
        name=row.name,
        created_at=row.created_at,
        source=row.source,
        directory=row.directory,
        input_sha256=row.input_sha256,
        request_count=row.request_count,
        window=row.completion_window,
        max_window=row.max_completion_window,
        shard_lines=row.shard_lines,
        shard_bytes=row.shard_bytes,
        policy=RetryPolicy(
            max_attempts=row.max_attempts, max_expiries=row.max_expiries, resends_doubts=row.resends_doubts
        ),
        credential=row.credential,
        cancel_requested_at=row.cancel_requested_at,
        provider=row.provider,
        answer_rules=row.answer_rules,
        recipe=row.recipe,
        skipped_rows=row.skipped_rows,
        reuse=row.reuse,
        reused_requests=row.reused_requests,
        repeated_requests=row.repeated_requests,
        output=row.output,
        stopped_at=row.stopped_at,
        stopped_reason=row.stopped_reason,
        lease_owner=row.lease_owner,
        lease_until=row.lease_until,
        adopted_at=row.adopted_at,
        holds=row.holds,
        lane=Lane(row.lane),
        is_lane_auto=row.is_lane_auto,
        tiers=row.tiers,
        max_cost_usd=row.max_cost_usd,
        max_total_tokens=row.max_total_tokens,
        budget_of=None if row.budget_of is None else WorkloadId(row.budget_of),
        deadline=row.deadline,
        deadline_since=row.deadline_since,
        stops_late=row.stops_late,
        sync_rate=row.sync_rate,
        drain_since=row.drain_since,
    )


def add(
    connection: Connection,
    *,
    name: str,
    source: str,
    directory: str,
    window: str,
    max_window: str,
    shard_lines: int,
    shard_bytes: int,
    policy: RetryPolicy,
    provider: str,
    at: float,
    answer_rules: str | None = None,
    recipe: str | None = None,
    skipped_rows: int = 0,
    reuse_mode: str | None = None,
    is_adopted: bool = False,
    lane: Lane = Lane.BATCH,
    is_lane_auto: bool = False,
    tiers: str | None = None,
    max_cost_usd: float | None = None,
    max_total_tokens: int | None = None,
    budget_of: WorkloadId | None = None,
    deadline: float | None = None,
    stops_late: bool = False,
    sync_rate: float | None = None,
) -> bool:
    """Insert a workload unless the name is taken; return whether it was inserted. One that ``is_adopted`` holds."""
    values = {
        "name": name,
        "source": source,
        "directory": directory,
        "created_at": at,
        "completion_window": window,
        "max_completion_window": max_window,
        "shard_lines": shard_lines,
        "shard_bytes": shard_bytes,
        "max_attempts": policy.max_attempts,
        "max_expiries": policy.max_expiries,
        "provider": provider,
        "answer_rules": answer_rules,
        "recipe": recipe,
        "skipped_rows": skipped_rows,
        "reuse": reuse_mode,
        "adopted_at": at if is_adopted else None,
        "holds": is_adopted,
        "lane": lane.value,
        "is_lane_auto": is_lane_auto,
        "tiers": tiers,
        "resends_doubts": policy.resends_doubts,
        "max_cost_usd": max_cost_usd,
        "max_total_tokens": max_total_tokens,
        "budget_of": budget_of,
        "deadline": deadline,
        "deadline_since": None if deadline is None else at,
        "stops_late": stops_late,
        "sync_rate": sync_rate,
    }
    try:
        with connection.begin_nested():
            workload_id = connection.execute(insert(workloads).returning(workloads.c.id), values).scalar_one()
    except IntegrityError:
        if find(connection, name) is None:
            raise
        return False
    events.record(connection, workload_id, "workload created", at=at, detail=source)
    return True


_BY_NAME = select(workloads).where(workloads.c.name == bindparam("workload_name"))
_BY_ID = select(workloads).where(workloads.c.id == bindparam("workload_id"))


def find(connection: Connection, name: str) -> Workload | None:
    """Read a workload by name."""
    row = connection.execute(_BY_NAME, {"workload_name": name}).one_or_none()
    return None if row is None else _workload(row)


def get(connection: Connection, workload_id: WorkloadId) -> Workload:
    """Read a workload. Raises ``UnknownWorkload`` when it was removed."""
    row = connection.execute(_BY_ID, {"workload_id": workload_id}).one_or_none()
    if row is None:
        raise UnknownWorkload(f"there is no workload {workload_id} (any more)")
    return _workload(row)


def every(connection: Connection) -> list[Workload]:
    """Read all workloads, oldest first."""
    return [_workload(row) for row in connection.execute(select(workloads).order_by(workloads.c.id))]


def with_recipes(connection: Connection, *, newest: int) -> list[Workload]:
    """Read the ``newest`` workloads that were made from tables and are completely split, newest first."""
    is_whole = and_(workloads.c.recipe.is_not(None), workloads.c.request_count.is_not(None))
    query = select(workloads).where(is_whole).order_by(workloads.c.id.desc()).limit(newest)
    return [_workload(row) for row in connection.execute(query)]


def names(connection: Connection) -> list[str]:
    """Read the names of all workloads, newest first."""
    return list(connection.scalars(select(workloads.c.name).order_by(workloads.c.id.desc())))


def open_workloads(connection: Connection) -> list[Workload]:
    """Read the workloads that are completely split and have open requests, oldest first."""
    owes = or_(
        exists().where(
            shards.c.workload_id == workloads.c.id, shards.c.state.in_([state.value for state in OPEN_SHARD_STATES])
        ),
        select(requests.c.seq)
        .where(requests.c.workload_id == workloads.c.id, requests.c.state == RequestState.PENDING.value, UNFINISHED)
        .exists(),
    )
    query = select(workloads).where(and_(workloads.c.request_count.is_not(None), owes)).order_by(workloads.c.id)
    return [_workload(row) for row in connection.execute(query)]


def set_values(connection: Connection, workload_id: WorkloadId, **values: Any) -> None:
    """Write columns of a workload."""
    connection.execute(update(workloads).where(workloads.c.id == workload_id).values(**values))


def lock(connection: Connection, workload_id: WorkloadId) -> None:
    """Lock the row of a workload until the transaction ends: merges of batches that share requests run one after another."""
    query = select(workloads.c.id).where(workloads.c.id == workload_id)
    connection.execute(query.with_for_update(key_share=True))


def is_unheld(connection: Connection, workload_id: WorkloadId) -> bool:
    """Lock the row of a workload unless another transaction has locked it; return whether it was locked. Never waits for a lock."""
    query = select(workloads.c.id).where(workloads.c.id == workload_id)
    return connection.execute(query.with_for_update(key_share=True, skip_locked=True)).first() is not None


def take_lease(
    connection: Connection, workload_id: WorkloadId, *, owner: str, now: float, lease_seconds: float
) -> bool:
    """Take the lease for cutting shards of a workload; return False when another owner holds it."""
    free = or_(workloads.c.lease_until.is_(None), workloads.c.lease_until < now, workloads.c.lease_owner == owner)
    statement = update(workloads).where(workloads.c.id == workload_id, free)
    return connection.execute(statement.values(lease_owner=owner, lease_until=now + lease_seconds)).rowcount == 1


_END_IMPOSSIBLE_LEASE = (
    update(workloads)
    .where(workloads.c.id == bindparam("own_id"), workloads.c.lease_until > bindparam("beyond"))
    .values(lease_owner=None, lease_until=None)
)


def end_impossible_lease(connection: Connection, workload_id: WorkloadId, *, beyond: float) -> None:
    """End a lease on the workload that runs past ``beyond`` (Unix seconds): a clock ahead of ours wrote it."""
    connection.execute(_END_IMPOSSIBLE_LEASE, {"own_id": workload_id, "beyond": beyond})


_LOCKED_LEASE = select(workloads.c.lease_owner).where(workloads.c.id == bindparam("workload_id")).with_for_update()


def holds_lease(connection: Connection, workload_id: WorkloadId, owner: str) -> bool:
    """Return whether the owner still holds the lease, and lock the row until the transaction ends."""
    return connection.execute(_LOCKED_LEASE, {"workload_id": workload_id}).scalar_one_or_none() == owner


def release_lease(connection: Connection, owner: str) -> None:
    """Give up the owner's leases on workloads. A row that another transaction has locked keeps its lease."""
    own = select(workloads.c.id).where(workloads.c.lease_owner == owner).with_for_update(skip_locked=True).cte("own")
    statement = update(workloads).where(workloads.c.id.in_(select(own.c.id)))
    connection.execute(statement.values(lease_owner=None, lease_until=None))


class SplitStatus(NamedTuple):
    """Whether a workload's input is completely split, and the owner of the lease on the workload, None without one."""

    is_whole: bool
    owner: str | None


_SPLIT_STATUS = select(workloads.c.request_count, workloads.c.lease_owner, workloads.c.lease_until).where(
    workloads.c.id == bindparam("workload_id")
)


def split_status(connection: Connection, workload_id: WorkloadId, *, now: float) -> SplitStatus:
    """Read the status in one statement; a workload that was removed is not completely split and has no owner."""
    row = connection.execute(_SPLIT_STATUS, {"workload_id": workload_id}).one_or_none()
    if row is None:
        return SplitStatus(is_whole=False, owner=None)
    holds = row.lease_until is not None and row.lease_until >= now
    return SplitStatus(row.request_count is not None, row.lease_owner if holds else None)


def renew_leases(connection: Connection, owner: str, until: float) -> None:
    """Extend every lease of the owner, except of rows that another transaction has locked, so that the others need not wait."""
    own = select(workloads.c.id).where(workloads.c.lease_owner == owner).with_for_update(skip_locked=True).cte("own")
    connection.execute(update(workloads).where(workloads.c.id.in_(select(own.c.id))).values(lease_until=until))


def lease_owners(connection: Connection) -> set[str]:
    """Return the owners of all leases on workloads."""
    query = select(workloads.c.lease_owner).where(workloads.c.lease_owner.is_not(None)).distinct()
    return set(connection.scalars(query))


def finish_split(
    connection: Connection,
    workload_id: WorkloadId,
    *,
    sha256: str,
    request_count: int,
    at: float,
    reused: int = 0,
    repeated: int = 0,
) -> None:
    """Declare the split complete: from now on its shards may be sent.

    ``reused`` requests have an answer already, ``repeated`` ones ask the same as an earlier one.
    """
    set_values(
        connection,
        workload_id,
        input_sha256=sha256,
        request_count=request_count,
        reused_requests=reused,
        repeated_requests=repeated,
    )
    unsent = f", {reused} with a kept answer, {repeated} that repeat another" if reused or repeated else ""
    events.record(connection, workload_id, events.SPLIT, at=at, detail=f"{request_count} requests{unsent}")


def remove(connection: Connection, workload_id: WorkloadId) -> None:
    """Remove a workload with all its rows, except answers that other workloads have reused."""
    # Until the transaction ends, no other workload can begin to refer to its answers.
    locked = select(workloads.c.reuse).where(workloads.c.id == workload_id).with_for_update()
    has_reuse = connection.execute(locked).scalar_one_or_none() is not None
    if has_reuse:
        reuse.hand_on(connection, workload_id)
    own_shards = select(shards.c.id).where(shards.c.workload_id == workload_id)
    # Their keys begin with the shard.
    for table in (attempts, placements) if has_reuse else (bodies, attempts, placements):
        connection.execute(delete(table).where(table.c.shard_id.in_(own_shards)))
    for table in (results, requests, batches, event_rows, shards, runners, reviews):
        connection.execute(delete(table).where(table.c.workload_id == workload_id))
    connection.execute(delete(workloads).where(workloads.c.id == workload_id))


_UNFINISHED_STATES = (RequestState.PENDING, RequestState.FAILED, RequestState.CANCELLED)
# Three counts of the partial index in one statement.
_COUNT_UNFINISHED = select(
    *(
        select(func.count())
        .where(requests.c.workload_id == bindparam("workload_id"), requests.c.state == state.value, UNFINISHED)
        .scalar_subquery()
        for state in _UNFINISHED_STATES
    )
)


def count_requests(
    connection: Connection, workload: Workload, totals: Mapping[ShardState, ShardTotals] | None = None
) -> RequestCountsByState:
    """Count the workload's requests by state without reading them.

    Requests in flight are the lines of open shards and those that wait for the answer to the same question; pending, failed and
    cancelled ones are in a partial index; the others have succeeded. ``totals`` are those of the workload's shards, if the caller has read them already.
    """
    if totals is None:
        totals = shard_rows.totals_by_state(connection, workload.id)
    following = reuse.waiting_followers(connection, workload.id) if workload.repeated_requests else 0
    in_flight = following + sum(totals[state].lines for state in OPEN_SHARD_STATES if state in totals)
    counted = connection.execute(_COUNT_UNFINISHED, {"workload_id": workload.id}).one()
    unfinished = dict(zip(_UNFINISHED_STATES, counted, strict=True))
    total = workload.request_count if workload.request_count is not None else in_flight
    return RequestCountsByState(
        total=total,
        pending=unfinished[RequestState.PENDING],
        in_flight=in_flight,
        succeeded=total - in_flight - sum(unfinished.values()),
        failed=unfinished[RequestState.FAILED],
        cancelled=unfinished[RequestState.CANCELLED],
        following=following,
    )


def _failure_reasons() -> Select[Any]:
    workload_id: BindParameter[Any] = bindparam("workload_id")
    groups = (
        select(results.c.error_code, func.count().label("failures"), func.min(results.c.seq).label("first_seq"))
        .where(results.c.workload_id == workload_id, FAILED)
        .group_by(results.c.error_code)
        .order_by(func.count().desc(), func.min(results.c.seq))
        .limit(bindparam("most", type_=Integer))
        .subquery("groups")
    )
    return (
        select(
            func.coalesce(groups.c.error_code, "unknown"),
            results.c.status_code,
            groups.c.failures,
            results.c.error_message,
        )
        .join(groups, and_(results.c.workload_id == workload_id, results.c.seq == groups.c.first_seq))
        .order_by(groups.c.failures.desc(), groups.c.first_seq)
    )


_FAILURE_REASONS = _failure_reasons()


def failure_reasons(connection: Connection, workload_id: WorkloadId, *, limit: int = 10) -> list[FailureReason]:
    """Group the failed results by error code, most frequent first; the sample is the group's first in the input."""
    rows = connection.execute(_FAILURE_REASONS, {"workload_id": workload_id, "most": limit})
    return [
        FailureReason(code=code, status_code=status, count=count, sample=sample or "")
        for code, status, count, sample in rows
    ]
