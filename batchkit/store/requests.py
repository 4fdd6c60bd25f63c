"""Requests: those of a shard, pending ones, and the user's changes (cancel, resubmit)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import and_, bindparam, delete, exists, func, not_, or_, select, update

from batchkit.lifecycle import UNEXECUTED
from batchkit.models import Destination, Lane, OutcomeKind, RequestState, Shard, ShardId, ShardState, WorkloadId
from batchkit.store import reuse
from batchkit.store.driver import rows_of
from batchkit.store.rows import columns_for
from batchkit.store.tables import FAILED, UNFINISHED, attempts, requests, results, shards, workloads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import BindParameter, ColumnElement
    from sqlalchemy.engine import Connection


class ShardRequest(NamedTuple):
    """A request of a shard, with its counters before this attempt."""

    seq: int
    custom_id: str
    line_offset: int
    line_length: int
    attempts: int
    expiries: int


class ShardRequests(NamedTuple):
    """The requests of a shard in columns, without the places of their lines, for its merge."""

    seqs: Sequence[int]
    custom_ids: Sequence[str]
    attempts: Sequence[int]
    expiries: Sequence[int]


class PendingRequest(NamedTuple):
    """A request that must be sent again, and the place of its line.

    ``shard_id``, ``line_offset`` (bytes) and ``line_length`` (bytes, without the newline) point into the last shard's file.
    """

    seq: int
    custom_id: str
    shard_id: ShardId
    line_offset: int
    line_length: int


class ResubmitGroup(NamedTuple):
    """Pending requests that are sent in the same way, with the same size and window; ``shard_ids`` are their last shards."""

    lane: Lane
    destination: Destination
    lines: int
    window: str
    waits: int
    shard_ids: tuple[ShardId, ...]


_OF_SHARD_IN_FLIGHT = and_(
    requests.c.workload_id == bindparam("the_workload"),
    requests.c.seq.between(bindparam("first"), bindparam("last")),
    requests.c.shard_id == bindparam("the_shard"),
    requests.c.state == RequestState.IN_FLIGHT.value,
    requests.c.leader_seq.is_(None),
)
_IN_FLIGHT = select(*columns_for(ShardRequest, requests)).where(_OF_SHARD_IN_FLIGHT).order_by(requests.c.seq)
_IN_FLIGHT_FOR_MERGE = (
    select(requests.c.seq, requests.c.custom_id, requests.c.attempts, requests.c.expiries)
    .where(_OF_SHARD_IN_FLIGHT)
    .order_by(requests.c.seq)
)


def _bound_by(shard: Shard) -> dict[str, int]:
    """Return what ``_OF_SHARD_IN_FLIGHT`` binds."""
    return {
        "the_workload": shard.workload_id,
        "first": shard.first_seq,
        "last": shard.last_seq,
        "the_shard": shard.id,
    }


def of_shard(connection: Connection, shard: Shard) -> list[ShardRequest]:
    """Read the shard's requests in flight, in input order.

    The query uses the range of seq and the primary key, so that ten million rows need no index on shards.
    """
    return list(map(ShardRequest._make, connection.execute(_IN_FLIGHT, _bound_by(shard)).all()))


def shard_requests(connection: Connection, shard: Shard) -> ShardRequests:
    """Read as ``of_shard`` does, in a quarter of its time."""
    rows = rows_of(connection, _IN_FLIGHT_FOR_MERGE, _bound_by(shard))
    return ShardRequests(*([row[place] for row in rows] for place in range(4)))


_MARK_SUCCEEDED = (
    update(requests)
    .where(_OF_SHARD_IN_FLIGHT)
    .values(state=RequestState.SUCCEEDED.value, attempts=requests.c.attempts + 1)
)


def mark_succeeded(connection: Connection, shard: Shard) -> int:
    """Set the shard's requests in flight to succeeded; return how many."""
    return connection.execute(_MARK_SUCCEEDED, _bound_by(shard)).rowcount


def move_back(connection: Connection, shard: Shard, target: RequestState) -> int:
    """Set the requests in flight of a shard without a batch to ``pending`` or ``cancelled``; no attempt is counted.

    Requests that follow cancelled ones are cancelled and counted, too.
    """
    statement = update(requests).where(_OF_SHARD_IN_FLIGHT).values(state=target.value)
    moved = connection.execute(statement, _bound_by(shard)).rowcount
    if target is RequestState.CANCELLED:
        moved += reuse.settle_followers(
            connection, shard.workload_id, first_seq=shard.first_seq, last_seq=shard.last_seq
        )
    return moved


def _unfinished(workload_id: WorkloadId | BindParameter[Any], state: RequestState) -> ColumnElement[bool]:
    """Return the condition for a state (pending, failed or cancelled) in a form that uses the partial index."""
    return and_(requests.c.workload_id == workload_id, requests.c.state == state.value, UNFINISHED)


def cancel_pending(connection: Connection, workload_id: WorkloadId) -> int:
    """Cancel the pending requests; return how many."""
    statement = update(requests).where(_unfinished(workload_id, RequestState.PENDING))
    cancelled = connection.execute(statement.values(state=RequestState.CANCELLED.value)).rowcount
    return cancelled + (reuse.settle_followers(connection, workload_id) if cancelled else 0)


def _is_unexecuted(workload_id: WorkloadId) -> ColumnElement[bool]:
    """Return the condition for a failed request whose last attempt proves nothing against it.

    It expired, went missing, was cancelled by the provider or refused because of the account, or it may be tried again after an
    error: an adopted workload holds such requests.
    """
    tries_left = select(workloads.c.max_attempts).where(workloads.c.id == workload_id).scalar_subquery()
    proves_nothing = attempts.c.kind.in_([kind.value for kind in UNEXECUTED])
    may_be_tried = and_(
        attempts.c.kind == OutcomeKind.TRANSIENT.value, requests.c.attempts - requests.c.expiries < tries_left
    )
    return exists().where(
        attempts.c.shard_id == requests.c.shard_id,
        attempts.c.seq == requests.c.seq,
        or_(proves_nothing, may_be_tried),
    )


def _has_line(workload_id: WorkloadId) -> ColumnElement[bool]:
    """Return the condition for a request whose line is known, so that it can be sent."""
    unknown = select(shards.c.id).where(shards.c.workload_id == workload_id, shards.c.path.is_(None))
    return requests.c.shard_id.not_in(unknown)


def _reopenable(workload_id: WorkloadId, *, failed: bool) -> list[ColumnElement[bool]]:
    """Return the conditions for the groups of requests that ``reopen`` makes pending."""
    is_failed = _unfinished(workload_id, RequestState.FAILED)
    chosen = is_failed if failed else and_(is_failed, _is_unexecuted(workload_id))
    has_line = _has_line(workload_id)
    return [and_(_unfinished(workload_id, RequestState.CANCELLED), has_line), and_(chosen, has_line)]


def reopen(connection: Connection, workload_id: WorkloadId, *, failed: bool) -> int:
    """Make requests pending again with fresh budgets; return how many.

    Those are the cancelled ones, and those that failed because they expired, went missing or were cancelled by the provider; with
    ``failed`` all that failed. Requests whose lines are not known stay as they are.
    """
    count = 0
    for condition in _reopenable(workload_id, failed=failed):
        chosen = select(requests.c.seq).where(condition)
        connection.execute(
            delete(results).where(results.c.workload_id == workload_id, FAILED, results.c.seq.in_(chosen))
        )
        statement = update(requests).where(condition)
        count += connection.execute(statement.values(state=RequestState.PENDING.value, attempts=0, expiries=0)).rowcount
    if count:
        reuse.reopen_followers(connection, workload_id)
    return count


def reopenable_after(
    connection: Connection, workload_id: WorkloadId, *, after_seq: int, limit: int
) -> list[PendingRequest]:
    """Read requests that ``reopen`` would make pending without ``failed``, in input order, after ``after_seq``."""
    query = (
        select(*columns_for(PendingRequest, requests))
        .where(or_(*_reopenable(workload_id, failed=False)), requests.c.seq > after_seq)
        .order_by(requests.c.seq)
        .limit(limit)
    )
    return list(map(PendingRequest._make, rows_of(connection, query)))


def has_reopenable(connection: Connection, workload_id: WorkloadId, *, failed: bool) -> bool:
    """Return whether ``reopen`` would make any request pending."""
    query = select(requests.c.seq).where(or_(*_reopenable(workload_id, failed=failed))).limit(1)
    return connection.execute(query).first() is not None


def unsendable_count(connection: Connection, workload_id: WorkloadId) -> int:
    """Count the failed and cancelled requests whose lines are not known, so that they cannot be sent again."""
    query = select(func.count()).where(
        requests.c.workload_id == workload_id,
        UNFINISHED,
        requests.c.state != RequestState.PENDING.value,
        not_(_has_line(workload_id)),
    )
    return int(connection.execute(query).scalar_one())


def failed_by_kind(connection: Connection, workload_id: WorkloadId) -> dict[OutcomeKind, int]:
    """Count the failed requests by the outcome of their last attempt; those without an attempt were refused with their file."""
    kind = func.coalesce(attempts.c.kind, OutcomeKind.REFUSED.value)
    query = (
        select(kind, func.count())
        .join_from(
            requests,
            attempts,
            and_(attempts.c.shard_id == requests.c.shard_id, attempts.c.seq == requests.c.seq),
            isouter=True,
        )
        .where(_unfinished(workload_id, RequestState.FAILED))
        .group_by(kind)
    )
    return {OutcomeKind(name): count for name, count in connection.execute(query)}


def resubmit_groups(connection: Connection, workload_id: WorkloadId, *, now: float) -> list[ResubmitGroup]:
    """Group the shards of pending requests by the size and window of the next attempt; only requests that may be sent now."""
    shard_ids = select(requests.c.shard_id).where(_unfinished(workload_id, RequestState.PENDING))
    query = (
        select(
            shards.c.lane,
            shards.c.endpoint,
            shards.c.model,
            shards.c.next_lines,
            shards.c.next_completion_window,
            shards.c.waits,
            shards.c.id,
        )
        .where(
            shards.c.id.in_(shard_ids.distinct()),
            shards.c.not_before <= now,
            shards.c.state.in_([ShardState.MERGED.value, ShardState.WITHDRAWN.value]),
        )
        .order_by(
            shards.c.lane,
            shards.c.endpoint,
            shards.c.model,
            shards.c.next_completion_window,
            shards.c.next_lines,
            shards.c.waits,
            shards.c.id,
        )
    )
    groups: dict[tuple[Lane, Destination, int, str, int], list[ShardId]] = {}
    for lane, endpoint, model, lines, window, waits, shard_id in connection.execute(query):
        terms = (Lane(lane), Destination(endpoint, model), lines, window, waits)
        groups.setdefault(terms, []).append(shard_id)
    return [ResubmitGroup(*terms, tuple(shard_ids)) for terms, shard_ids in groups.items()]


_NEXT_RESUBMIT_DUE = (
    select(shards.c.not_before)
    .where(
        shards.c.id.in_(
            select(requests.c.shard_id).where(_unfinished(bindparam("workload_id"), RequestState.PENDING)).distinct()
        )
    )
    .order_by(shards.c.not_before)
    .limit(1)
)


def next_resubmit_due(connection: Connection, workload_id: WorkloadId) -> float | None:
    """Return when the earliest group of pending requests may be sent; None when nothing is pending."""
    due: float | None = connection.execute(_NEXT_RESUBMIT_DUE, {"workload_id": workload_id}).scalar_one_or_none()
    return due


def pending_after(
    connection: Connection, workload_id: WorkloadId, *, shard_ids: tuple[ShardId, ...], after_seq: int, limit: int
) -> list[PendingRequest]:
    """Read pending requests that were last in the given shards, in input order, after ``after_seq``."""
    # The ids are literals in the statement: a database takes only some ten thousand bound values.
    among: BindParameter[tuple[ShardId, ...]] = bindparam("among", shard_ids, expanding=True, literal_execute=True)
    query = (
        select(*columns_for(PendingRequest, requests))
        .where(
            _unfinished(workload_id, RequestState.PENDING),
            requests.c.seq > after_seq,
            requests.c.shard_id.in_(among),
        )
        .order_by(requests.c.seq)
        .limit(limit)
    )
    return list(map(PendingRequest._make, rows_of(connection, query)))


def breaches_of(connection: Connection, pending: Sequence[PendingRequest]) -> dict[tuple[ShardId, int], str]:
    """Return which rule the last answers of pending requests broke, by shard and seq."""
    if not pending:
        return {}
    shard_ids = tuple({request.shard_id for request in pending})
    among: BindParameter[tuple[ShardId, ...]] = bindparam("among", shard_ids, expanding=True, literal_execute=True)
    query = select(attempts.c.shard_id, attempts.c.seq, attempts.c.error_code).where(
        attempts.c.shard_id.in_(among),
        attempts.c.seq.between(pending[0].seq, pending[-1].seq),
        attempts.c.kind == OutcomeKind.INVALID.value,
    )
    return {(shard_id, seq): code for shard_id, seq, code in connection.execute(query)}


def pending_count(connection: Connection, workload_id: WorkloadId, *, at_most: int) -> int:
    """Count pending requests, up to ``at_most``."""
    pending = select(requests.c.seq).where(_unfinished(workload_id, RequestState.PENDING)).limit(at_most).subquery()
    return int(connection.execute(select(func.count()).select_from(pending)).scalar_one())
