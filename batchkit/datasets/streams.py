"""Bytes of the user's files, decompressed as they come, with errors that name the file."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import pyarrow as pa

from batchkit.errors import InputUnreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_BLOCK_BYTES = 1 << 20
_MAGIC_BYTES = 6
_COMPRESSIONS = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"))
_UNSUPPORTED = (
    (b"PK\x03\x04", "a zip archive or a spreadsheet", "unpack it, or save the sheet as CSV"),
    (b"BZh", "compressed with bzip2", "unpack it, or compress it with gzip or zstandard"),
    (b"\xfd7zXZ\x00", "compressed with xz", "unpack it, or compress it with gzip or zstandard"),
    (b"\xff\xfe", "text in UTF-16", "save it as UTF-8"),
    (b"\xfe\xff", "text in UTF-16", "save it as UTF-8"),
)
_AGAIN = "make or fetch the file again"


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what reading and decompressing may raise into ``InputUnreadable``."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputUnreadable(path, "there is no such file", "check the name and the working directory") from error
    except PermissionError as error:
        raise InputUnreadable(path, "permission denied", "let this user read it (chmod u+r)") from error
    except (pa.ArrowException, OSError) as error:
        # Arrow writes where in its own source the trouble was noticed; that tells the user nothing.
        reason = (getattr(error, "strerror", None) or str(error)).partition(" Detail:")[0].rstrip(".")
        raise InputUnreadable(path, f"is damaged or cannot be read: {reason}", _AGAIN) from error


def check_file(path: Path) -> None:
    """Refuse what can be known to be unreadable without reading it. Raises ``InputUnreadable``."""
    with reading(path):
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise InputUnreadable(
                path, "is not a regular file and could be read only once", "save what it gives as a file"
            )
        if not os.access(path, os.R_OK):
            raise PermissionError


def first_bytes(path: Path) -> bytes:
    """Give what a file begins with, as it lies on disk. Raises ``InputUnreadable``."""
    with reading(path), path.open("rb") as handle:
        return handle.read(_MAGIC_BYTES)


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file of text; gzip and zstandard are told by the first bytes. Raises ``InputUnreadable``.

    Decompressed by Arrow, which notices a file that was cut short, also where the format has no length in it.
    """
    first = first_bytes(path)
    for magic, what, hint in _UNSUPPORTED:
        if first.startswith(magic):
            raise InputUnreadable(path, f"is {what}", hint)
    compression = next((name for magic, name in _COMPRESSIONS if first.startswith(magic)), None)
    with reading(path), pa.OSFile(os.fspath(path)) as file:
        source = file if compression is None else pa.CompressedInputStream(file, compression)
        with io.BufferedReader(source, _BLOCK_BYTES) as handle:
            yield handle


def digest_of(kind: str, paths: Sequence[Path]) -> str:
    """Digest the bytes of files in their order, whatever they are called. Raises ``InputUnreadable``."""
    digest = hashlib.sha256(kind.encode())
    for path in paths:
        with reading(path), path.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()
