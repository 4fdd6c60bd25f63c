"""Writing one shard: the file as it will be sent, and where each request lies in it."""

from __future__ import annotations

import hashlib
import os
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from batchkit.sharding import is_full
from batchkit.spool import disk_error, disk_errors, part_of
from batchkit.store import shards

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.engine import Connection

    from batchkit.models import ShardId, Workload, WorkloadId
    from batchkit.spool import Spool
    from batchkit.store.bulk import RequestRow


class ShardFile:
    """A shard in the making. ``add`` lines, then ``publish`` the file, then ``commit`` its row, or ``discard`` it all.

    A file that was published but whose row was never committed is a stray that nobody reads.
    """

    def __init__(
        self, spool: Spool, workload: Workload, *, endpoint: str, window: str, max_lines: int, waits: int = 0
    ) -> None:
        self._spool = spool
        self._workload = workload
        self.endpoint = endpoint
        self.window = window
        self.max_lines = max_lines
        self._waits = waits
        self.key = uuid.uuid4().hex
        self.relative_path = f"{workload.directory}/shards/{self.key}.jsonl"
        self.rows: list[RequestRow] = []
        self._path: Path = spool.path(self.relative_path)
        self._handle = spool.open_part(self._path)
        self._digest = hashlib.sha256()
        self._size = 0

    def has_room_for(self, line: bytes) -> bool:
        """Whether one more line keeps the shard within its limits."""
        return not is_full(
            lines=len(self.rows),
            size_bytes=self._size,
            next_bytes=len(line) + 1,
            max_lines=self.max_lines,
            max_bytes=self._workload.shard_bytes,
        )

    def add(self, seq: int, custom_id: str, line: bytes) -> None:
        """Append a request's line. Raises ``SpoolError``."""
        data = line + b"\n"
        try:
            self._handle.write(data)
        except OSError as error:
            raise disk_error("write", self._path, error) from error
        self._digest.update(data)
        self.rows.append((seq, custom_id, self._size, len(line)))
        self._size += len(data)

    def publish(self) -> None:
        """Sync the file to disk and give it its name. Raises ``SpoolError``."""
        with disk_errors("write", self._path):
            self._handle.flush()
            os.fsync(self._handle.fileno())
            self._handle.close()
        self._spool.publish(part_of(self._path), self._path)

    def commit(self, connection: Connection, *, at: float) -> ShardId:
        """Insert the shard's row; the caller's transaction also places its requests."""
        workload_id: WorkloadId = self._workload.id
        return shards.add(
            connection,
            workload_id=workload_id,
            number=shards.next_number(connection, workload_id),
            endpoint=self.endpoint,
            window=self.window,
            key=self.key,
            path=self.relative_path,
            sha256=self._digest.hexdigest(),
            line_count=len(self.rows),
            byte_count=self._size,
            first_seq=self.rows[0][0],
            last_seq=self.rows[-1][0],
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
