"""Cutting a checked input into shards: their files on the disk, and their rows in the database."""

from __future__ import annotations

from itertools import chain, groupby
from typing import TYPE_CHECKING

from batchkit import preflight
from batchkit.errors import StateConflict
from batchkit.steps.shard_file import RequestLines, ShardFile
from batchkit.store import shards, workloads
from batchkit.store.bulk import bulk_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.models import Workload
    from batchkit.steps.context import StepContext
    from batchkit.steps.disk_thread import DiskThread
    from batchkit.steps.input_check import InputCheck
    from batchkit.steps.reuse import SplitReuse


#: Few enough that reading ahead continues during a commit, and enough that small shards cost no more than large ones.
_ROWS_PER_COMMIT = 20_000
#: The digests of any 20,000 requests are in as many pages of the index of millions: with larger commits each page is written
#: less often.
_DIGESTS_PER_COMMIT = 100_000


def cut_shards(
    context: StepContext, workload: Workload, check: InputCheck, disk: DiskThread, reuse: SplitReuse | None = None
) -> None:
    """Write the requests to shard files and insert both; one shard per endpoint is open, because a batch has one endpoint.

    With ``reuse``, requests that need not be sent are inserted only.

    Raises ``InputInvalid``, ``InputUnreadable`` and ``SpoolError``; and ``StateConflict`` when the lease was lost.
    """
    full = _FullShards(context, workload, disk, reuse)
    open_shards: dict[str, ShardFile] = {}

    def shard_for(endpoint: str) -> ShardFile:
        if endpoint not in open_shards:
            open_shards[endpoint] = ShardFile(
                context.spool,
                workload,
                endpoint=endpoint,
                window=workload.window,
                max_lines=workload.shard_lines,
                disk=disk,
            )
        return open_shards[endpoint]

    try:
        for block in check.blocks():
            if reuse is None:
                seqs = range(block.first_seq, block.first_seq + len(block.lengths))
                lines, endpoints = RequestLines(seqs, block.custom_ids, block.lengths, block.data), block.endpoints
            else:
                lines, endpoints = reuse.left_to_send(block)
            for endpoint, start, stop in _runs(endpoints, len(lines)):
                while (start := shard_for(endpoint).add(lines, start, stop)) < stop:
                    full.add(open_shards.pop(endpoint))
            if reuse is not None and reuse.is_full:
                if reuse.has_many_followers:
                    for endpoint in list(open_shards):
                        full.add(open_shards.pop(endpoint))
                full.commit()
        for endpoint in list(open_shards):
            full.add(open_shards.pop(endpoint))
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


def _runs(endpoints: list[str], count: int) -> Iterator[tuple[str, int, int]]:
    """Yield runs of ``count`` lines with the same endpoint: (endpoint, first index, index after the last)."""
    if not count:
        return
    if not endpoints:
        yield preflight.PLAIN_ENDPOINT, 0, count
        return
    stop = 0
    for endpoint, run in groupby(endpoints):
        start, stop = stop, stop + len(list(run))
        yield endpoint, start, stop
