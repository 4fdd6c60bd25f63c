"""The bytes of the user's tables, decompressed as they are read, with errors that name the file."""

from __future__ import annotations

import hashlib
import io
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final

import pyarrow as pa

from batchkit.errors import InputUnreadable
from batchkit.files import compressed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from _typeshed import WriteableBuffer

#: The endings of compressed text files.
COMPRESSED: Final = (".gz", ".zst", ".zstd")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Convert errors of reading, decompressing and Arrow into ``InputUnreadable``."""
    with compressed.reading(path):
        try:
            yield
        except pa.ArrowException as error:
            # Arrow adds the place in its own source, which does not help the user.
            reason = str(error).partition(" Detail:")[0].rstrip(".")
            raise InputUnreadable(
                path, f"is damaged or cannot be read: {reason}", "create or download the file again"
            ) from error


def check_file(path: Path) -> None:
    """Refuse a file that is unreadable by its first bytes. Raises ``InputUnreadable``."""
    compressed.check_file(path, wanted="a table", instead="save its output as a file")


def without_compression(path: Path) -> Path:
    """Return the path without the ending of a compressed file."""
    return path.with_suffix("") if path.suffix.lower() in COMPRESSED else path


def first_bytes(path: Path) -> bytes:
    """Return the first bytes of a file as they are on disk. Raises ``InputUnreadable``."""
    with compressed.open_file(path) as file, reading(path):
        return file.read(compressed.MAGIC_BYTES)


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a text file; gzip and zstandard are recognised by the first bytes. Raises ``InputUnreadable``."""
    with io.BufferedReader(_Decompressed(path), compressed.BLOCK_BYTES) as handle:
        yield handle


class _Decompressed(io.RawIOBase):
    """A file's decompressed bytes as a raw stream."""

    def __init__(self, path: Path) -> None:
        self._blocks = compressed.blocks_of(path)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        target = memoryview(buffer)
        self._left = self._left or memoryview(next(self._blocks, b""))
        count = min(len(target), len(self._left))
        target[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def close(self) -> None:
        self._blocks.close()
        super().close()


def digest_of(kind: str, paths: Sequence[Path]) -> str:
    """Return a digest of the files' bytes in order; their names do not count. Raises ``InputUnreadable``."""
    digest = hashlib.sha256(kind.encode())
    for path in paths:
        with reading(path), path.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()
