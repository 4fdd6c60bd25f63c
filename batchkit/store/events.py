"""The journal: one row per transition and per thing worth telling, written in the transaction that it tells of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import insert, select

from batchkit.jsonl import storable_text
from batchkit.store.tables import events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from batchkit.models import ShardId, WorkloadId


@dataclass(frozen=True, slots=True)
class Event:
    """A row of ``events``; ``at`` in Unix seconds. Transitions read ``submitting -> submitted``."""

    id: int
    at: float
    workload_id: WorkloadId
    shard_id: ShardId | None
    kind: str
    detail: str | None


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
    connection.execute(insert(events), values)


def newest(connection: Connection, workload_id: WorkloadId, *, limit: int, kinds: Sequence[str] = ()) -> list[Event]:
    """Read the newest events, newest first; only the given kinds if any are given."""
    query = select(events).where(events.c.workload_id == workload_id).order_by(events.c.id.desc()).limit(limit)
    if kinds:
        query = query.where(events.c.kind.in_(kinds))
    return [Event(*row) for row in connection.execute(query)]
