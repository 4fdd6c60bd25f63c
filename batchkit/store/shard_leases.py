"""Leases on shards: who may work on which, until when, and what ends a lease whose holder is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Boolean, Integer, and_, bindparam, exists, false, func, or_, select, update

from batchkit.models import Lane, Shard, ShardId, ShardState, WorkloadId
from batchkit.store.shards import COLUMNS, read_row
from batchkit.store.tables import batches, shards, workloads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import BindParameter, ColumnElement
    from sqlalchemy.engine import Connection
    from sqlalchemy.sql.dml import ReturningUpdate


def _claimable() -> ColumnElement[bool]:
    """Return the condition; it excludes workloads that are not completely split: the rest of their input may yet be refused."""
    workload_id: BindParameter[Any] = bindparam("the_workload")
    now: BindParameter[Any] = bindparam("now")
    return and_(
        exists().where(workloads.c.id == workload_id, workloads.c.request_count.is_not(None)),
        shards.c.workload_id == workload_id,
        shards.c.state.in_(bindparam("states", expanding=True)),
        shards.c.lane.in_(bindparam("lanes", expanding=True)),
        or_(
            bindparam("is_held", type_=Boolean).is_(false()),
            shards.c.state != ShardState.PLANNED.value,
            shards.c.estimated_tokens.is_not(None),
        ),
        shards.c.not_before <= now,
        or_(shards.c.lease_until.is_(None), shards.c.lease_until < now, shards.c.lease_owner == bindparam("owner")),
    )


def _take(condition: ColumnElement[bool], *order: ColumnElement[Any]) -> ReturningUpdate[Any]:
    # A plain subquery might run again for every row, and find further shards after those that this statement has claimed.
    candidates = (
        select(shards.c.id)
        .where(_claimable(), condition)
        .order_by(*order)
        .limit(bindparam("most", type_=Integer))
        .with_for_update(skip_locked=True)
        .cte("candidates")
    )
    return (
        update(shards)
        .where(shards.c.id.in_(select(candidates.c.id)))
        .values(lease_owner=bindparam("owner"), lease_until=bindparam("until"))
        .returning(*COLUMNS)
    )


# The index has the numbers, so that a claim of new shards reads no more rows than it takes. Only postponed ones are sorted.
_TAKE_NEW = _take(shards.c.not_before <= 0, shards.c.number)
_TAKE_POSTPONED = _take(shards.c.not_before > 0, shards.c.not_before, shards.c.number)
# Of the shards that a result may vanish from, the oldest batch is the first one, postponed or not.
_TAKE_VANISHING = _take(
    exists().where(batches.c.shard_id == shards.c.id, batches.c.created_at < bindparam("created_before")),
    select(batches.c.created_at).where(batches.c.shard_id == shards.c.id).scalar_subquery(),
    shards.c.number,
)
_BATCH_TIMES = select(batches.c.shard_id, batches.c.created_at).where(
    batches.c.shard_id.in_(bindparam("shard_ids", expanding=True))
)
_COUNT_CLAIMABLE = select(func.count()).select_from(
    select(shards.c.id).where(_claimable()).limit(bindparam("most", type_=Integer)).subquery()
)


def claim(
    connection: Connection,
    workload_id: WorkloadId,
    state: ShardState,
    *,
    owner: str,
    now: float,
    lease_seconds: float,
    limit: int,
    lanes: Sequence[Lane] = tuple(Lane),
    is_held: bool = False,
) -> list[Shard]:
    """Claim up to ``limit`` due shards of some lanes that are not held; return them by number.

    Shards that were not postponed come first, then those whose pause ended first: shards that are postponed again and again do not
    keep the others waiting. A lease that ran out is taken over. No shard of an incompletely split workload is claimed. With ``is_held``
    the budget has no room: a planned shard is claimed only if its estimate is reserved already.
    """
    bound = {
        "the_workload": workload_id,
        "states": [state.value],
        "lanes": [lane.value for lane in lanes],
        "now": now,
        "owner": owner,
        "until": now + lease_seconds,
        "is_held": is_held,
    }
    taken = list(connection.execute(_TAKE_NEW, {**bound, "most": limit}))
    if len(taken) < limit:
        taken += connection.execute(_TAKE_POSTPONED, {**bound, "most": limit - len(taken)})
    return sorted(map(read_row, taken), key=lambda shard: shard.number)


def claim_vanishing(
    connection: Connection,
    workload_id: WorkloadId,
    *,
    owner: str,
    now: float,
    lease_seconds: float,
    limit: int,
    created_before: float,
) -> list[Shard]:
    """Claim up to ``limit`` due ended shards whose batch was created before a time (Unix seconds), the oldest batch first."""
    taken = connection.execute(
        _TAKE_VANISHING,
        {
            "the_workload": workload_id,
            "states": [ShardState.ENDED.value],
            "lanes": [Lane.BATCH.value],
            "now": now,
            "owner": owner,
            "until": now + lease_seconds,
            "most": limit,
            "is_held": False,
            "created_before": int(created_before),
        },
    )
    found = [read_row(row) for row in taken]
    rows = connection.execute(_BATCH_TIMES, {"shard_ids": [shard.id for shard in found]})
    times = {row.shard_id: row.created_at for row in rows}
    return sorted(found, key=lambda shard: (times[shard.id], shard.number))


def count_claimable(
    connection: Connection,
    workload_id: WorkloadId,
    states: Sequence[ShardState],
    *,
    owner: str,
    now: float,
    at_most: int,
    lanes: Sequence[Lane] = tuple(Lane),
    is_held: bool = False,
) -> int:
    """Count the shards that ``claim`` could take, but no further than ``at_most``."""
    bound = {
        "the_workload": workload_id,
        "states": [state.value for state in states],
        "lanes": [lane.value for lane in lanes],
        "now": now,
        "owner": owner,
        "is_held": is_held,
    }
    return int(connection.execute(_COUNT_CLAIMABLE, {**bound, "most": at_most}).scalar_one())


class AbandonedShard(NamedTuple):
    """A shard in ``submitting`` that no runner works on, and its last holder."""

    shard_id: ShardId
    holder: str


def take_over_submitting(
    connection: Connection, workload_id: WorkloadId, *, owner: str, now: float
) -> list[AbandonedShard]:
    """Free the shards in ``submitting`` that are still held although no runner works on them; return them.

    Those are shards whose lease ran out, and the owner's own: an orderly end of a creation gives its shard back. Their
    ``submitting_since`` becomes ``now``, and earlier scans of the list no longer count.
    """
    held = (
        select(shards.c.id, shards.c.lease_owner)
        .where(
            shards.c.workload_id == workload_id,
            shards.c.state == ShardState.SUBMITTING.value,
            or_(shards.c.lease_until < now, shards.c.lease_owner == owner),
        )
        .with_for_update(skip_locked=True)
    )
    found = [AbandonedShard(ShardId(row.id), str(row.lease_owner)) for row in connection.execute(held)]
    if found:
        values = {"submitting_since": now, "looks": 0, "not_before": 0, "lease_owner": None, "lease_until": None}
        ids = [shard.shard_id for shard in found]
        connection.execute(update(shards).where(shards.c.id.in_(ids)).values(values))
    return found


def leave_submitting(
    connection: Connection, owner: str, *, now: float, shard_ids: Sequence[ShardId] | None = None
) -> None:
    """Start the grace period of the owner's shards in ``submitting``, or of some of them, from ``now``.

    Called when the owner gives up a creation: it does not wait for the reply, or could not store it.
    """
    held = update(shards).where(shards.c.lease_owner == owner, shards.c.state == ShardState.SUBMITTING.value)
    if shard_ids is not None:
        held = held.where(shards.c.id.in_(shard_ids))
    connection.execute(held.values(submitting_since=now, looks=0))


def unheld(connection: Connection, shard_ids: Sequence[ShardId]) -> set[ShardId]:
    """Lock the rows of those shards that no other transaction has locked; return their ids. Never waits for a lock."""
    query = select(shards.c.id).where(shards.c.id.in_(shard_ids)).with_for_update(skip_locked=True)
    return set(connection.scalars(query))


class LongestWaits(NamedTuple):
    """How many seconds ahead the times of shards can lie when a correct clock wrote them; a wait beyond that is over."""

    not_before: float
    lease: float
    past: float


def _impossible() -> tuple[tuple[ColumnElement[bool], dict[str, Any]], ...]:
    is_postponed = shards.c.state != ShardState.SUBMITTED.value
    now: BindParameter[Any] = bindparam("now")
    past: BindParameter[Any] = bindparam("longest_past")
    return (
        (and_(shards.c.not_before > bindparam("longest_wait"), is_postponed), {"not_before": 0}),
        # The holder stays in the row: whoever takes the shard over must know that the holder may still send.
        (shards.c.lease_until > bindparam("longest_lease"), {"lease_until": 0.0}),
        (shards.c.submitting_since > past, {"submitting_since": now, "looks": 0}),
        (shards.c.merged_at > past, {"merged_at": now}),
    )


_OF_WORKLOAD = shards.c.workload_id == bindparam("the_workload")
_ANY_IMPOSSIBLE = select(shards.c.id).where(_OF_WORKLOAD, or_(*(condition for condition, _ in _impossible()))).limit(1)
_END_IMPOSSIBLE = tuple(
    update(shards).where(_OF_WORKLOAD, condition).values(values) for condition, values in _impossible()
)


def end_impossible_waits(connection: Connection, workload_id: WorkloadId, *, now: float, longest: LongestWaits) -> None:
    """End the waits and leases that a clock ahead of ours wrote. Takes no lock when there are none.

    The ``not_before`` of a submitted shard says when its batch is given up, and stays as it is.
    """
    bound = {
        "the_workload": workload_id,
        "now": now,
        "longest_wait": now + longest.not_before,
        "longest_lease": now + longest.lease,
        "longest_past": now + longest.past,
    }
    if connection.execute(_ANY_IMPOSSIBLE, bound).first() is None:
        return
    for statement in _END_IMPOSSIBLE:
        connection.execute(statement, bound)


def held_until(connection: Connection, shard_ids: Sequence[ShardId], *, owner: str) -> dict[ShardId, float]:
    """Return the ends (Unix seconds) of the leases that the owner has on some shards, by number; others are left out."""
    query = (
        select(shards.c.id, shards.c.lease_until)
        .where(shards.c.id.in_(shard_ids), shards.c.lease_owner == owner)
        .order_by(shards.c.number)
    )
    return {ShardId(row.id): float(row.lease_until) for row in connection.execute(query)}


def delay(connection: Connection, owner: str, shard_id: ShardId, until: float) -> None:
    """Set ``not_before`` (Unix seconds) of a shard that the owner holds; no effect on a shard that it lost."""
    statement = update(shards).where(shards.c.id == shard_id, shards.c.lease_owner == owner)
    connection.execute(statement.values(not_before=until))


def release(connection: Connection, owner: str, shard_ids: Sequence[ShardId] | None = None) -> None:
    """Give up the leases of the given shards, or all of the owner's. A row that another transaction has locked keeps its lease."""
    query = select(shards.c.id).where(shards.c.lease_owner == owner)
    if shard_ids is not None:
        query = query.where(shards.c.id.in_(shard_ids))
    own = query.with_for_update(skip_locked=True).cte("own")
    statement = update(shards).where(shards.c.id.in_(select(own.c.id)))
    connection.execute(statement.values(lease_owner=None, lease_until=None))


def hand_over(
    connection: Connection, shard_ids: Sequence[ShardId], *, owner: str, to: str, until: float
) -> tuple[ShardId, ...]:
    """Give the shards that ``owner`` still holds to another owner; return their ids by number."""
    given = (
        update(shards)
        .where(shards.c.id.in_(shard_ids), shards.c.lease_owner == owner)
        .values(lease_owner=to, lease_until=until)
        .returning(shards.c.number, shards.c.id)
    )
    return tuple(shard_id for _, shard_id in sorted(tuple(row) for row in connection.execute(given)))


def renew_leases(connection: Connection, owner: str, until: float) -> None:
    """Extend every lease of the owner, except of rows that another transaction has locked, so that the others need not wait."""
    own = select(shards.c.id).where(shards.c.lease_owner == owner).with_for_update(skip_locked=True).cte("own")
    connection.execute(update(shards).where(shards.c.id.in_(select(own.c.id))).values(lease_until=until))


def lease_owners(connection: Connection) -> set[str]:
    """Return the owners of all leases on shards."""
    return set(connection.scalars(select(shards.c.lease_owner).where(shards.c.lease_owner.is_not(None)).distinct()))
