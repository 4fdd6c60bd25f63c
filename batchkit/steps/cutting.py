"""Cutting a checked input into shards: their files on the disk, and their rows in the database."""

from __future__ import annotations

from itertools import chain, groupby
from typing import TYPE_CHECKING

from batchkit import preflight
from batchkit.errors import StateConflict
from batchkit.models import Destination
from batchkit.steps.shard_file import RequestLines, ShardFile
from batchkit.store import shards, workloads
from batchkit.store.bulk import bulk_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batchkit.models import Workload
    from batchkit.steps.context import StepContext
    from batchkit.steps.disk_thread import DiskThread
    from batchkit.steps.input_check import CheckedBlock, InputCheck
    from batchkit.steps.reuse import SplitReuse


#: Few enough that reading ahead continues during a commit, and enough that small shards cost no more than large ones.
_ROWS_PER_COMMIT = 20_000
#: The digests of any 20,000 requests are in as many pages of the index of millions: with larger commits each page is written
#: less often.
_DIGESTS_PER_COMMIT = 100_000


def cut_shards(
    context: StepContext,
    workload: Workload,
    check: InputCheck,
    disk: DiskThread,
    reuse: SplitReuse | None = None,
) -> None:
    """Write the requests to shard files and insert both; one shard per destination is open, because a batch has one.

    With ``reuse``, requests that need not be sent are inserted only.

    Raises ``InputInvalid``, ``InputUnreadable`` and ``SpoolError``; and ``StateConflict`` when the lease was lost.
    """
    full = _FullShards(context, workload, disk, reuse)
    open_shards: dict[Destination, ShardFile] = {}

    def shard_for(destination: Destination) -> ShardFile:
        if destination not in open_shards:
            open_shards[destination] = ShardFile(
                context.spool,
                workload,
                destination=destination,
                window=workload.window,
                max_lines=workload.shard_lines,
                lane=workload.lane,
                disk=disk,
            )
        return open_shards[destination]

    try:
        for block in check.blocks():
            if reuse is None:
                seqs = range(block.first_seq, block.first_seq + len(block.lengths))
                lines, chosen = RequestLines(seqs, block.custom_ids, block.lengths, block.data), None
            else:
                lines, chosen = reuse.left_to_send(block)
            for destination, start, stop in _runs(block, chosen):
                while (start := shard_for(destination).add(lines, start, stop)) < stop:
                    full.add(open_shards.pop(destination))
            if reuse is not None and reuse.is_full:
                if reuse.has_many_followers:
                    for destination in list(open_shards):
                        full.add(open_shards.pop(destination))
                full.commit()
        for destination in list(open_shards):
            full.add(open_shards.pop(destination))
        full.commit()
    finally:
        # After an error pieces may still be running, and files of full shards may be open.
        disk.close()
        for shard in (*open_shards.values(), *full.uncommitted):
            shard.discard()


class _FullShards:
    """Full shards, committed together so that small shards cost no more than large ones."""

    def __init__(self, context: StepContext, workload: Workload, disk: DiskThread, reuse: SplitReuse | None) -> None:
        self._reuse = reuse
        self._context = context
        self._workload = workload
        self._disk = disk
        self._most_rows = _ROWS_PER_COMMIT if reuse is None else _DIGESTS_PER_COMMIT
        self.uncommitted: list[ShardFile] = []

    def add(self, shard: ShardFile) -> None:
        """Add a shard, and commit if there are enough rows. Raises as ``commit``."""
        self.uncommitted.append(shard)
        self._disk.do(shard.publish)
        if sum(len(shard.seqs) for shard in self.uncommitted) >= self._most_rows:
            self.commit()

    def commit(self) -> None:
        """Wait until the files are on the disk, then insert the shards. Raises ``SpoolError`` and ``StateConflict``."""
        self._disk.finish()
        with self._context.store.write() as connection:
            if not workloads.holds_lease(connection, self._workload.id, self._context.owner):
                raise StateConflict(f"another runner is splitting {self._workload.name!r}")
            first = shards.next_number(connection, self._workload.id)
            now = self._context.clock()
            ids = [
                shard.commit(connection, number=first + place, at=now) for place, shard in enumerate(self.uncommitted)
            ]
            committed = list(zip(ids, self.uncommitted, strict=True))
            bulk = bulk_for(connection)
            if self._reuse is None:
                rows = chain.from_iterable(shard.rows(shard_id) for shard_id, shard in committed)
                bulk.add_requests(self._workload.id, rows)
            else:
                digested = chain.from_iterable(shard.digested_rows(shard_id) for shard_id, shard in committed)
                bulk.add_digested_requests(self._workload.id, digested)
                self._reuse.insert(connection, committed)
        self.uncommitted.clear()


def _runs(block: CheckedBlock, chosen: Sequence[int] | None) -> Iterator[tuple[Destination, int, int]]:
    """Yield runs of lines with the same destination: (destination, first index, index after the last).

    Indexes count the ``chosen`` lines of the block (None: all of them).
    """
    count = len(block.lengths) if chosen is None else len(chosen)
    if not count:
        return
    if not block.endpoints and not block.line_models:
        yield Destination(preflight.PLAIN_ENDPOINT), 0, count
        return
    endpoints = block.endpoints or [preflight.PLAIN_ENDPOINT] * len(block.lengths)
    models: Sequence[str | None] = block.line_models or [None] * len(block.lengths)
    pairs = list(zip(endpoints, models, strict=True))
    stop = 0
    for pair, run in groupby(pairs if chosen is None else [pairs[place] for place in chosen]):
        start, stop = stop, stop + len(list(run))
        yield Destination(*pair), start, stop
