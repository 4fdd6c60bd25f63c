"""The shards of batches that something else created. Once they are there, they are shards like others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import case, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from batchkit.errors import BatchIdTaken
from batchkit.store import events
from batchkit.store.tables import batches, shards

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from batchkit.models import BatchId, Destination, FileId, ShardId, ShardState, WorkloadId

_ADD = insert(shards).returning(shards.c.id)


def add(
    connection: Connection,
    *,
    workload_id: WorkloadId,
    number: int,
    state: ShardState,
    destination: Destination,
    window: str,
    key: str,
    path: str | None,
    sha256: str | None,
    id_prefix: str | None,
    byte_count: int,
    input_file_id: FileId | None,
    batch_id: BatchId,
    next_lines: int,
    at: float,
) -> ShardId:
    """Insert the shard of a batch that something else created, and its event; ``set_lines`` follows.

    Raises ``BatchIdTaken`` when another shard got the batch at this moment.
    """
    values = {
        "workload_id": workload_id,
        "number": number,
        "state": state.value,
        "endpoint": destination.endpoint,
        "model": destination.model,
        "completion_window": window,
        "key": key,
        "path": path,
        "sha256": sha256,
        "is_adopted": True,
        "id_prefix": id_prefix,
        "line_count": 0,
        "byte_count": byte_count,
        "first_seq": 0,
        "last_seq": 0,
        "input_file_id": input_file_id,
        "batch_id": batch_id,
        "next_lines": next_lines,
        "next_completion_window": window,
    }
    try:
        with connection.begin_nested():
            shard_id: ShardId = connection.execute(_ADD, values).scalar_one()
    except IntegrityError as error:
        raise BatchIdTaken(
            f"another command adopts batch {batch_id} at this moment", hint="run the same command again"
        ) from error
    events.record(
        connection, workload_id, f"(none) -> {state}", at=at, shard_id=shard_id, detail=f"batch {batch_id} adopted"
    )
    return shard_id


def set_lines(connection: Connection, shard_id: ShardId, *, count: int, first_seq: int, last_seq: int) -> None:
    """Set how many requests are in flight in an adopted shard, and the range of all that it has a line for."""
    values = {"line_count": count, "first_seq": first_seq, "last_seq": last_seq}
    connection.execute(update(shards).where(shards.c.id == shard_id).values(**values))


def batch_ids(connection: Connection, workload_id: WorkloadId) -> list[BatchId]:
    """Return the ids of the workload's adopted batches, in the order of its input."""
    query = select(shards.c.batch_id).where(shards.c.workload_id == workload_id, shards.c.is_adopted)
    return list(connection.scalars(query.order_by(shards.c.number)))


def unnamed_requests(connection: Connection, workload_id: WorkloadId) -> int:
    """Count the requests of adopted batches that no file names: those of their ``total`` that have no row."""
    unnamed = batches.c.total - shards.c.line_count
    query = (
        select(func.coalesce(func.sum(case((unnamed > 0, unnamed), else_=0)), 0))
        .join_from(shards, batches, batches.c.shard_id == shards.c.id)
        .where(shards.c.workload_id == workload_id, shards.c.is_adopted, shards.c.path.is_(None))
    )
    return int(connection.execute(query).scalar_one())
