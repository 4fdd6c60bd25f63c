"""The journal: one row per transition and per other event, written in the transaction that causes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, insert, select

from batchkit.files.jsonl import storable_text
from batchkit.store.tables import events, shards

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from batchkit.models import ShardId, WorkloadId

#: The event of a split that is complete.
SPLIT = "split"


@dataclass(frozen=True, slots=True)
class Event:
    """A row of ``events``; ``at`` in Unix seconds. Transitions read ``submitting -> submitted``.

    ``shard_number`` is None for events of the whole workload.
    """

    id: int
    at: float
    shard_number: int | None
    kind: str
    detail: str | None


_INSERT = insert(events)


def record(
    connection: Connection,
    workload_id: WorkloadId,
    kind: str,
    *,
    at: float,
    shard_id: ShardId | None = None,
    detail: str | None = None,
) -> None:
    """Write one event."""
    values = {"at": at, "workload_id": workload_id, "shard_id": shard_id, "kind": kind, "detail": storable_text(detail)}
    connection.execute(_INSERT, values)


def exists(connection: Connection, workload_id: WorkloadId, shard_id: ShardId, kind: str) -> bool:
    """Return whether an event of this kind was ever written for a shard. Reads the workload's whole journal."""
    query = select(events.c.id).where(
        events.c.workload_id == workload_id, events.c.shard_id == shard_id, events.c.kind == kind
    )
    return connection.execute(query.limit(1)).first() is not None


def happened_since(
    connection: Connection, workload_id: WorkloadId, kind: str, *, shard_id: ShardId, since: str
) -> bool:
    """Return whether an event of ``kind`` was written for a workload after the last event ``since`` of one of its shards."""
    own = events.c.workload_id == workload_id
    last = select(func.max(events.c.id)).where(own, events.c.shard_id == shard_id, events.c.kind == since)
    query = select(events.c.id).where(own, events.c.kind == kind, events.c.id > last.scalar_subquery())
    return connection.execute(query.limit(1)).first() is not None


def newest(connection: Connection, workload_id: WorkloadId, *, limit: int) -> list[Event]:
    """Read the newest events of a workload, newest first."""
    query = (
        select(events.c.id, events.c.at, shards.c.number, events.c.kind, events.c.detail)
        .outerjoin(shards, shards.c.id == events.c.shard_id)
        .where(events.c.workload_id == workload_id)
        .order_by(events.c.id.desc())
        .limit(limit)
    )
    return [Event(*row) for row in connection.execute(query)]
