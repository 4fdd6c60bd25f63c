"""Batches: the provider's objects as they were last seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, or_, select, update

from batchkit import jsonl
from batchkit.models import (
    GONE,
    TERMINAL_STATUSES,
    Batch,
    BatchId,
    BatchProblem,
    BatchStatus,
    FileId,
    RequestCounts,
    Shard,
    ShardId,
    ShardState,
    WorkloadId,
)
from batchkit.store import shards as shard_rows
from batchkit.store.tables import batches, shards

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


def _values(batch: Batch, seen_at: float) -> dict[str, Any]:
    problems = [
        {"message": problem.message, "code": problem.code, "line": problem.line, "param": problem.param}
        for problem in batch.problems
    ]
    return {
        "status": batch.status,
        "created_at": batch.created_at,
        "expires_at": batch.expires_at,
        "total": batch.counts.total,
        "completed": batch.counts.completed,
        "failed": batch.counts.failed,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "problems": jsonl.dumps(problems).decode(),
        "raw": jsonl.dumps(dict(batch.raw)).decode(),
        "seen_at": seen_at,
        "missing_since": None,
    }


def add(connection: Connection, batch: Batch, *, workload_id: WorkloadId, shard_id: ShardId, seen_at: float) -> None:
    """Insert the batch of a shard."""
    connection.execute(
        insert(batches), {"id": batch.id, "workload_id": workload_id, "shard_id": shard_id, **_values(batch, seen_at)}
    )


def see(connection: Connection, batch: Batch, *, seen_at: float) -> None:
    """Write what the provider says of a batch now.

    A picture of a running batch never replaces one of a batch that has ended: it was taken earlier, by a runner that was slow
    to write it down, and the merge of the other picture's files may be under way.
    """
    statement = update(batches).where(batches.c.id == batch.id)
    if not batch.is_terminal:
        statement = statement.where(batches.c.status.not_in([*TERMINAL_STATUSES, GONE]))
    connection.execute(statement.values(**_values(batch, seen_at)))


def mark_missing(connection: Connection, batch_id: BatchId, *, at: float) -> float:
    """Note that the provider does not know the batch; returns since when."""
    connection.execute(
        update(batches).where(batches.c.id == batch_id, batches.c.missing_since.is_(None)).values(missing_since=at)
    )
    return float(connection.execute(select(batches.c.missing_since).where(batches.c.id == batch_id)).scalar_one())


def set_values(connection: Connection, batch_id: BatchId, **values: Any) -> None:
    """Write columns of a batch."""
    connection.execute(update(batches).where(batches.c.id == batch_id).values(**values))


def _batch(row: Any) -> Batch:
    return Batch(
        id=BatchId(row.id),
        status=row.status,
        endpoint=row.endpoint,
        completion_window=row.completion_window,
        input_file_id=FileId(row.input_file_id) if row.input_file_id else None,
        output_file_id=FileId(row.output_file_id) if row.output_file_id else None,
        error_file_id=FileId(row.error_file_id) if row.error_file_id else None,
        created_at=row.created_at,
        expires_at=row.expires_at,
        counts=RequestCounts(total=row.total, completed=row.completed, failed=row.failed),
        problems=tuple(BatchProblem(**problem) for problem in jsonl.loads(row.problems)),
        raw=jsonl.loads_leniently(row.raw.encode()),
    )


_QUERY = select(batches, shards.c.input_file_id, shards.c.endpoint, shards.c.completion_window).join(
    shards, shards.c.id == batches.c.shard_id
)


def get(connection: Connection, batch_id: BatchId) -> Batch:
    """Read one batch as last seen."""
    return _batch(connection.execute(_QUERY.where(batches.c.id == batch_id)).one())


def of_workload(connection: Connection, workload_id: WorkloadId) -> list[tuple[ShardId, Batch]]:
    """Read the workload's batches as last seen, in the order of their shards."""
    query = _QUERY.where(batches.c.workload_id == workload_id).order_by(batches.c.shard_id)
    return [(ShardId(row.shard_id), _batch(row)) for row in connection.execute(query)]


def open_of_workload(connection: Connection, workload_id: WorkloadId) -> list[tuple[Shard, Batch]]:
    """Read the workload's submitted shards with their batches as last seen, by number."""
    found = {
        row.id: _batch(row)
        for row in connection.execute(
            _QUERY.where(batches.c.workload_id == workload_id, shards.c.state == ShardState.SUBMITTED.value)
        )
    }
    submitted = shard_rows.in_states(connection, workload_id, (ShardState.SUBMITTED,))
    return [(shard, found[shard.batch_id]) for shard in submitted if shard.batch_id in found]


def open_statuses(connection: Connection, workload_id: WorkloadId) -> list[tuple[str, int, int]]:
    """Count the batches of submitted shards by status: (status, batches, requests that the provider says are done)."""
    query = (
        select(batches.c.status, func.count(), func.sum(batches.c.completed + batches.c.failed))
        .join(shards, shards.c.id == batches.c.shard_id)
        .where(batches.c.workload_id == workload_id, shards.c.state == ShardState.SUBMITTED.value)
        .group_by(batches.c.status)
        .order_by(batches.c.status)
    )
    return [(status, count, int(done)) for status, count, done in connection.execute(query)]


def troubled(connection: Connection, workload_id: WorkloadId, *, limit: int) -> list[Batch]:
    """Read the batches that ended otherwise than completed or report errors, newest shard first."""
    query = _QUERY.where(
        batches.c.workload_id == workload_id,
        or_(
            batches.c.status.in_([BatchStatus.FAILED, BatchStatus.EXPIRED, BatchStatus.CANCELLED, GONE]),
            batches.c.missing_since.is_not(None),
            batches.c.problems != "[]",
        ),
    )
    return [_batch(row) for row in connection.execute(query.order_by(batches.c.shard_id.desc()).limit(limit))]
