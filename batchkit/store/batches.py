"""Batches: the provider's objects as they were last seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import bindparam, func, insert, select, update

from batchkit.files import jsonl
from batchkit.models import (
    GONE,
    TERMINAL_STATUSES,
    Batch,
    BatchId,
    BatchProblem,
    RequestCounts,
    Shard,
    ShardId,
    ShardState,
    WorkloadId,
)
from batchkit.store import shards as shard_rows
from batchkit.store.tables import TROUBLED, batches, shards, workloads

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        "absent_at": None,
    }


def add(connection: Connection, batch: Batch, *, workload_id: WorkloadId, shard_id: ShardId, seen_at: float) -> None:
    """Insert the batch of a shard."""
    connection.execute(
        insert(batches), {"id": batch.id, "workload_id": workload_id, "shard_id": shard_id, **_values(batch, seen_at)}
    )


def see(connection: Connection, *seen: Batch, seen_at: float) -> None:
    """Write what the provider says of some batches now.

    A picture of a running batch never replaces one of a batch that has ended: it was taken earlier, by a runner that was slow
    to write it down, and the merge of the other picture's files may be under way.
    """
    own = update(batches).where(batches.c.id == bindparam("batch_id"))
    # One comparison each: a list cannot be bound for many rows at a time.
    still_running = own.where(*(batches.c.status != ended for ended in (*sorted(TERMINAL_STATUSES), GONE)))
    for statement, is_terminal in ((own, True), (still_running, False)):
        rows = [{"batch_id": batch.id, **_values(batch, seen_at)} for batch in seen if batch.is_terminal is is_terminal]
        if rows:
            connection.execute(statement, rows)


def unheld(connection: Connection, batch_ids: Sequence[BatchId]) -> set[BatchId]:
    """Lock the rows of the batches that nobody else has locked; returns which these are. Waits for nobody."""
    query = select(batches.c.id).where(batches.c.id.in_(batch_ids)).with_for_update(skip_locked=True)
    return set(connection.scalars(query))


def mark_missing(connection: Connection, batch_id: BatchId, *, at: float, longest_gap: float) -> float:
    """Record that the provider did not know the batch at ``at`` (Unix seconds); returns since when it has been unknown.

    Between two probes at most ``longest_gap`` seconds count, so that a machine that slept in between proves nothing:
    ``missing_since`` is moved forward by the rest.
    """
    query = select(batches.c.missing_since, batches.c.absent_at).where(batches.c.id == batch_id)
    since, absent_at = connection.execute(query).one()
    last = since if absent_at is None else absent_at
    absent_seconds = 0.0 if since is None else last - since + min(max(at - last, 0.0), longest_gap)
    since = at - absent_seconds
    set_values(connection, batch_id, missing_since=since, absent_at=at)
    return float(since)


def set_values(connection: Connection, batch_id: BatchId, **values: Any) -> None:
    """Write columns of a batch."""
    connection.execute(update(batches).where(batches.c.id == batch_id).values(**values))


#: What a ``Batch`` is read from.
_COLUMNS = (
    batches.c.id,
    batches.c.status,
    shards.c.endpoint,
    shards.c.completion_window,
    shards.c.input_file_id,
    batches.c.output_file_id,
    batches.c.error_file_id,
    batches.c.created_at,
    batches.c.expires_at,
    batches.c.total,
    batches.c.completed,
    batches.c.failed,
    batches.c.problems,
    batches.c.raw,
    batches.c.missing_since,
    batches.c.seen_at,
)


def _batch(row: Sequence[Any]) -> Batch:
    """Make a batch of its ``_COLUMNS``: ten thousand of them are read in every poll."""
    batch_id, status, endpoint, window, input_file_id, output_file_id, error_file_id, *rest = row
    created_at, expires_at, total, completed, failed, problems, raw, missing_since, seen_at = rest
    return Batch(
        id=batch_id,
        status=status,
        endpoint=endpoint,
        completion_window=window,
        input_file_id=input_file_id or None,
        output_file_id=output_file_id or None,
        error_file_id=error_file_id or None,
        created_at=created_at,
        expires_at=expires_at,
        counts=RequestCounts(total=total, completed=completed, failed=failed),
        problems=tuple(BatchProblem(**problem) for problem in jsonl.loads(problems)),
        raw=jsonl.loads_leniently(raw.encode()),
        missing_since=missing_since,
        seen_at=seen_at,
    )


_OF_SHARD = shards.c.id == batches.c.shard_id
_QUERY = select(*_COLUMNS).join_from(batches, shards, _OF_SHARD)


def get(connection: Connection, batch_id: BatchId) -> Batch:
    """Read one batch as last seen."""
    return _batch(connection.execute(_QUERY.where(batches.c.id == batch_id)).one())


class Holder(NamedTuple):
    """Where a batch is recorded: the shard that it belongs to."""

    shard_id: ShardId
    shard_number: int
    workload_id: WorkloadId
    workload_name: str


def holder_of(connection: Connection, batch_id: BatchId) -> Holder | None:
    """Return the shard that a batch of this id is recorded for; None when the id is new."""
    query = (
        select(batches.c.shard_id, shards.c.number, workloads.c.id, workloads.c.name)
        .join(shards, _OF_SHARD)
        .join(workloads, workloads.c.id == batches.c.workload_id)
        .where(batches.c.id == batch_id)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else Holder(*row)


def of_workload(connection: Connection, workload_id: WorkloadId) -> list[tuple[ShardId, Batch]]:
    """Read the workload's batches as last seen, in the order of their shards."""
    query = (
        select(batches.c.shard_id, *_COLUMNS)
        .join_from(batches, shards, _OF_SHARD)
        .where(batches.c.workload_id == workload_id)
        .order_by(batches.c.shard_id)
    )
    return [(ShardId(row[0]), _batch(row[1:])) for row in connection.execute(query)]


def open_of_workload(connection: Connection, workload_id: WorkloadId) -> list[tuple[Shard, Batch]]:
    """Read the workload's submitted shards with their batches as last seen, by number."""
    query = (
        select(*shard_rows.COLUMNS, *_COLUMNS)
        .join_from(shards, batches, _OF_SHARD)
        .where(shards.c.workload_id == workload_id, shards.c.state == ShardState.SUBMITTED.value)
        .order_by(shards.c.number)
    )
    width = len(shard_rows.COLUMNS)
    return [(shard_rows.read_row(row[:width]), _batch(row[width:])) for row in connection.execute(query)]


def open_statuses(connection: Connection, workload_id: WorkloadId) -> list[tuple[str, int, int]]:
    """Count the batches of submitted shards by status: (status, batches, requests that the provider says are done)."""
    query = (
        select(batches.c.status, func.count(), func.sum(batches.c.completed + batches.c.failed))
        .join(shards, shards.c.id == batches.c.shard_id)
        .where(shards.c.workload_id == workload_id, shards.c.state == ShardState.SUBMITTED.value)
        .group_by(batches.c.status)
        .order_by(batches.c.status)
    )
    return [(status, count, int(done)) for status, count, done in connection.execute(query)]


def troubled(connection: Connection, workload_id: WorkloadId, *, limit: int) -> list[Batch]:
    """Read the batches that ended otherwise than completed or report errors, newest shard first."""
    chosen = (
        select(batches.c.shard_id)
        .where(batches.c.workload_id == workload_id, TROUBLED)
        .order_by(batches.c.shard_id.desc())
        .limit(limit)
        .subquery("chosen")
    )
    query = _QUERY.join(chosen, chosen.c.shard_id == batches.c.shard_id).order_by(batches.c.shard_id.desc())
    return [_batch(row) for row in connection.execute(query)]
