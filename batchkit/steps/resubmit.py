"""resubmit: requests that must ride again are cut into new shards. Old shards never change."""

from __future__ import annotations

from contextlib import ExitStack
from typing import IO, TYPE_CHECKING, Self

from batchkit.errors import SpoolError, StateConflict
from batchkit.models import RequestState
from batchkit.spool import disk_errors
from batchkit.steps.context import StepReport
from batchkit.steps.shard_file import ShardFile
from batchkit.store import events, requests, shards, workloads
from batchkit.store.bulk import bulk_for

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from batchkit.models import ShardId, Workload, WorkloadId
    from batchkit.steps.context import StepContext
    from batchkit.store.requests import PendingRequest, ResubmitGroup

_OPEN_FILES = 64


def reopen(connection: Connection, workload: Workload, *, failed: bool, at: float) -> int:
    """Make cancelled requests, and with ``failed`` failed ones, pending again with fresh budgets: the user asked."""
    count = requests.reopen(connection, workload.id, RequestState.CANCELLED)
    if failed:
        count += requests.reopen(connection, workload.id, RequestState.FAILED)
    workloads.set_values(connection, workload.id, cancel_requested_at=None)
    events.record(connection, workload.id, "reopened", at=at, detail=f"{count} requests")
    return count


def next_due(connection: Connection, context: StepContext, workload_id: WorkloadId) -> float | None:
    """Say when pending requests are to be cut into shards; None when there are none.

    At once when they fill a shard or nothing else is under way; otherwise a little later, so that the returns of many
    batches share a shard.
    """
    earliest = requests.next_resubmit_due(connection, workload_id)
    if earliest is None:
        return None
    workload = workloads.get(connection, workload_id)
    if not shards.open_count(connection, workload_id):
        return earliest
    if requests.pending_count(connection, workload_id, at_most=workload.shard_lines) >= workload.shard_lines:
        return earliest
    last = shards.last_merged_at(connection, workload_id) or 0.0
    return max(earliest, last + context.timing.resubmit_linger_seconds)


def is_due(context: StepContext, workload_id: WorkloadId) -> bool:
    """Whether ``resubmit`` has something to cut now."""
    with context.store.read() as connection:
        due = next_due(connection, context, workload_id)
    return due is not None and due <= context.clock()


def resubmit(context: StepContext, workload_id: WorkloadId) -> StepReport:
    """Cut all pending requests that may ride now into new shards, under the terms that their last ride taught.

    Does nothing while another runner holds the workload's lease. Raises ``SpoolError`` when an old shard's file is gone.
    """
    with context.store.write() as connection:
        workload = workloads.get(connection, workload_id)
        if not workloads.take_lease(
            connection,
            workload_id,
            owner=context.owner,
            now=context.clock(),
            lease_seconds=context.timing.lease_seconds,
        ):
            return StepReport({})
        groups = requests.resubmit_groups(connection, workload_id, now=context.clock())
        paths = shards.paths(connection, workload_id)
    report = StepReport({})
    try:
        for group in groups:
            report += _cut_group(context, workload, group, paths)
    except StateConflict:
        return report
    finally:
        with context.store.write() as connection:
            workloads.release_lease(connection, context.owner)
    return report


def _cut_group(context: StepContext, workload: Workload, group: ResubmitGroup, paths: dict[ShardId, str]) -> StepReport:
    report = StepReport({})
    after_seq = -1
    with _Lines(context, paths) as lines:
        while True:
            with context.store.read() as connection:
                pending = requests.pending_after(
                    connection, workload.id, shard_ids=group.shard_ids, after_seq=after_seq, limit=group.lines
                )
            if not pending:
                return report
            cut = _cut_shard(context, workload, group, pending, lines)
            after_seq = pending[cut - 1].seq
            report += StepReport({"resubmitted": cut, "shards cut": 1})


def _cut_shard(
    context: StepContext, workload: Workload, group: ResubmitGroup, pending: list[PendingRequest], lines: _Lines
) -> int:
    """Make one shard of as many of the pending requests as fit; returns how many."""
    shard = ShardFile(
        context.spool,
        workload,
        endpoint=group.endpoint,
        window=group.window,
        max_lines=max(group.lines, 1),
        waits=group.waits,
    )
    try:
        for request in pending:
            line = lines.read(request)
            if not shard.has_room_for(line):
                break
            shard.add(request.seq, request.custom_id, line)
        shard.publish()
    except BaseException:
        shard.discard()
        raise
    try:
        _commit(context, workload, shard)
    except StateConflict:
        # After any other trouble the row may be there although the answer to its commit was lost, and needs its file.
        shard.discard()
        raise
    return len(shard.rows)


def _commit(context: StepContext, workload: Workload, shard: ShardFile) -> None:
    with context.store.write() as connection:
        if not workloads.holds_lease(connection, workload.id, context.owner):
            raise StateConflict(f"another runner resubmits {workload.name!r}")
        shard_id = shard.commit(connection, at=context.clock())
        moved = bulk_for(connection).move_to_shard(
            workload.id, shard_id, [(seq, offset, length) for seq, _, offset, length in shard.rows]
        )
        if moved != len(shard.rows):
            raise StateConflict("some of the requests are not pending any more")


class _Lines:
    """Reads request lines out of old shard files, a few of which stay open."""

    def __init__(self, context: StepContext, paths: dict[ShardId, str]) -> None:
        self._context = context
        self._paths = paths
        self._handles: dict[ShardId, IO[bytes]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def read(self, request: PendingRequest) -> bytes:
        """Read the request's line. Raises ``SpoolError``."""
        path = self._context.spool.path(self._paths[request.shard_id])
        with disk_errors("read", path):
            handle = self._handles.get(request.shard_id)
            if handle is None:
                if len(self._handles) >= _OPEN_FILES:
                    self._stack.close()
                    self._handles.clear()
                handle = self._handles[request.shard_id] = self._stack.enter_context(path.open("rb"))
            handle.seek(request.line_offset)
            line = handle.read(request.line_length)
        if len(line) != request.line_length:
            raise SpoolError(
                f"{path} is shorter than it was written",
                hint="put BATCHKIT_HOME back as it was, then run the same command again",
            )
        return line
