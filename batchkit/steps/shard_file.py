"""Writing one shard: its file as it will be sent, and the place of each request in it."""

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
from batchkit.models import Lane
from batchkit.store import shards

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sqlalchemy.engine import Connection

    from batchkit.files.spool import Spool
    from batchkit.models import Destination, ShardId, Workload, WorkloadId
    from batchkit.steps.disk_thread import DiskThread
    from batchkit.store.bulk import NewDigestedRequest, NewRequest


class RequestLines:
    r"""Lines of requests in ``data``, each ended by ``\n``; ``lengths`` are in bytes without it.

    ``digests`` say what is asked (see ``request_digests``); empty in a workload without reuse.
    """

    __slots__ = ("custom_ids", "data", "digests", "ends", "lengths", "seqs")

    def __init__(
        self,
        seqs: Sequence[int],
        custom_ids: Sequence[str],
        lengths: Sequence[int],
        data: bytes,
        digests: Sequence[bytes | None] = (),
    ) -> None:
        self.digests = digests
        self.seqs = seqs
        self.custom_ids = custom_ids
        self.lengths = lengths
        self.data = data
        self.ends = list(map(add, accumulate(lengths), range(1, len(lengths) + 1)))

    def __len__(self) -> int:
        return len(self.lengths)


class ShardFile:
    """A shard that is being written. ``add`` lines, ``publish`` the file, then ``commit`` its row, or ``discard`` all of it.

    A published file whose row was never committed is never read. With ``disk`` that thread writes the file, and must also
    ``publish`` it. The lists hold the requests' columns.
    """

    def __init__(
        self,
        spool: Spool,
        workload: Workload,
        *,
        destination: Destination,
        window: str,
        max_lines: int,
        waits: int = 0,
        lane: Lane = Lane.BATCH,
        disk: DiskThread | None = None,
    ) -> None:
        self._spool = spool
        self._workload = workload
        self.destination = destination
        self.window = window
        self.max_lines = max_lines
        self._waits = waits
        self._lane = lane
        self.key = uuid.uuid4().hex
        self.relative_path = f"{workload.directory}/shards/{self.key}.jsonl"
        self.seqs: list[int] = []
        self.custom_ids: list[str] = []
        self.offsets: list[int] = []
        self.lengths: list[int] = []
        self.digests: list[bytes | None] = []
        self._path: Path = spool.path(self.relative_path)
        self._handle = spool.open_part(self._path)
        self._disk = disk
        self._digest = hashlib.sha256()
        self._size = 0

    def add(self, lines: RequestLines, start: int, stop: int) -> int:
        """Append the lines from ``start`` to ``stop``, or as many as fit; return the index of the first one left.

        A shard takes at least one line. Raises ``SpoolError``.
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
        self.digests.extend(lines.digests[start:stop])
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

    def digested_rows(self, shard_id: ShardId) -> Iterator[NewDigestedRequest]:
        """Return the rows of the shard's requests with their digests."""
        return zip(self.seqs, self.custom_ids, repeat(shard_id), self.offsets, self.lengths, self.digests, strict=False)

    def publish(self) -> None:
        """Sync the file to disk and rename it. Raises ``SpoolError``."""
        with disk_errors("write", self._path):
            self._handle.flush()
            os.fsync(self._handle.fileno())
            self._handle.close()
        self._spool.publish(part_of(self._path), self._path)

    def commit(self, connection: Connection, *, number: int, at: float) -> ShardId:
        """Insert the shard's row; the caller's transaction also inserts or moves its requests."""
        workload_id: WorkloadId = self._workload.id
        return shards.add(
            connection,
            workload_id=workload_id,
            number=number,
            destination=self.destination,
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
            lane=self._lane,
            at=at,
        )

    def discard(self) -> None:
        """Delete the shard's files as far as possible: an error of the disk has already been raised."""
        # Closing writes the rest of the buffer, which a full disk refuses again.
        with suppress(OSError):
            self._handle.close()
        for path in (part_of(self._path), self._path):
            with suppress(OSError):
                path.unlink()
