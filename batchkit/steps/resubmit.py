"""resubmit: cut pending requests into new shards. Old shards never change."""

from __future__ import annotations

import os
from itertools import groupby
from operator import attrgetter
from typing import IO, TYPE_CHECKING, Self

from batchkit.answers.amend import amended
from batchkit.answers.rules import load_rules
from batchkit.errors import SpoolError, StateConflict
from batchkit.files import jsonl
from batchkit.files.spool import disk_errors
from batchkit.models import Lane
from batchkit.sharding import SYNC_SHARD_LINES
from batchkit.steps.context import StepReport
from batchkit.steps.shard_file import RequestLines, ShardFile
from batchkit.store import events, requests, shards, workloads
from batchkit.store.bulk import bulk_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.engine import Connection

    from batchkit.answers.rules import AnswerRules
    from batchkit.models import ShardId, Workload, WorkloadId
    from batchkit.steps.context import StepContext
    from batchkit.store.requests import PendingRequest, ResubmitGroup

_OPEN_FILES = 64
_PIECE_BYTES = 1 << 22
#: A commit waits for the disk, however little it writes.
_LINES_PER_COMMIT = 50_000
#: On the sync lane a small shard costs nothing, and its requests need not wait for others.
_SYNC_LINGER_SECONDS = 5.0


def reopen(connection: Connection, workload: Workload, *, failed: bool, at: float, was_finished: bool = False) -> int:
    """Make requests without an answer pending again with fresh budgets; return how many.

    Those are the cancelled ones, and those that expired or went missing; with ``failed`` all that failed. From now on the workload
    does not hold: what expires is sent again without being asked for. Requests whose lines are not known stay as they are.
    The deadline of one that ``was_finished`` was about its requests until then.
    """
    # First: a merge that still reads that the workload holds ends before its requests are read.
    workloads.set_values(connection, workload.id, cancel_requested_at=None, holds=False)
    if was_finished and workload.deadline is not None:
        lane = workload.lane if workload.drain_since is None else Lane.BATCH
        workloads.set_values(
            connection, workload.id, deadline=None, deadline_since=None, drain_since=None, lane=lane.value
        )
    count = requests.reopen(connection, workload.id, failed=failed)
    events.record(connection, workload.id, "reopened", at=at, detail=f"{count} requests")
    return count


def next_due(connection: Connection, context: StepContext, workload_id: WorkloadId) -> float | None:
    """Return when pending requests are to be cut into shards, in Unix seconds; None when none are pending.

    The time is now when they fill a shard or no other shard is open, otherwise a little later, so that requests of many batches
    share a shard.
    """
    earliest = requests.next_resubmit_due(connection, workload_id)
    if earliest is None:
        return None
    workload = workloads.get(connection, workload_id)
    if not shards.open_count(connection, workload_id, at_most=1):
        return earliest
    is_sync = workload.lane is Lane.SYNC
    whole = min(workload.shard_lines, SYNC_SHARD_LINES) if is_sync else workload.shard_lines
    if requests.pending_count(connection, workload_id, at_most=whole) >= whole:
        return earliest
    last = shards.last_merged_at(connection, workload_id) or 0.0
    linger_seconds = context.timing.resubmit_linger_seconds
    if is_sync:
        linger_seconds = min(linger_seconds, _SYNC_LINGER_SECONDS)
    return max(earliest, last + linger_seconds)


def is_due(context: StepContext, workload_id: WorkloadId) -> bool:
    """Return whether ``resubmit`` has something to cut now."""
    with context.store.read() as connection:
        due = next_due(connection, context, workload_id)
    return due is not None and due <= context.clock()


def resubmit(context: StepContext, workload_id: WorkloadId, *, window: str | None = None) -> StepReport:
    """Cut all pending requests that may be sent now into new shards, with the size and window of their last shard's merge.

    A ``window`` is that of all new batches.

    Does nothing while another runner holds the workload's lease. Raises ``SpoolError`` when an old shard's file is gone.
    """
    with context.store.write() as connection:
        workload = workloads.get(connection, workload_id)
        if workload.request_count is None or not workloads.take_lease(
            connection,
            workload_id,
            owner=context.owner,
            now=context.clock(),
            lease_seconds=context.timing.lease_seconds,
        ):
            return StepReport({})
        groups = requests.resubmit_groups(connection, workload_id, now=context.clock())
    report = StepReport({})
    try:
        for group in groups:
            report += _cut_group(context, workload, _terms_now(workload, group, window))
    except StateConflict:
        return report
    finally:
        with context.store.write() as connection:
            workloads.release_lease(connection, context.owner)
    return report


def _terms_now(workload: Workload, group: ResubmitGroup, window: str | None) -> ResubmitGroup:
    """Return a group with the lane and the window of now. Shards of the sync lane are small."""
    if workload.lane is not group.lane:
        lines = min(group.lines, SYNC_SHARD_LINES) if workload.lane is Lane.SYNC else workload.shard_lines
        group = group._replace(lane=workload.lane, lines=lines)
    return group if window is None else group._replace(window=window)


def _cut_group(context: StepContext, workload: Workload, group: ResubmitGroup) -> StepReport:
    report = StepReport({})
    after_seq = -1
    with OldShards(context, load_rules(workload.answer_rules)) as old:
        while made := _make_shards(context, workload, group, old, after_seq=after_seq):
            try:
                _commit(context, workload, made)
            except StateConflict:
                # After any other error the rows may be committed although the reply was lost; they need their files.
                _discard(made)
                raise
            after_seq = made[-1].seqs[-1]
            report += StepReport({"resubmitted": _line_count(made), "shards cut": len(made)})
    return report


def _make_shards(
    context: StepContext, workload: Workload, group: ResubmitGroup, old: OldShards, *, after_seq: int
) -> list[ShardFile]:
    """Write the files of the next shards, enough for one transaction; none when no request is pending."""
    made: list[ShardFile] = []
    try:
        while _line_count(made) < _LINES_PER_COMMIT:
            with context.store.read() as connection:
                pending = requests.pending_after(
                    connection, workload.id, shard_ids=group.shard_ids, after_seq=after_seq, limit=group.lines
                )
            if not pending:
                break
            shard = ShardFile(
                context.spool,
                workload,
                destination=group.destination,
                window=group.window,
                max_lines=max(group.lines, 1),
                waits=group.waits,
                lane=group.lane,
            )
            made.append(shard)
            # As many requests as fit.
            for lines in old.lines_of(pending):
                if shard.add(lines, 0, len(lines)) < len(lines):
                    break
            shard.publish()
            after_seq = shard.seqs[-1]
    except BaseException:
        _discard(made)
        raise
    return made


def _commit(context: StepContext, workload: Workload, made: Sequence[ShardFile]) -> None:
    with context.store.write() as connection:
        if not workloads.holds_lease(connection, workload.id, context.owner):
            raise StateConflict(f"another runner resubmits {workload.name!r}")
        bulk = bulk_for(connection)
        first_number = shards.next_number(connection, workload.id)
        for number, shard in enumerate(made, first_number):
            shard_id = shard.commit(connection, number=number, at=context.clock())
            moved = bulk.move_to_shard(
                workload.id, shard_id, list(zip(shard.seqs, shard.offsets, shard.lengths, strict=True))
            )
            if moved != len(shard.seqs):
                raise StateConflict("some of the requests are not pending any more")


def _discard(made: Sequence[ShardFile]) -> None:
    for shard in made:
        shard.discard()


def _line_count(made: Sequence[ShardFile]) -> int:
    return sum(len(shard.seqs) for shard in made)


class OldShards:
    """Reads request lines from old shard files, a few of which stay open.

    Lines of adopted files get the custom_id that their request has here. With ``rules``, a request whose last answer broke them is amended.
    """

    def __init__(self, context: StepContext, rules: AnswerRules | None) -> None:
        self._context = context
        self._rules = rules
        self._handles: dict[ShardId, IO[bytes]] = {}
        self._with_prefix: set[ShardId] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        for handle in self._handles.values():
            handle.close()

    def lines_of(self, pending: Sequence[PendingRequest]) -> Iterator[RequestLines]:
        """Read the requests' lines, in their order, some megabytes at a time. Raises ``SpoolError``."""
        breaches = self._breaches_of(pending)
        lines: list[bytes] = []
        size = start = 0
        for shard_id, requests_of_shard in groupby(pending, key=attrgetter("shard_id")):
            handle = self._open(shard_id)
            descriptor = handle.fileno()
            with disk_errors("read", handle.name):
                for request in requests_of_shard:
                    # With its newline: consecutive lines are a piece of the new file.
                    line = os.pread(descriptor, request.line_length + 1, request.line_offset)
                    if len(line) < request.line_length:
                        raise _too_short(handle.name)
                    if len(line) == request.line_length:
                        # The last line of an adopted file may have no end.
                        line += b"\n"
                    if shard_id in self._with_prefix:
                        line = _renamed(line, request.custom_id)
                    if self._rules is not None and (reason := breaches.get((shard_id, request.seq))):
                        line = amended(line, reason, self._rules, attempt_key=shard_id) + b"\n"
                    lines.append(line)
                    size += len(line)
                    if size >= _PIECE_BYTES:
                        yield _piece(pending[start : start + len(lines)], lines)
                        start += len(lines)
                        lines, size = [], 0
        if lines:
            yield _piece(pending[start:], lines)

    def _breaches_of(self, pending: Sequence[PendingRequest]) -> dict[tuple[ShardId, int], str]:
        if self._rules is None:
            return {}
        with self._context.store.read() as connection:
            return requests.breaches_of(connection, pending)

    def _open(self, shard_id: ShardId) -> IO[bytes]:
        handle = self._handles.pop(shard_id, None)
        if handle is None:
            if len(self._handles) >= _OPEN_FILES:
                self._handles.pop(next(iter(self._handles))).close()
            with self._context.store.read() as connection:
                shard = shards.get(connection, shard_id)
            if shard.id_prefix is not None:
                self._with_prefix.add(shard_id)
            handle = self._context.spool.open_shard(shard)
        # The most recently read file comes last; the least recently read one is closed first.
        self._handles[shard_id] = handle
        return handle


def _piece(pending: Sequence[PendingRequest], lines: list[bytes]) -> RequestLines:
    return RequestLines(
        [request.seq for request in pending],
        [request.custom_id for request in pending],
        [len(line) - 1 for line in lines],
        b"".join(lines),
    )


def _renamed(line: bytes, custom_id: str) -> bytes:
    """Return a line with another custom_id."""
    return jsonl.dumps({**jsonl.loads_exactly(line), "custom_id": custom_id}) + b"\n"


def _too_short(name: str) -> SpoolError:
    return SpoolError(
        f"{name} is shorter than it was written",
        hint="put BATCHKIT_HOME back as it was, then run the same command again",
    )
