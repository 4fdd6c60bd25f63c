"""A downloaded file that appears complete or not at all: written to a neighbour, synced, then renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from batchkit.errors import SpoolError
from batchkit.models import Download

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path
    from types import TracebackType
    from typing import Self

_BLOCK_BYTES = 1 << 19
#: When more blocks wait for the disk, the transfer waits, so that memory does not grow.
_BLOCKS_BEHIND = 4
_HINTS = {
    errno.ENOSPC: "free some space; the same command resumes",
    errno.EDQUOT: "the disk quota is used up; free some space; the same command resumes",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "the folder must be writable for this user",
    errno.EPERM: "the folder must be writable for this user",
    errno.ENOENT: "the folder is gone; is the spool still there?",
}


class AtomicDownload:
    """Writes the bytes of one file. Without ``commit``, the end of the ``with`` block deletes the file.

    The temporary neighbour ends in ``.part`` and has a unique name, so that two runners that fetch the same file do not
    collide. Blocks are written and digested in a thread, so that receiving does not wait for them; a file of less than a block
    needs no thread. Every method raises ``SpoolError`` for an error of the disk, at the next call at the latest.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        self._sha256 = hashlib.sha256()
        self._block = bytearray()
        self._writer: ThreadPoolExecutor | None = None
        self._behind: deque[Future[None]] = deque()
        self._is_committed = False
        self.size_bytes = 0
        try:
            # For the owner only, whatever the umask and the folder's permissions: answers may be confidential.
            descriptor = os.open(self._part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            self._handle = os.fdopen(descriptor, "wb")
        except OSError as error:
            raise _spool_error(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.shutdown(cancel_futures=True)
        if self._is_committed:
            return
        # An error is being raised already; a second error of the disk would hide it.
        with contextlib.suppress(OSError):
            self._handle.close()
        with contextlib.suppress(OSError):
            self._part.unlink()

    def write(self, chunk: bytes) -> None:
        """Append ``chunk``."""
        self._block += chunk
        self.size_bytes += len(chunk)
        if len(self._block) < _BLOCK_BYTES:
            return
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="batchkit-download")
        block, self._block = self._block, bytearray()
        self._behind.append(self._writer.submit(self._write_block, block))
        self._catch_up(_BLOCKS_BEHIND)

    def commit(self) -> Download:
        """Sync the bytes to the disk, rename the file, and sync the folder so that the name survives a power cut."""
        self._catch_up(0)
        try:
            self._write_block(self._block)
            self._handle.flush()
            os.fsync(self._handle.fileno())
            self._handle.close()
            self._part.replace(self._path)
            _sync_folder(self._path.parent)
        except OSError as error:
            raise _spool_error(self._path, error) from error
        self._is_committed = True
        return Download(path=self._path, size_bytes=self.size_bytes, sha256=self._sha256.hexdigest())

    def _write_block(self, block: bytearray) -> None:
        self._handle.write(block)
        self._sha256.update(block)

    def _catch_up(self, blocks: int) -> None:
        """Wait until at most ``blocks`` blocks wait to be written."""
        try:
            while len(self._behind) > blocks:
                self._behind.popleft().result()
        except OSError as error:
            raise _spool_error(self._path, error) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder; the file itself is safe.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(descriptor)


def _spool_error(path: Path, error: OSError) -> SpoolError:
    return SpoolError(
        f"{path} cannot be written: {error.strerror or error}",
        hint=_HINTS.get(error.errno or 0, "check the disk, then run the same command again"),
    )
