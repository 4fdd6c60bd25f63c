"""Pages of a workload's requests for a person who searches them, and everything that is stored of one request.

A page is read by keyset: it continues after a request, and never counts those before it. ``is_direct`` says whether an index serves a
filter; other filters are read range by range (``scan``), so that no statement reads a workload of millions whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sqlalchemy import and_, func, select, text

from batchkit.models import RequestState
from batchkit.store import custom_id_index
from batchkit.store.reuse import IS_ANSWER
from batchkit.store.rows import columns_for
from batchkit.store.tables import FAILED, UNFINISHED, attempts, batches, bodies, events, requests, results, shards

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.engine import Connection

    from batchkit.models import ShardId, WorkloadId

#: How a text is compared with a custom_id.
Match = Literal["exact", "prefix", "contains"]
_UNFINISHED_STATES = frozenset({RequestState.PENDING, RequestState.FAILED, RequestState.CANCELLED})
#: What ``failure_reasons`` shows for an error without a code.
NO_CODE = "unknown"
_HIGHEST = "\U0010ffff"


class RequestFilter(NamedTuple):
    """Which requests are wanted; None: all of them.

    ``error`` is the code of a failed request, ``model`` the number of the model that answered (see ``names``).
    """

    state: RequestState | None = None
    error: str | None = None
    model: int | None = None
    custom_id: str | None = None
    match: Match = "exact"


class Listed(NamedTuple):
    """A request in a table, without its question and answer; ``model`` is a number (see ``names``)."""

    seq: int
    custom_id: str
    state: str
    attempts: int
    expiries: int
    status_code: int | None
    error_code: str | None
    error_message: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    model: int | None


class Tried(NamedTuple):
    """An attempt without a usable answer; ``attempt`` counts from 0, ``kind`` is an ``OutcomeKind``."""

    attempt: int
    kind: str
    status_code: int | None
    error_code: str | None
    error_message: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    shard_id: ShardId


class Carrier(NamedTuple):
    """A shard that had a request, with its batch if it has one. ``lines`` counts its requests."""

    shard_id: ShardId
    number: int
    state: str
    lane: str
    window: str
    lines: int
    batch_id: str | None
    batch_status: str | None


def is_direct(connection: Connection, wanted: RequestFilter) -> bool:
    """Return whether an index leads to the requests of a filter, so that a page reads only what it shows."""
    if wanted.custom_id is not None:
        is_alone = wanted._replace(custom_id=None, match="exact") == RequestFilter()
        by_index = wanted.match == "exact" or (wanted.match == "prefix" and is_alone)
        return by_index and custom_id_index.exists(connection)
    if wanted.model is not None:
        return False
    if wanted.error is not None:
        return wanted.state in {None, RequestState.FAILED}
    return wanted.state is None or wanted.state in _UNFINISHED_STATES


def page(
    connection: Connection,
    workload_id: WorkloadId,
    wanted: RequestFilter,
    *,
    after: int = -1,
    before: int | None = None,
    limit: int,
) -> list[int]:
    """Return up to ``limit`` places of requests that a direct filter wants, ascending: after a place, or the last ones before one."""
    if wanted.custom_id is not None:
        # The state and the rest are looked up of that one request: the database might begin with them.
        by_id = select(requests.c.seq).where(
            requests.c.workload_id == workload_id, requests.c.custom_id == wanted.custom_id
        )
        return [
            seq
            for seq in connection.scalars(by_id).all()
            if after < seq < (seq + 1 if before is None else before)
            and scan(connection, workload_id, wanted, first=seq, last=seq, limit=1)
        ]
    if wanted.error is not None:
        query, place = _by_error(workload_id, wanted.error), results.c.seq
    else:
        query, place = select(requests.c.seq).where(requests.c.workload_id == workload_id), requests.c.seq
        if wanted.state is not None:
            query = query.where(requests.c.state == wanted.state.value, UNFINISHED)
    if before is None:
        found = query.where(place > after).order_by(place).limit(limit)
        return list(connection.scalars(found))
    found = query.where(place < before).order_by(place.desc()).limit(limit)
    return list(connection.scalars(found))[::-1]


def by_prefix(
    connection: Connection, workload_id: WorkloadId, prefix: str, *, after: str | None = None, limit: int
) -> list[int]:
    """Return up to ``limit`` places of requests whose custom_id begins so, in the order of their ids, after an id; needs the index."""
    query = select(requests.c.seq).where(requests.c.workload_id == workload_id, _fits(connection, prefix, "prefix"))
    is_sqlite = connection.dialect.name == "sqlite"
    if after is not None:
        query = query.where(requests.c.custom_id.op(">" if is_sqlite else "~>~")(after))
    order = requests.c.custom_id if is_sqlite else text("requests.custom_id USING ~<~")
    return list(connection.scalars(query.order_by(order).limit(limit)))


def scan(
    connection: Connection, workload_id: WorkloadId, wanted: RequestFilter, *, first: int, last: int, limit: int
) -> list[int]:
    """Return up to ``limit`` places of wanted requests from ``first`` to ``last`` (included); reads all of these at most."""
    conditions: list[ColumnElement[bool]] = [
        requests.c.workload_id == workload_id,
        requests.c.seq.between(first, last),
    ]
    query = select(requests.c.seq)
    if wanted.model is not None or wanted.error is not None:
        query = query.join(
            results, and_(results.c.workload_id == requests.c.workload_id, results.c.seq == requests.c.seq)
        )
        # Without this bound SQLite would look for each request's result from the beginning.
        conditions.append(results.c.workload_id == workload_id)
    if wanted.model is not None:
        conditions.append(results.c.model == wanted.model)
    if wanted.error is not None:
        conditions += [results.c.state == RequestState.FAILED.value, _is_code(wanted.error)]
    if wanted.state is not None:
        conditions.append(requests.c.state == wanted.state.value)
    if wanted.custom_id is not None:
        conditions.append(_fits(connection, wanted.custom_id, wanted.match))
    return list(connection.scalars(query.where(*conditions).order_by(requests.c.seq).limit(limit)))


def listed(connection: Connection, workload_id: WorkloadId, seqs: Sequence[int]) -> list[Listed]:
    """Read requests by their places, in the given order, with their results but without their texts."""
    query = (
        select(*columns_for(Listed, requests, results))
        .outerjoin(results, and_(results.c.workload_id == workload_id, results.c.seq == requests.c.seq))
        .where(requests.c.workload_id == workload_id, requests.c.seq.in_(seqs))
    )
    found = {row.seq: Listed._make(row) for row in connection.execute(query)}
    return [found[seq] for seq in seqs if seq in found]


def tried(connection: Connection, workload_id: WorkloadId, seq: int) -> list[Tried]:
    """Read the attempts of a request that brought no usable answer, the first one first."""
    # The attempts' key begins with the shard: only those that may have had the request are asked.
    carriers = (
        select(shards.c.id)
        .where(shards.c.workload_id == workload_id, shards.c.first_seq <= seq, shards.c.last_seq >= seq)
        .order_by(shards.c.id)
    )
    query = (
        select(*columns_for(Tried, attempts))
        .where(attempts.c.shard_id.in_(carriers), attempts.c.seq == seq)
        .order_by(attempts.c.attempt, attempts.c.shard_id)
    )
    return [Tried._make(row) for row in connection.execute(query)]


def carriers(connection: Connection, shard_ids: Sequence[ShardId]) -> dict[ShardId, Carrier]:
    """Read shards with their batches."""
    columns = columns_for(
        Carrier,
        shards,
        shard_id=shards.c.id,
        window=shards.c.completion_window,
        lines=shards.c.line_count,
        batch_id=shards.c.batch_id,
        batch_status=batches.c.status,
    )
    query = (
        select(*columns).outerjoin(batches, batches.c.shard_id == shards.c.id).where(shards.c.id.in_(list(shard_ids)))
    )
    return {row[0]: Carrier._make(row) for row in connection.execute(query)}


def shard_moments(
    connection: Connection, workload_id: WorkloadId, shard_ids: Sequence[ShardId]
) -> dict[ShardId, list[tuple[str, float]]]:
    """Read what happened to shards and when (Unix seconds), in order."""
    query = (
        select(events.c.shard_id, events.c.kind, events.c.at)
        .where(events.c.workload_id == workload_id, events.c.shard_id.in_(list(shard_ids)))
        .order_by(events.c.id)
    )
    found: dict[ShardId, list[tuple[str, float]]] = {}
    for shard_id, kind, at in connection.execute(query):
        found.setdefault(shard_id, []).append((kind, at))
    return found


def _by_error(workload_id: WorkloadId, code: str) -> Select[Any]:
    return select(results.c.seq).where(results.c.workload_id == workload_id, FAILED, _is_code(code))


def _is_code(code: str) -> ColumnElement[bool]:
    return results.c.error_code.is_(None) if code == NO_CODE else results.c.error_code == code


def _fits(connection: Connection, wanted: str, match: Match) -> ColumnElement[bool]:
    column = requests.c.custom_id
    if match == "exact":
        return column == wanted
    is_sqlite = connection.dialect.name == "sqlite"
    if match == "contains":
        return (func.instr if is_sqlite else func.strpos)(column, wanted) > 0
    # The order of bytes, whatever the collation of the database: the index has it, too.
    above, below = (">=", "<") if is_sqlite else ("~>=~", "~<~")
    return and_(column.op(above)(wanted), column.op(below)(wanted + _HIGHEST))


def answers(connection: Connection, workload_id: WorkloadId, seqs: Sequence[int]) -> dict[int, bytes]:
    """Read the stored answers of successful requests by their places; each may have a megabyte."""
    query = (
        select(results.c.seq, bodies.c.body)
        .join(bodies, IS_ANSWER)
        .where(
            results.c.workload_id == workload_id,
            results.c.seq.in_(seqs),
            results.c.state == RequestState.SUCCEEDED.value,
        )
    )
    return {seq: body.encode() for seq, body in connection.execute(query)}


def models_of(
    connection: Connection, workload_id: WorkloadId, seqs: Sequence[int]
) -> dict[int | None, tuple[int, int]]:
    """Sum the tokens (prompt, completion) of some answers by the number of their model."""
    query = (
        select(results.c.model, func.sum(results.c.prompt_tokens), func.sum(results.c.completion_tokens))
        .where(
            results.c.workload_id == workload_id,
            results.c.seq.in_(seqs),
            results.c.state == RequestState.SUCCEEDED.value,
        )
        .group_by(results.c.model)
    )
    return {model: (int(into or 0), int(out or 0)) for model, into, out in connection.execute(query)}
