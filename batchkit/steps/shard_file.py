"""Writing one shard: the file as it will be sent, and where each request lies in it."""

from __future__ import annotations

import hashlib
import os
import uuid
from bisect import bisect_right
from contextlib import suppress
from functools import partial
from itertools import accumulate, repeat
from operator import add
from typing import TYPE_CHECKING

from batchkit.files.spool import disk_error, disk_errors, part_of
from batchkit.store import shards

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sqlalchemy.engine import Connection

    from batchkit.files.spool import Spool
    from batchkit.models import ShardId, Workload, WorkloadId
    from batchkit.steps.disk_thread import DiskThread
    from batchkit.store.bulk import NewRequest


class RequestLines:
    r"""Requests' lines that follow each other in ``data``, each ended by ``\n``; ``lengths`` are in bytes without that."""

    __slots__ = ("custom_ids", "data", "ends", "lengths", "seqs")

    def __init__(self, seqs: Sequence[int], custom_ids: Sequence[str], lengths: Sequence[int], data: bytes) -> None:
        self.seqs = seqs
        self.custom_ids = custom_ids
        self.lengths = lengths
        self.data = data
        self.ends = list(map(add, accumulate(lengths), range(1, len(lengths) + 1)))

    def __len__(self) -> int:
        return len(self.lengths)


class ShardFile:
    """A shard in the making. ``add`` lines, then ``publish`` the file, then ``commit`` its row, or ``discard`` it all.

    A file that was published but whose row was never committed is a stray that nobody reads. With ``disk`` the file is written
    by that thread, which then also has to ``publish`` it. The lists hold the requests' columns.
    """

    def __init__(
        self,
        spool: Spool,
        workload: Workload,
        *,
        endpoint: str,
        window: str,
        max_lines: int,
        waits: int = 0,
        disk: DiskThread | None = None,
    ) -> None:
        self._spool = spool
        self._workload = workload
        self.endpoint = endpoint
        self.window = window
        self.max_lines = max_lines
        self._waits = waits
        self.key = uuid.uuid4().hex
        self.relative_path = f"{workload.directory}/shards/{self.key}.jsonl"
        self.seqs: list[int] = []
        self.custom_ids: list[str] = []
        self.offsets: list[int] = []
        self.lengths: list[int] = []
        self._path: Path = spool.path(self.relative_path)
        self._handle = spool.open_part(self._path)
        self._disk = disk
        self._digest = hashlib.sha256()
        self._size = 0

    def add(self, lines: RequestLines, start: int, stop: int) -> int:
        """Append the lines from ``start`` to ``stop``, or as many of them as fit; returns the first that is left.

        A shard takes one line at least. Raises ``SpoolError``.
        """
        stop = min(stop, start + self.max_lines - len(self.seqs))
        begin = lines.ends[start - 1] if start else 0
        limit = begin + self._workload.shard_bytes - self._size
        if stop > start and lines.ends[stop - 1] > limit:
            stop = bisect_right(lines.ends, limit, start, stop)
            if not self.seqs:
                stop = max(stop, start + 1)
        if stop == start:
            return start
        data = memoryview(lines.data)[begin : lines.ends[stop - 1]]
        if self._disk is None:
            self._write(data)
        else:
            self._disk.do(partial(self._write, data))
        self.offsets.append(self._size)
        self.offsets.extend(map((self._size - begin).__add__, lines.ends[start : stop - 1]))
        self.seqs.extend(lines.seqs[start:stop])
        self.custom_ids.extend(lines.custom_ids[start:stop])
        self.lengths.extend(lines.lengths[start:stop])
        self._size += len(data)
        return stop

    def _write(self, data: memoryview) -> None:
        try:
            self._handle.write(data)
        except OSError as error:
            raise disk_error("write", self._path, error) from error
        self._digest.update(data)

    def rows(self, shard_id: ShardId) -> Iterator[NewRequest]:
        """Return the rows of the shard's requests."""
        return zip(self.seqs, self.custom_ids, repeat(shard_id), self.offsets, self.lengths, strict=False)

    def publish(self) -> None:
        """Sync the file to disk and give it its name. Raises ``SpoolError``."""
        with disk_errors("write", self._path):
            self._handle.flush()
            os.fsync(self._handle.fileno())
            self._handle.close()
        self._spool.publish(part_of(self._path), self._path)

    def commit(self, connection: Connection, *, number: int, at: float) -> ShardId:
        """Insert the shard's row; the caller's transaction also places its requests."""
        workload_id: WorkloadId = self._workload.id
        return shards.add(
            connection,
            workload_id=workload_id,
            number=number,
            endpoint=self.endpoint,
            window=self.window,
            key=self.key,
            path=self.relative_path,
            sha256=self._digest.hexdigest(),
            line_count=len(self.seqs),
            byte_count=self._size,
            first_seq=self.seqs[0],
            last_seq=self.seqs[-1],
            next_lines=self.max_lines,
            next_window=self.window,
            waits=self._waits,
            at=at,
        )

    def discard(self) -> None:
        """Forget the shard and delete what was written of it, as far as the disk lets us: what it refused is told already."""
        # Closing writes what is still in the buffer, which a full disk refuses once more.
        with suppress(OSError):
            self._handle.close()
        for path in (part_of(self._path), self._path):
            with suppress(OSError):
                path.unlink()
