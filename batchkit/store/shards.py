"""Shards: rows, leases and the guarded transition."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import and_, case, exists, func, insert, or_, select, update

from batchkit.errors import StateConflict
from batchkit.lifecycle import OPEN_SHARD_STATES, SHARD_TRANSITIONS
from batchkit.models import BatchStatus, Shard, ShardId, ShardState, WorkloadId
from batchkit.store import events
from batchkit.store.tables import batches, shards, workloads

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection

# "window" is a reserved word of SQL, so the columns carry the provider's whole name.
_RENAMED = {"window": "completion_window", "next_window": "next_completion_window"}
#: What a ``Shard`` is read from, in the order of its fields.
COLUMNS = tuple(shards.c[_RENAMED.get(field.name, field.name)].label(field.name) for field in fields(Shard))


def read_row(row: Sequence[Any]) -> Shard:
    """Make a shard of its ``COLUMNS``."""
    shard_id, workload_id, number, state, *others = row
    return Shard(shard_id, workload_id, number, ShardState(state), *others)


def add(
    connection: Connection,
    *,
    workload_id: WorkloadId,
    number: int,
    endpoint: str,
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
) -> ShardId:
    """Insert a planned shard and its event."""
    values = {
        "workload_id": workload_id,
        "number": number,
        "state": ShardState.PLANNED.value,
        "endpoint": endpoint,
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
    }
    shard_id: ShardId = connection.execute(insert(shards).returning(shards.c.id), values).scalar_one()
    events.record(connection, workload_id, "(none) -> planned", at=at, shard_id=shard_id)
    return shard_id


def next_number(connection: Connection, workload_id: WorkloadId) -> int:
    """Give the number of the workload's next shard; numbers start at 1."""
    query = select(func.coalesce(func.max(shards.c.number), 0) + 1).where(shards.c.workload_id == workload_id)
    return int(connection.execute(query).scalar_one())


def get(connection: Connection, shard_id: ShardId) -> Shard:
    """Read one shard."""
    return read_row(connection.execute(select(*COLUMNS).where(shards.c.id == shard_id)).one())


def in_states(connection: Connection, workload_id: WorkloadId, states: Sequence[ShardState]) -> list[Shard]:
    """Read the workload's shards in the given states, by number."""
    query = (
        select(*COLUMNS)
        .where(shards.c.workload_id == workload_id, shards.c.state.in_([state.value for state in states]))
        .order_by(shards.c.number)
    )
    return [read_row(row) for row in connection.execute(query)]


def claim(
    connection: Connection,
    workload_id: WorkloadId,
    state: ShardState,
    *,
    owner: str,
    now: float,
    lease_seconds: float,
    limit: int,
) -> list[Shard]:
    """Take up to ``limit`` due shards that nobody holds, by number; a lease that ran out is taken over.

    Takes nothing of a workload that is not split whole.
    """
    # A plain subquery might be run again for every row, and find others behind those that this statement has taken by then.
    candidates = (
        select(shards.c.id)
        .where(_claimable(workload_id, (state,), owner=owner, now=now))
        .order_by(shards.c.number)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("candidates")
    )
    taken = (
        update(shards)
        .where(shards.c.id.in_(select(candidates.c.id)))
        .values(lease_owner=owner, lease_until=now + lease_seconds)
        .returning(*COLUMNS)
    )
    return sorted((read_row(row) for row in connection.execute(taken)), key=lambda shard: shard.number)


def count_claimable(
    connection: Connection,
    workload_id: WorkloadId,
    states: Sequence[ShardState],
    *,
    owner: str,
    now: float,
    at_most: int,
) -> int:
    """Count the shards that ``claim`` could take, but no further than ``at_most``."""
    claimable = select(shards.c.id).where(_claimable(workload_id, states, owner=owner, now=now)).limit(at_most)
    return int(connection.execute(select(func.count()).select_from(claimable.subquery())).scalar_one())


def _claimable(workload_id: WorkloadId, states: Sequence[ShardState], *, owner: str, now: float) -> ColumnElement[bool]:
    """Of a workload that is not split whole nothing is claimable: the rest of its input may yet be refused."""
    return and_(
        exists().where(workloads.c.id == workload_id, workloads.c.request_count.is_not(None)),
        shards.c.workload_id == workload_id,
        shards.c.state.in_([state.value for state in states]),
        shards.c.not_before <= now,
        or_(shards.c.lease_until.is_(None), shards.c.lease_until < now, shards.c.lease_owner == owner),
    )


def take_over_submitting(
    connection: Connection, workload_id: WorkloadId, *, owner: str, now: float
) -> list[tuple[ShardId, str]]:
    """Free the shards in ``submitting`` that are still held although nobody is at work on them; returns them with their holders.

    Those are shards whose lease ran out, and the owner's own: whoever ends a creation in order gives its shard back. Their
    ``submitting_since`` becomes ``now``, and no look at the list counts any more.
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
    found = [(ShardId(row.id), str(row.lease_owner)) for row in connection.execute(held)]
    if found:
        values = {"submitting_since": now, "looks": 0, "not_before": 0, "lease_owner": None, "lease_until": None}
        ids = [shard_id for shard_id, _ in found]
        connection.execute(update(shards).where(shards.c.id.in_(ids)).values(values))
    return found


def leave_submitting(
    connection: Connection, owner: str, *, now: float, shard_ids: Sequence[ShardId] | None = None
) -> None:
    """Begin the grace period anew of the owner's shards in ``submitting``, or of some of them.

    It gives up creations whose reply it does not wait for, or could not write down.
    """
    held = update(shards).where(shards.c.lease_owner == owner, shards.c.state == ShardState.SUBMITTING.value)
    if shard_ids is not None:
        held = held.where(shards.c.id.in_(shard_ids))
    connection.execute(held.values(submitting_since=now, looks=0))


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
    """Move a shard from the state it was read in to ``target`` with its event; further column values are written with it.

    ``owner`` also asks that the lease is still held. Raises ``StateConflict`` when no row is hit: somebody else has moved
    it on, and whatever is in the transaction must not be kept.
    """
    if target not in SHARD_TRANSITIONS[shard.state]:
        raise StateConflict(f"shard {shard.number} cannot go from {shard.state} to {target}")
    if not keep_lease:
        values |= {"lease_owner": None, "lease_until": None}
    statement = update(shards).where(shards.c.id == shard.id, shards.c.state == shard.state.value)
    if owner is not None:
        statement = statement.where(shards.c.lease_owner == owner)
    if connection.execute(statement.values(state=target.value, **values)).rowcount != 1:
        raise StateConflict(f"shard {shard.number} is no longer {shard.state}: another runner has taken it on")
    events.record(connection, shard.workload_id, f"{shard.state} -> {target}", at=at, shard_id=shard.id, detail=detail)


def set_values(connection: Connection, shard: Shard, *, owner: str, **values: Any) -> None:
    """Write columns of a shard whose lease is held, without a transition. Raises ``StateConflict`` as ``transition`` does."""
    statement = update(shards).where(
        shards.c.id == shard.id, shards.c.state == shard.state.value, shards.c.lease_owner == owner
    )
    if connection.execute(statement.values(**values)).rowcount != 1:
        raise StateConflict(f"shard {shard.number} is no longer ours")


def unheld(connection: Connection, shard_ids: Sequence[ShardId]) -> set[ShardId]:
    """Lock the rows of the shards that nobody else has locked; returns which these are. Waits for nobody."""
    query = select(shards.c.id).where(shards.c.id.in_(shard_ids)).with_for_update(skip_locked=True)
    return set(connection.scalars(query))


def wait_until(connection: Connection, shard: Shard, at: float, *, refusals: int) -> None:
    """Set when a shard that nobody holds is to be looked at again (Unix seconds), and how often it was."""
    connection.execute(
        update(shards)
        .where(shards.c.id == shard.id, shards.c.state == shard.state.value)
        .values(not_before=at, refusals=refusals)
    )


class LongestWaits(NamedTuple):
    """How far ahead (seconds) the times of shards can lie that a right clock wrote: what lies further ahead is over."""

    not_before: float
    lease: float
    past: float


def end_impossible_waits(connection: Connection, workload_id: WorkloadId, *, now: float, longest: LongestWaits) -> None:
    """End the waits and leases that were written by a clock ahead of ours. Takes no lock where there are none.

    The ``not_before`` of batches that run is about giving them up and stays as it is.
    """
    rules = _impossible(now, longest)
    own = shards.c.workload_id == workload_id
    any_of_them = select(shards.c.id).where(own, or_(*(condition for condition, _ in rules))).limit(1)
    if connection.execute(any_of_them).first() is None:
        return
    for condition, values in rules:
        connection.execute(update(shards).where(own, condition).values(values))


def _impossible(now: float, longest: LongestWaits) -> tuple[tuple[ColumnElement[bool], dict[str, Any]], ...]:
    waits = and_(shards.c.not_before > now + longest.not_before, shards.c.state != ShardState.SUBMITTED.value)
    past = now + longest.past
    return (
        (waits, {"not_before": 0}),
        # Its holder stays known, so that whoever takes the shard over knows of somebody who may still send.
        (shards.c.lease_until > now + longest.lease, {"lease_until": 0.0}),
        (shards.c.submitting_since > past, {"submitting_since": now, "looks": 0}),
        (shards.c.merged_at > past, {"merged_at": now}),
    )


def delay(connection: Connection, owner: str, shard_id: ShardId, until: float) -> None:
    """Let a shard that the owner holds wait until a time (Unix seconds); one that it lost is left alone."""
    statement = update(shards).where(shards.c.id == shard_id, shards.c.lease_owner == owner)
    connection.execute(statement.values(not_before=until))


def release(connection: Connection, owner: str, shard_ids: Sequence[ShardId] | None = None) -> None:
    """Give up leases: the given shards', or all of the owner's. A row that somebody else has locked keeps its lease until it ends."""
    query = select(shards.c.id).where(shards.c.lease_owner == owner)
    if shard_ids is not None:
        query = query.where(shards.c.id.in_(shard_ids))
    own = query.with_for_update(skip_locked=True).cte("own")
    statement = update(shards).where(shards.c.id.in_(select(own.c.id)))
    connection.execute(statement.values(lease_owner=None, lease_until=None))


def hand_over(
    connection: Connection, shard_ids: Sequence[ShardId], *, owner: str, to: str, until: float
) -> tuple[ShardId, ...]:
    """Make those of the shards that ``owner`` still holds the leases of another, by number; returns them."""
    given = (
        update(shards)
        .where(shards.c.id.in_(shard_ids), shards.c.lease_owner == owner)
        .values(lease_owner=to, lease_until=until)
        .returning(shards.c.number, shards.c.id)
    )
    return tuple(shard_id for _, shard_id in sorted(tuple(row) for row in connection.execute(given)))


def renew_leases(connection: Connection, owner: str, until: float) -> None:
    """Extend every lease of the owner; a row that somebody else has locked is left out, so that the others do not wait."""
    own = select(shards.c.id).where(shards.c.lease_owner == owner).with_for_update(skip_locked=True).cte("own")
    connection.execute(update(shards).where(shards.c.id.in_(select(own.c.id))).values(lease_until=until))


def lease_owners(connection: Connection) -> set[str]:
    """Name everybody who holds a lease on a shard."""
    return set(connection.scalars(select(shards.c.lease_owner).where(shards.c.lease_owner.is_not(None)).distinct()))


class ShardTotals(NamedTuple):
    """What shards come to: how many, and the sums of what they hold and of what their merges counted.

    ``last_merged_at`` is None before the first merge.
    """

    shards: int
    lines: int
    expired: int
    prompt_tokens: int
    completion_tokens: int
    last_merged_at: float | None


def totals_by_state(connection: Connection, workload_id: WorkloadId) -> dict[ShardState, ShardTotals]:
    """Add up the workload's shards by state, all in one reading of them; states without a shard do not appear."""
    summed = (shards.c.line_count, shards.c.expired, shards.c.prompt_tokens, shards.c.completion_tokens)
    query = (
        select(shards.c.state, func.count(), *map(func.sum, summed), func.max(shards.c.merged_at))
        .where(shards.c.workload_id == workload_id)
        .group_by(shards.c.state)
    )
    return {
        ShardState(state): ShardTotals(count, int(lines), int(expired), int(prompt), int(completion), last_merged_at)
        for state, count, lines, expired, prompt, completion, last_merged_at in connection.execute(query)
    }


class Resubmitted(NamedTuple):
    """Requests of shards that hold requests of earlier shards: in shards without a batch, and in shards that have or had one."""

    unsent: int
    sent: int


def resubmitted(connection: Connection, workload_id: WorkloadId, *, request_count: int) -> Resubmitted:
    """Count the requests of the shards that were cut after the first ``request_count`` requests, which are the input."""
    so_far = func.sum(shards.c.line_count).over(order_by=shards.c.number)
    every = (
        select(shards.c.state, shards.c.line_count, so_far.label("so_far"))
        .where(shards.c.workload_id == workload_id)
        .subquery("numbered")
    )
    unsent = every.c.state.in_([ShardState.PLANNED.value, ShardState.UPLOADED.value])
    query = select(
        func.coalesce(func.sum(case((unsent, every.c.line_count), else_=0)), 0),
        func.coalesce(func.sum(case((unsent, 0), else_=every.c.line_count)), 0),
    ).where(every.c.so_far > request_count, every.c.state != ShardState.WITHDRAWN.value)
    return Resubmitted(*map(int, connection.execute(query).one()))


def has_any(connection: Connection, workload_id: WorkloadId, states: Iterable[ShardState]) -> bool:
    """Say whether the workload has a shard in one of the given states."""
    query = select(shards.c.id).where(
        shards.c.workload_id == workload_id, shards.c.state.in_([state.value for state in states])
    )
    return connection.execute(query.limit(1)).first() is not None


def next_due(connection: Connection, workload_id: WorkloadId, state: ShardState) -> float | None:
    """Give the earliest ``not_before`` among the workload's shards in ``state``; None when there is none."""
    query = select(func.min(shards.c.not_before)).where(
        shards.c.workload_id == workload_id, shards.c.state == state.value
    )
    due: float | None = connection.execute(query).scalar_one()
    return due


def open_count(connection: Connection, workload_id: WorkloadId, *, at_most: int) -> int:
    """Count the shards that still owe answers, but no further than ``at_most``."""
    still_open = (
        select(shards.c.id)
        .where(shards.c.workload_id == workload_id, shards.c.state.in_([state.value for state in OPEN_SHARD_STATES]))
        .limit(at_most)
        .subquery()
    )
    return int(connection.execute(select(func.count()).select_from(still_open)).scalar_one())


def last_merged_at(connection: Connection, workload_id: WorkloadId) -> float | None:
    """Say when a shard of the workload was merged last."""
    query = select(func.max(shards.c.merged_at)).where(shards.c.workload_id == workload_id)
    at: float | None = connection.execute(query).scalar_one()
    return at


def batch_ids(connection: Connection, workload_id: WorkloadId) -> dict[ShardId, str | None]:
    """Map the workload's shards to their batches."""
    query = select(shards.c.id, shards.c.batch_id).where(shards.c.workload_id == workload_id)
    return {shard_id: batch_id for shard_id, batch_id in connection.execute(query)}  # noqa: C416 - rows are not pairs to dict()


def refused_count(connection: Connection, workload_id: WorkloadId) -> int:
    """Count the shards that the provider turned away whole, and for good, without naming a line.

    In any other state ``refusals`` counts waits, which say nothing of the lines.
    """
    query = select(func.count()).where(
        shards.c.workload_id == workload_id,
        shards.c.state.in_([ShardState.MERGED.value, ShardState.WITHDRAWN.value]),
        shards.c.refusals > 0,
    )
    return int(connection.execute(query).scalar_one())


def any_accepted(connection: Connection, workload_id: WorkloadId) -> bool:
    """Whether the provider has taken any file of the workload: a batch of it runs, or brought something for its requests."""
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
    """Note that the files of all shards of a workload are deleted."""
    connection.execute(update(shards).where(shards.c.workload_id == workload_id).values(cleaned_at=at))
