"""Shards: rows, the guarded transition, and counts of them. Their leases are in ``shard_leases``."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Integer, and_, bindparam, case, func, insert, or_, select, update

from batchkit.errors import StateConflict
from batchkit.lifecycle import OPEN_SHARD_STATES, SHARD_TRANSITIONS
from batchkit.models import BatchStatus, Destination, Lane, Shard, ShardId, ShardState, WorkloadId
from batchkit.store import events
from batchkit.store.tables import batches, requests, shards

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Select
    from sqlalchemy.engine import Connection

#: Fields of ``Shard`` whose columns have other names. "window" is a reserved word of SQL.
_RENAMED = {"window": "completion_window", "next_window": "next_completion_window", "list_scans": "looks"}
#: The columns that a ``Shard`` is read from, in the order of its fields.
COLUMNS = tuple(shards.c[_RENAMED.get(field.name, field.name)].label(field.name) for field in fields(Shard))

#: The place of the lane among the columns after the state.
_LANE = [field.name for field in fields(Shard)].index("lane") - 4


def read_row(row: Sequence[Any]) -> Shard:
    """Return the shard that ``COLUMNS`` describe."""
    shard_id, workload_id, number, state, *others = row
    others[_LANE] = Lane(others[_LANE])
    return Shard(shard_id, workload_id, number, ShardState(state), *others)


_ADD = insert(shards).returning(shards.c.id)


def add(
    connection: Connection,
    *,
    workload_id: WorkloadId,
    number: int,
    destination: Destination,
    window: str,
    key: str,
    path: str,
    sha256: str,
    line_count: int,
    byte_count: int,
    first_seq: int,
    last_seq: int,
    next_lines: int,
    next_window: str,
    waits: int,
    at: float,
    lane: Lane = Lane.BATCH,
) -> ShardId:
    """Insert a planned shard and its event."""
    values = {
        "workload_id": workload_id,
        "number": number,
        "state": ShardState.PLANNED.value,
        "endpoint": destination.endpoint,
        "model": destination.model,
        "completion_window": window,
        "key": key,
        "path": path,
        "sha256": sha256,
        "line_count": line_count,
        "byte_count": byte_count,
        "first_seq": first_seq,
        "last_seq": last_seq,
        "next_lines": next_lines,
        "next_completion_window": next_window,
        "waits": waits,
        "lane": lane.value,
    }
    shard_id: ShardId = connection.execute(_ADD, values).scalar_one()
    events.record(connection, workload_id, "(none) -> planned", at=at, shard_id=shard_id)
    return shard_id


_NEXT_NUMBER = select(func.coalesce(func.max(shards.c.number), 0) + 1).where(
    shards.c.workload_id == bindparam("workload_id")
)


def next_number(connection: Connection, workload_id: WorkloadId) -> int:
    """Return the number of the workload's next shard; numbers start at 1."""
    return int(connection.execute(_NEXT_NUMBER, {"workload_id": workload_id}).scalar_one())


_BY_ID = select(*COLUMNS).where(shards.c.id == bindparam("shard_id"))


def get(connection: Connection, shard_id: ShardId) -> Shard:
    """Read one shard."""
    return read_row(connection.execute(_BY_ID, {"shard_id": shard_id}).one())


def in_states(connection: Connection, workload_id: WorkloadId, states: Sequence[ShardState]) -> list[Shard]:
    """Read the workload's shards in the given states, by number."""
    query = (
        select(*COLUMNS)
        .where(shards.c.workload_id == workload_id, shards.c.state.in_([state.value for state in states]))
        .order_by(shards.c.number)
    )
    return [read_row(row) for row in connection.execute(query)]


# The names of bound values of an UPDATE must differ from those of its columns.
_OF_STATE = update(shards).where(shards.c.id == bindparam("own_id"), shards.c.state == bindparam("own_state"))
_HELD = _OF_STATE.where(shards.c.lease_owner == bindparam("holder"))


def transition(
    connection: Connection,
    shard: Shard,
    target: ShardState,
    *,
    at: float,
    owner: str | None = None,
    detail: str | None = None,
    keep_lease: bool = False,
    **values: Any,
) -> None:
    """Move a shard from the state it was read in to ``target``, write its event, and set further columns (``values``).

    With ``owner``, that owner must still hold the lease. Raises ``StateConflict`` when no row matches: another runner has moved
    the shard, and the caller must roll its transaction back.
    """
    if target not in SHARD_TRANSITIONS[shard.state]:
        raise StateConflict(f"shard {shard.number} cannot go from {shard.state} to {target}")
    if not keep_lease:
        values |= {"lease_owner": None, "lease_until": None}
    bound = {"own_id": shard.id, "own_state": shard.state.value, **({} if owner is None else {"holder": owner})}
    moved = connection.execute(_OF_STATE if owner is None else _HELD, {**bound, **values, "state": target.value})
    if moved.rowcount != 1:
        raise StateConflict(f"shard {shard.number} is no longer {shard.state}: another runner has taken it on")
    events.record(connection, shard.workload_id, f"{shard.state} -> {target}", at=at, shard_id=shard.id, detail=detail)


def set_values(connection: Connection, shard: Shard, *, owner: str, **values: Any) -> None:
    """Write columns of a shard whose lease is held, without a transition. Raises ``StateConflict`` as ``transition`` does."""
    bound = {"own_id": shard.id, "own_state": shard.state.value, "holder": owner}
    if connection.execute(_HELD, {**bound, **values}).rowcount != 1:
        raise StateConflict(f"shard {shard.number} is no longer ours")


_SET_ANSWERED = _HELD.values(answered=bindparam("so_many"))


def set_answered(connection: Connection, answered: Mapping[ShardId, int], *, owner: str) -> None:
    """Store how many requests of shards that are being sent have an answer; shards that the owner lost stay as they are."""
    rows = [
        {"own_id": shard_id, "own_state": ShardState.SENDING.value, "holder": owner, "so_many": count}
        for shard_id, count in sorted(answered.items())
    ]
    connection.execute(_SET_ANSWERED, rows)


def move_to_lane(connection: Connection, workload_id: WorkloadId, lane: Lane) -> int:
    """Move the planned shards of a workload to another lane; return how many requests they have."""
    planned = update(shards).where(
        shards.c.workload_id == workload_id, shards.c.state == ShardState.PLANNED.value, shards.c.lane != lane.value
    )
    # What is reserved was at the prices of the other lane.
    unreserved = {"estimated_tokens": None, "estimated_usd": None}
    moved = planned.values(lane=lane.value, not_before=0, refusals=0, **unreserved).returning(shards.c.line_count)
    return sum(connection.scalars(moved))


def wait_until(connection: Connection, shard: Shard, at: float, *, refusals: int) -> None:
    """Set ``not_before`` (Unix seconds) and ``refusals`` of a shard that is not held."""
    bound = {"own_id": shard.id, "own_state": shard.state.value}
    connection.execute(_OF_STATE, {**bound, "not_before": at, "refusals": refusals})


class ShardTotals(NamedTuple):
    """Totals of some shards: their number, and the sums of their lines and of the counts of their merges.

    ``last_merged_at`` (Unix seconds) is None before the first merge.
    """

    shards: int
    lines: int
    expired: int
    prompt_tokens: int
    completion_tokens: int
    last_merged_at: float | None


_TOTALS_BY_STATE = (
    select(
        shards.c.state,
        func.count().label("shard_count"),
        func.sum(shards.c.line_count).label("lines"),
        func.sum(shards.c.expired).label("expired"),
        func.sum(shards.c.prompt_tokens).label("prompt_tokens"),
        func.sum(shards.c.completion_tokens).label("completion_tokens"),
        func.max(shards.c.merged_at).label("last_merged_at"),
    )
    .where(shards.c.workload_id == bindparam("workload_id"))
    .group_by(shards.c.state)
)


def totals_by_state(connection: Connection, workload_id: WorkloadId) -> dict[ShardState, ShardTotals]:
    """Return totals of the workload's shards by state, from one query; states without a shard do not appear."""
    return {
        ShardState(row.state): ShardTotals(
            shards=row.shard_count,
            lines=int(row.lines),
            expired=int(row.expired),
            prompt_tokens=int(row.prompt_tokens),
            completion_tokens=int(row.completion_tokens),
            last_merged_at=row.last_merged_at,
        )
        for row in connection.execute(_TOTALS_BY_STATE, {"workload_id": workload_id})
    }


_BY_LANE = (
    select(
        shards.c.lane,
        func.sum(case((shards.c.merged_at <= bindparam("until"), shards.c.succeeded + shards.c.failed), else_=0)),
        func.sum(case((shards.c.merged_at > bindparam("until"), shards.c.succeeded + shards.c.failed), else_=0)),
    )
    .where(shards.c.workload_id == bindparam("workload_id"), shards.c.state == ShardState.MERGED.value)
    .group_by(shards.c.lane)
    .order_by(shards.c.lane)
)


def answers_by_lane(connection: Connection, workload_id: WorkloadId, *, until: float) -> dict[Lane, tuple[int, int]]:
    """Count the answers and errors that were stored by a time (Unix seconds) and after it, by lane; lanes without any do not appear."""
    rows = connection.execute(_BY_LANE, {"workload_id": workload_id, "until": until})
    return {Lane(lane): (int(before), int(after)) for lane, before, after in rows if before or after}


def tokens_by_lane(connection: Connection, workload_id: WorkloadId) -> dict[Lane, int]:
    """Sum the tokens of the merged answers of a workload, by the lane of their shards."""
    query = (
        select(shards.c.lane, func.sum(shards.c.prompt_tokens + shards.c.completion_tokens))
        .where(shards.c.workload_id == workload_id)
        .group_by(shards.c.lane)
    )
    return {Lane(lane): int(tokens) for lane, tokens in connection.execute(query)}


class Resubmitted(NamedTuple):
    """Requests of shards that resubmit requests of earlier shards: those without a batch, and those that have or had one."""

    unsent: int
    sent: int


def _resubmitted() -> Select[Any]:
    so_far = func.sum(shards.c.line_count).over(order_by=shards.c.number)
    every = (
        select(shards.c.state, shards.c.line_count, so_far.label("so_far"))
        .where(shards.c.workload_id == bindparam("workload_id"))
        .subquery("numbered")
    )
    unsent = every.c.state.in_([ShardState.PLANNED.value, ShardState.UPLOADED.value])
    return select(
        func.coalesce(func.sum(case((unsent, every.c.line_count), else_=0)), 0),
        func.coalesce(func.sum(case((unsent, 0), else_=every.c.line_count)), 0),
    ).where(every.c.so_far > bindparam("request_count"), every.c.state != ShardState.WITHDRAWN.value)


_RESUBMITTED = _resubmitted()


def resubmitted(connection: Connection, workload_id: WorkloadId, *, request_count: int) -> Resubmitted:
    """Count the requests of resubmitted shards: those after the shards of the input's ``request_count`` requests."""
    bound = {"workload_id": workload_id, "request_count": request_count}
    return Resubmitted(*map(int, connection.execute(_RESUBMITTED, bound).one()))


_ANY_IN_STATES = (
    select(shards.c.id)
    .where(shards.c.workload_id == bindparam("workload_id"), shards.c.state.in_(bindparam("states", expanding=True)))
    .limit(1)
)
_ANY_OF_LANE = _ANY_IN_STATES.where(shards.c.lane == bindparam("lane"))


def has_any(
    connection: Connection, workload_id: WorkloadId, states: Iterable[ShardState], *, lane: Lane | None = None
) -> bool:
    """Return whether the workload has a shard in one of the given states, in a lane or (None) any."""
    bound: dict[str, Any] = {"workload_id": workload_id, "states": [state.value for state in states]}
    if lane is None:
        return connection.execute(_ANY_IN_STATES, bound).first() is not None
    return connection.execute(_ANY_OF_LANE, {**bound, "lane": lane.value}).first() is not None


_NEXT_DUE = select(func.min(shards.c.not_before)).where(
    shards.c.workload_id == bindparam("workload_id"), shards.c.state.in_(bindparam("states", expanding=True))
)


def next_due(connection: Connection, workload_id: WorkloadId, *states: ShardState) -> float | None:
    """Return the earliest ``not_before`` (Unix seconds) of the workload's shards in ``states``; None without such a shard."""
    bound = {"workload_id": workload_id, "states": [state.value for state in states]}
    due: float | None = connection.execute(_NEXT_DUE, bound).scalar_one()
    return due


_OPEN_COUNT = select(func.count()).select_from(
    select(shards.c.id)
    .where(
        shards.c.workload_id == bindparam("workload_id"),
        shards.c.state.in_([state.value for state in OPEN_SHARD_STATES]),
    )
    .limit(bindparam("most", type_=Integer))
    .subquery()
)


def open_count(connection: Connection, workload_id: WorkloadId, *, at_most: int) -> int:
    """Count the open shards, up to ``at_most``."""
    return int(connection.execute(_OPEN_COUNT, {"workload_id": workload_id, "most": at_most}).scalar_one())


def last_merged_at(connection: Connection, workload_id: WorkloadId) -> float | None:
    """Return when a shard of the workload was merged last (Unix seconds); None before the first merge."""
    query = select(func.max(shards.c.merged_at)).where(shards.c.workload_id == workload_id)
    at: float | None = connection.execute(query).scalar_one()
    return at


def endpoints(connection: Connection, workload_id: WorkloadId) -> set[str]:
    """Return the endpoints of a workload's shards; of one whose first answer was reused, that of its shard as well."""
    first = select(requests.c.shard_id).where(requests.c.workload_id == workload_id, requests.c.seq == 0)
    mine = or_(shards.c.workload_id == workload_id, shards.c.id.in_(first))
    return set(connection.execute(select(shards.c.endpoint).where(mine).distinct()).scalars())


def batch_ids(connection: Connection, workload_id: WorkloadId) -> dict[ShardId, str | None]:
    """Map the workload's shards to the ids of their batches."""
    query = select(shards.c.id, shards.c.batch_id).where(shards.c.workload_id == workload_id)
    return {shard_id: batch_id for shard_id, batch_id in connection.execute(query)}  # noqa: C416 - rows are not pairs to dict()


def add_lines(connection: Connection, shard_id: ShardId, count: int) -> None:
    """Add to the number of a shard's lines: its requests may be in flight in several adopted batches."""
    if count:
        connection.execute(update(shards).where(shards.c.id == shard_id).values(line_count=shards.c.line_count + count))


def refused_count(connection: Connection, workload_id: WorkloadId) -> int:
    """Count the shards that the provider refused as a whole and permanently without naming a line.

    In any other state ``refusals`` counts waits, which prove nothing about the lines.
    """
    query = select(func.count()).where(
        shards.c.workload_id == workload_id,
        shards.c.state.in_([ShardState.MERGED.value, ShardState.WITHDRAWN.value]),
        shards.c.refusals > 0,
    )
    return int(connection.execute(query).scalar_one())


def any_accepted(connection: Connection, workload_id: WorkloadId) -> bool:
    """Return whether the provider accepted any file of the workload: a batch runs, or returned a line for its requests."""
    own = shards.c.workload_id == workload_id
    merged = and_(
        own,
        shards.c.state == ShardState.MERGED.value,
        shards.c.refusals == 0,
        or_(shards.c.succeeded > 0, shards.c.failed > 0, shards.c.expired > 0),
    )
    runs = and_(
        own,
        or_(
            and_(
                shards.c.state == ShardState.SUBMITTED.value,
                or_(
                    batches.c.status == BatchStatus.IN_PROGRESS.value, batches.c.status == BatchStatus.FINALIZING.value
                ),
            ),
            and_(shards.c.state == ShardState.ENDED.value, batches.c.completed + batches.c.failed > 0),
        ),
    )
    queries = (
        select(shards.c.id).where(merged),
        select(shards.c.id).join(batches, batches.c.shard_id == shards.c.id).where(runs),
    )
    return any(connection.execute(query.limit(1)).first() is not None for query in queries)


def mark_cleaned(connection: Connection, workload_id: WorkloadId, *, at: float) -> None:
    """Record that the files of all shards of a workload are deleted."""
    connection.execute(update(shards).where(shards.c.workload_id == workload_id).values(cleaned_at=at))
