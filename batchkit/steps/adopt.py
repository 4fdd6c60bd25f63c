"""adopt: make a workload of batches that something else created. Nothing is sent, and nothing is bought.

Each batch becomes a shard in ``submitted`` whose file is the batch's input, byte for byte; from there everything is ordinary. The
workload holds: what has no answer fails, until the user resubmits it. Everything is read and checked before anything is stored.
"""

from __future__ import annotations

import codecs
import hashlib
import uuid
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from batchkit import formatting
from batchkit.errors import SpoolError, StateConflict, WorkloadConflict
from batchkit.files.compressed import blocks_of
from batchkit.files.spool import directory_name, disk_errors, sha256_of
from batchkit.models import IMPORTED, Batch, BatchId, FileId, ShardState
from batchkit.preflight.findings import describe
from batchkit.steps import unfinished
from batchkit.steps.adopted_index import AdoptedBatch, AdoptedIndex, request_lines, unknown_ids
from batchkit.steps.answer_files import answers_path
from batchkit.steps.split import check_provider
from batchkit.store import adopted_shards, batches, placements, workloads
from batchkit.store.bulk import bulk_for
from batchkit.store.engine import keeps_alive
from batchkit.store.placements import Placement

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy.engine import Connection

    from batchkit.models import ShardId, Workload
    from batchkit.steps.context import StepContext
    from batchkit.steps.split import SplitDefaults, SplitOptions

_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Adoption:
    """What is adopted: the batches in the order of their creation, and the index of their requests, which is checked."""

    adopted: Sequence[AdoptedBatch]
    index: AdoptedIndex


def find_adopted(context: StepContext, name: str, ids: Sequence[BatchId]) -> Workload | None:
    """Return the workload that was made of these batches before under this name; None when there is none, or an unfinished one.

    Raises ``WorkloadConflict`` when the name, or one of the batches, belongs to another workload.
    """
    with context.store.read() as connection:
        workload = workloads.find(connection, name)
        is_whole = workload is not None and workload.request_count is not None
        if workload is not None and is_whole:
            check_provider(workload, context.provider.dialect.name)
            if set(adopted_shards.batch_ids(connection, workload.id)) == set(ids):
                return workload
        for batch_id in ids:
            _check_unheld(connection, batch_id, name)
    if workload is not None and is_whole:
        raise WorkloadConflict(
            f"workload {name!r} exists already, and was made of {workload.source}", hint="choose another --name"
        )
    return None


def prepare(context: StepContext, adopted: Sequence[AdoptedBatch], *, separate: bool) -> Adoption:
    """Read and check the batches' files. Raises ``UsageError``; nothing is stored."""
    in_order = sorted(adopted, key=lambda one: one.batch.created_at or 0)
    with context.store.read() as connection:
        for one in in_order:
            # Our own batch may exist although its creation was not answered: then only its file shows whose it is.
            owner = one.batch.input_file_id and batches.creator_of(connection, one.batch.input_file_id)
            if owner:
                raise _held(one.batch.id, owner)
    index = AdoptedIndex(in_order, rules=context.provider.dialect.rules, separate=separate)
    index.check()
    return Adoption(in_order, index)


def adopt(
    context: StepContext, adoption: Adoption, *, name: str, options: SplitOptions, defaults: SplitDefaults
) -> Workload | None:
    """Make the workload; None while another runner makes one of this name. Raises ``WorkloadConflict`` and ``SpoolError``."""
    ids = [one.batch.id for one in adoption.adopted]

    def add(connection: Connection) -> bool:
        lines = max(one.batch.counts.total for one in adoption.adopted)
        return workloads.add(
            connection,
            name=name,
            source=options.source or _source(ids),
            directory=directory_name(name, uuid.uuid4().hex[:8]),
            provider=defaults.dialect.name,
            window=options.window or defaults.window,
            max_window=options.max_window or defaults.max_window,
            shard_lines=options.shard_lines or defaults.shard_lines or defaults.dialect.limits.default_lines(lines),
            shard_bytes=options.shard_bytes or defaults.shard_bytes,
            policy=defaults.policy(options),
            at=context.clock(),
            is_adopted=True,
        )

    workload = unfinished.begin(context, name, add)
    if workload is None:
        return None
    writer = _Writer(context, workload, adoption, defaults)
    try:
        for place in range(len(adoption.adopted)):
            writer.write(place)
    except StateConflict:
        with suppress(SpoolError):
            context.spool.remove_tree(workload.directory)
        return None
    except BaseException:
        unfinished.abandon(context, workload)
        raise
    with context.store.write() as connection:
        if not workloads.holds_lease(connection, workload.id, context.owner):
            return None
        digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()
        workloads.finish_split(
            connection, workload.id, sha256=digest, request_count=writer.request_count, at=context.clock()
        )
        workloads.release_lease(connection, context.owner)
        return workloads.get(connection, workload.id)


class _Writer:
    """Writes the batches of an adoption, each in one transaction; ``request_count`` counts their requests so far."""

    def __init__(self, context: StepContext, workload: Workload, adoption: Adoption, defaults: SplitDefaults) -> None:
        self._context = context
        self._workload = workload
        self._adoption = adoption
        self._defaults = defaults
        self._first: dict[str, Placement] = {}
        self._placed: set[str] = set()
        self.request_count = 0

    def write(self, place: int) -> None:
        """Write the files of a batch, and then its rows. Raises ``StateConflict`` when the lease is lost."""
        one = self._adoption.adopted[place]
        key = uuid.uuid4().hex
        path = None
        if one.requests is not None:
            path = f"{self._workload.directory}/shards/{key}.jsonl"
            self._context.spool.keep(one.requests, path)
        if one.batch.status == IMPORTED:
            for kind, source in zip(("output", "error"), one.answers, strict=True):
                self._context.spool.keep(source, answers_path(self._workload, key, kind))
        with self._context.store.write() as connection:
            if not workloads.holds_lease(connection, self._workload.id, self._context.owner):
                raise StateConflict(f"another runner makes the workload {self._workload.name!r}")
            _check_unheld(connection, one.batch.id, self._workload.name)
            shard_id = self._add_shard(connection, place, key, path)
            batches.add(
                connection,
                one.batch,
                workload_id=self._workload.id,
                shard_id=shard_id,
                seen_at=self._context.clock(),
            )
            self._add_requests(connection, place, shard_id)

    def _add_shard(self, connection: Connection, place: int, key: str, path: str | None) -> ShardId:
        one = self._adoption.adopted[place]
        return adopted_shards.add(
            connection,
            workload_id=self._workload.id,
            number=place + 1,
            state=ShardState.ENDED if one.batch.status == IMPORTED else ShardState.SUBMITTED,
            destination=self._adoption.index.destination(place),
            window=_window(one.batch, self._workload, self._defaults),
            key=key,
            path=path,
            sha256=None if one.requests is None else sha256_of(one.requests),
            id_prefix=self._adoption.index.prefix(place) or None,
            byte_count=0 if one.requests is None else one.requests.stat().st_size,
            input_file_id=one.batch.input_file_id,
            batch_id=one.batch.id,
            next_lines=self._workload.shard_lines,
            at=self._context.clock(),
        )

    def _add_requests(self, connection: Connection, place: int, shard_id: ShardId) -> None:
        """Insert the requests that no earlier batch has, and the lines of those that several batches have."""
        bulk, keep_alive = bulk_for(connection), keeps_alive(connection)
        lines = self._adoption.index.lines(place)
        count = 0
        seqs: list[int] = []
        while some := list(islice(lines, _ROWS_AT_ONCE)):
            keep_alive()
            rows, placed = [], []
            for line, custom_id, is_shared in some:
                first = self._first.get(custom_id) if is_shared else None
                seq = self.request_count if first is None else first.seq
                here = Placement(shard_id, seq, line.offset, line.length)
                if first is None:
                    rows.append((seq, custom_id, shard_id, line.offset, line.length))
                    self.request_count += 1
                    if is_shared:
                        self._first[custom_id] = here
                else:
                    if custom_id not in self._placed:
                        self._placed.add(custom_id)
                        placed.append(first)
                    placed.append(here)
                seqs = [min([*seqs[:1], seq]), max([*seqs[1:], seq])]
            bulk.add_requests(self._workload.id, rows)
            placements.add(connection, placed)
            count += len(rows)
        adopted_shards.set_lines(connection, shard_id, count=count, first_seq=seqs[0], last_seq=seqs[1])


def files_as_batch(outputs: Sequence[Path], errors: Sequence[Path], folder: Path) -> tuple[Batch, tuple[Path, Path]]:
    """Return files of answers as a batch that is known from them alone, with its two files in ``folder``. Raises ``InputUnreadable``."""
    joined = (folder / "output.jsonl", folder / "error.jsonl")
    for target, sources in zip(joined, (outputs, errors), strict=True):
        copy_content(sources, target)
    digest = hashlib.sha256("".join(map(sha256_of, joined)).encode()).hexdigest()
    named = (FileId("output"), FileId("error"))
    return Batch(BatchId(f"files-{digest[:24]}"), IMPORTED, output_file_id=named[0], error_file_id=named[1]), joined


def copy_content(sources: Sequence[Path], target: Path) -> None:
    """Write the decompressed content of some files to one, without byte order marks. Raises ``InputUnreadable`` and ``SpoolError``."""
    with disk_errors("write", target), target.open("wb") as handle:
        for source in sources:
            last = b""
            for block in blocks_of(source):
                handle.write(block if last else block.removeprefix(codecs.BOM_UTF8))
                last = block
            if len(sources) > 1 and last and not last.endswith(b"\n"):
                handle.write(b"\n")


def why_not_requests(path: Path, batch: Batch, answers: Sequence[Path]) -> str | None:
    """Return why a file cannot hold the requests of a batch; None if it may."""
    lines = sum(1 for _ in request_lines(path))
    if batch.counts.total and lines != batch.counts.total:
        return f"it has {formatting.counted(lines, 'request')}, and the batch has {batch.counts.total:,}"
    unknown, first = unknown_ids(path, answers)
    if unknown:
        return f"{formatting.counted(unknown, 'answer')} of the batch have a custom_id that it lacks, {describe(first)} for one"
    return None


def _check_unheld(connection: Connection, batch_id: BatchId, name: str) -> None:
    holder = batches.holder_of(connection, batch_id)
    if holder is not None and holder.workload_name != name:
        raise _held(batch_id, holder.workload_name)


def _held(batch_id: BatchId, name: str) -> WorkloadConflict:
    return WorkloadConflict(
        f"batch {batch_id} belongs to workload {name!r} already", hint=f"`batchkit status {name}` shows it"
    )


def _source(ids: Sequence[BatchId]) -> str:
    more = f" and {len(ids) - 3:,} more" if len(ids) > 3 else ""  # noqa: PLR2004 - a few show what it is
    noun = "batch" if len(ids) == 1 else "batches"
    return f"{noun} {', '.join(ids[:3])}{more}"


def _window(batch: Batch, workload: Workload, defaults: SplitDefaults) -> str:
    """Return the window in which requests of a batch are sent again first: its own, if the provider has such a one."""
    try:
        defaults.dialect.windows.hours(batch.completion_window)
    except ValueError:
        return workload.window
    return batch.completion_window
