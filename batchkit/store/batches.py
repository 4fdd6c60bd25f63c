"""Batches: the provider's objects as they were last read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Integer, bindparam, func, insert, select, update

from batchkit.files import jsonl
from batchkit.models import (
    GONE,
    TERMINAL_STATUSES,
    Batch,
    BatchId,
    BatchProblem,
    FileId,
    RequestCounts,
    Shard,
    ShardId,
    ShardState,
    WorkloadId,
)
from batchkit.store import shards as shard_rows
from batchkit.store.rows import columns_for
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


_ADD = insert(batches)


def add(connection: Connection, batch: Batch, *, workload_id: WorkloadId, shard_id: ShardId, seen_at: float) -> None:
    """Insert the batch of a shard."""
    connection.execute(
        _ADD, {"id": batch.id, "workload_id": workload_id, "shard_id": shard_id, **_values(batch, seen_at)}
    )


_OWN = update(batches).where(batches.c.id == bindparam("batch_id"))
# One comparison each, because a list cannot be bound for many rows at a time.
_STILL_RUNNING = _OWN.where(*(batches.c.status != ended for ended in (*sorted(TERMINAL_STATUSES), GONE)))


def see(connection: Connection, *seen: Batch, seen_at: float) -> None:
    """Write the provider's objects of some batches as they were read at ``seen_at`` (Unix seconds).

    A running status never replaces a terminal one: it was read earlier, by a runner that was slow to store it, and the merge of
    the batch's files may be running.
    """
    for statement, is_terminal in ((_OWN, True), (_STILL_RUNNING, False)):
        rows = [{"batch_id": batch.id, **_values(batch, seen_at)} for batch in seen if batch.is_terminal is is_terminal]
        if rows:
            connection.execute(statement, rows)


def unheld(connection: Connection, batch_ids: Sequence[BatchId]) -> set[BatchId]:
    """Lock the rows of those batches that no other transaction has locked; return their ids. Never waits for a lock."""
    query = select(batches.c.id).where(batches.c.id.in_(batch_ids)).with_for_update(skip_locked=True)
    return set(connection.scalars(query))


def mark_missing(connection: Connection, batch_id: BatchId, *, at: float, longest_gap: float) -> float:
    """Record that the provider did not know the batch at ``at`` (Unix seconds); return since when it has been unknown.

    Between two probes at most ``longest_gap`` seconds count, so that a machine that slept in between proves nothing:
    ``missing_since`` is moved forward by the excess.
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
    connection.execute(_OWN, {"batch_id": batch_id, **values})


class _BatchRow(NamedTuple):
    """A row of ``batches`` with the columns of its shard that a ``Batch`` has."""

    id: BatchId
    status: str
    endpoint: str
    completion_window: str
    input_file_id: FileId | None
    output_file_id: FileId | None
    error_file_id: FileId | None
    created_at: int | None
    expires_at: int | None
    total: int
    completed: int
    failed: int
    problems: str
    raw: str
    missing_since: float | None
    seen_at: float


_COLUMNS = columns_for(_BatchRow, batches, shards)


def _batch(columns: Sequence[Any]) -> Batch:
    """Return the batch that ``_COLUMNS`` describe. A poll may read ten thousand of them."""
    row = _BatchRow._make(columns)
    return Batch(
        id=row.id,
        status=row.status,
        endpoint=row.endpoint,
        completion_window=row.completion_window,
        input_file_id=row.input_file_id or None,
        output_file_id=row.output_file_id or None,
        error_file_id=row.error_file_id or None,
        created_at=row.created_at,
        expires_at=row.expires_at,
        counts=RequestCounts(total=row.total, completed=row.completed, failed=row.failed),
        problems=tuple(BatchProblem(**problem) for problem in jsonl.loads(row.problems)),
        raw=jsonl.loads_leniently(row.raw.encode()),
        missing_since=row.missing_since,
        seen_at=row.seen_at,
    )


_OF_SHARD = shards.c.id == batches.c.shard_id
_QUERY = select(*_COLUMNS).join_from(batches, shards, _OF_SHARD)
_BY_ID = _QUERY.where(batches.c.id == bindparam("batch_id"))


def get(connection: Connection, batch_id: BatchId) -> Batch:
    """Read one batch as last stored."""
    return _batch(connection.execute(_BY_ID, {"batch_id": batch_id}).one())


class Holder(NamedTuple):
    """The shard for which a batch is recorded."""

    shard_id: ShardId
    shard_number: int
    workload_id: WorkloadId
    workload_name: str


_HOLDER_OF = (
    select(
        *columns_for(
            Holder,
            batches,
            shard_number=shards.c.number,
            workload_id=workloads.c.id,
            workload_name=workloads.c.name,
        )
    )
    .join(shards, _OF_SHARD)
    .join(workloads, workloads.c.id == batches.c.workload_id)
    .where(batches.c.id == bindparam("batch_id"))
)


def holder_of(connection: Connection, batch_id: BatchId) -> Holder | None:
    """Return the shard that a batch of this id is recorded for; None when the id is new."""
    row = connection.execute(_HOLDER_OF, {"batch_id": batch_id}).one_or_none()
    return None if row is None else Holder._make(row)


def holders(connection: Connection, batch_ids: Sequence[BatchId]) -> dict[BatchId, str]:
    """Return the names of the workloads that hold some batches; ids that are new do not appear."""
    query = (
        select(batches.c.id, workloads.c.name)
        .join(workloads, workloads.c.id == batches.c.workload_id)
        .where(batches.c.id.in_(batch_ids))
    )
    return {BatchId(batch_id): name for batch_id, name in connection.execute(query)}


def creator_of(connection: Connection, file_id: FileId) -> str | None:
    """Return the name of the workload here that uploaded an input file; None when something else did."""
    query = (
        select(workloads.c.name)
        .join(shards, shards.c.workload_id == workloads.c.id)
        .where(shards.c.input_file_id == file_id, shards.c.is_adopted.is_(False))
    )
    name: str | None = connection.execute(query.limit(1)).scalar_one_or_none()
    return name


def of_workload(connection: Connection, workload_id: WorkloadId) -> list[tuple[ShardId, Batch]]:
    """Read the workload's batches as last stored, in the order of their shards."""
    query = (
        select(batches.c.shard_id, *_COLUMNS)
        .join_from(batches, shards, _OF_SHARD)
        .where(batches.c.workload_id == workload_id)
        .order_by(batches.c.shard_id)
    )
    return [(ShardId(row[0]), _batch(row[1:])) for row in connection.execute(query)]


_OPEN_OF_WORKLOAD = (
    select(*shard_rows.COLUMNS, *_COLUMNS)
    .join_from(shards, batches, _OF_SHARD)
    .where(shards.c.workload_id == bindparam("workload_id"), shards.c.state == ShardState.SUBMITTED.value)
    .order_by(shards.c.number)
)


def open_of_workload(connection: Connection, workload_id: WorkloadId) -> list[tuple[Shard, Batch]]:
    """Read the workload's submitted shards with their batches as last stored, by number."""
    rows = connection.execute(_OPEN_OF_WORKLOAD, {"workload_id": workload_id})
    width = len(shard_rows.COLUMNS)
    return [(shard_rows.read_row(row[:width]), _batch(row[width:])) for row in rows]


class StatusCount(NamedTuple):
    """The batches of one status: how many, and how many of their requests the provider counts as done."""

    status: str
    batches: int
    done: int


_OPEN_STATUSES = (
    select(batches.c.status, func.count(), func.sum(batches.c.completed + batches.c.failed))
    .join(shards, _OF_SHARD)
    .where(shards.c.workload_id == bindparam("workload_id"), shards.c.state == ShardState.SUBMITTED.value)
    .group_by(batches.c.status)
    .order_by(batches.c.status)
)


def open_statuses(connection: Connection, workload_id: WorkloadId) -> list[StatusCount]:
    """Count the batches of submitted shards by status, in the order of the statuses."""
    rows = connection.execute(_OPEN_STATUSES, {"workload_id": workload_id})
    return [StatusCount(status, count, int(done)) for status, count, done in rows]


_CHOSEN = (
    select(batches.c.shard_id)
    .where(batches.c.workload_id == bindparam("workload_id"), TROUBLED)
    .order_by(batches.c.shard_id.desc())
    .limit(bindparam("most", type_=Integer))
    .subquery("chosen")
)
_TROUBLED = _QUERY.join(_CHOSEN, _CHOSEN.c.shard_id == batches.c.shard_id).order_by(batches.c.shard_id.desc())


def troubled(connection: Connection, workload_id: WorkloadId, *, limit: int) -> list[Batch]:
    """Read the batches with problems (ended other than completed, missing, or with errors), newest shard first."""
    return [_batch(row) for row in connection.execute(_TROUBLED, {"workload_id": workload_id, "most": limit})]
