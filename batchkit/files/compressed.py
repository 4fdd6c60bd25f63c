"""Reading files of lines from disk, decompressed.

The first bytes of a file show its compression; its name does not matter. Every problem with a file is an ``InputUnreadable``.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import stat
import zlib
from typing import TYPE_CHECKING, BinaryIO, Final

import zstandard

from batchkit.errors import InputUnreadable

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

BLOCK_BYTES: Final = 1 << 20
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
# A zstandard file may begin with a skippable frame: one of sixteen magic numbers that share their last three bytes
# (RFC 8878, section 3.1.2). pzstd writes them.
_SKIPPABLE_FIRST: Final = range(0x50, 0x60)
_SKIPPABLE_REST: Final = b"\x2a\x4d\x18"
MAGIC_BYTES: Final = 6
# Sizes and the block type of the zstandard format, RFC 8878, section 3.1.1.
_FRAME_HEADER_MIN_BYTES: Final = 6
_FRAME_HEADER_MAX_BYTES: Final = 18
_BLOCK_HEADER_BYTES: Final = 3
_CHECKSUM_BYTES: Final = 4
_RUN_BLOCK: Final = 1

# First bytes that no JSON line can have, what such a file is, and a hint.
_UNSUPPORTED: Final = (
    (b"PK\x03\x04", "a zip archive or a spreadsheet", "unpack it, or save the sheet as text"),
    (b"BZh", "compressed with bzip2", "unpack it, or compress it with gzip or zstandard"),
    (b"\xfd7zXZ\x00", "compressed with xz", "unpack it, or compress it with gzip or zstandard"),
    (b"\xff\xfe", "text in UTF-16", "save it as UTF-8"),
    (b"\xfe\xff", "text in UTF-16", "save it as UTF-8"),
)


def open_file(path: Path, *, instead: str = "pipe it in and name it -") -> BinaryIO:
    """Open a regular file unbuffered; ``instead`` is the hint for other files. Raises ``InputUnreadable``."""
    try:
        # Non-blocking, so that a named pipe is refused instead of waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise InputUnreadable(path, "there is no such file", "check the name and the working directory") from error
    except PermissionError as error:
        raise InputUnreadable(path, "permission denied", "let this user read it (chmod u+r)") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise InputUnreadable(path, f"cannot be opened: {reason}", "check the name") from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb", buffering=0)
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise InputUnreadable(path, "is a directory", "name the files in it")
    raise InputUnreadable(path, "is not a regular file and could be read only once", instead)


def compression_of(first: bytes) -> str | None:
    """Return the compression of a file by its first ``MAGIC_BYTES``: ``gzip``, ``zstandard``, or None."""
    if first.startswith(_GZIP_MAGIC):
        return "gzip"
    if first.startswith(_ZSTD_MAGIC) or _is_skippable(first):
        return "zstandard"
    return None


def _is_skippable(first: bytes) -> bool:
    return first[1:4] == _SKIPPABLE_REST and first[0] in _SKIPPABLE_FIRST


def check_file(path: Path, *, wanted: str = "JSON Lines", instead: str = "pipe it in and name it -") -> None:
    """Raise ``InputUnreadable`` for a file whose first bytes show that it is not ``wanted``."""
    with open_file(path, instead=instead) as file, reading(path):
        first = file.read(MAGIC_BYTES)
    for magic, what, hint in _UNSUPPORTED:
        if first.startswith(magic):
            raise InputUnreadable(path, f"is {what}, not {wanted}", hint)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise the errors of reading and decompressing as ``InputUnreadable``."""
    again = "make or fetch the file again"
    try:
        yield
    except EOFError as error:
        raise InputUnreadable(path, "is cut short: the compressed data has no end", again) from error
    except (gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        raise InputUnreadable(path, f"is damaged: {error}", again) from error
    except OSError as error:
        raise InputUnreadable(path, f"cannot be read: {error.strerror or error}", again) from error


def blocks_of(path: Path) -> Generator[bytes, None, None]:
    """Yield the decompressed bytes of a file in blocks of at most 1 MiB, none of them empty."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open_file(path))
        source: BinaryIO | gzip.GzipFile | zstandard.ZstdDecompressionReader = file
        with reading(path):
            compression = compression_of(file.read(MAGIC_BYTES))
            if compression == "zstandard":
                _check_frames(file)
            file.seek(0)
            if compression == "gzip":
                source = stack.enter_context(gzip.GzipFile(fileobj=file))
            elif compression == "zstandard":
                decompressor = zstandard.ZstdDecompressor()
                source = stack.enter_context(
                    decompressor.stream_reader(file, read_size=BLOCK_BYTES, read_across_frames=True),
                )
        while True:
            with reading(path):
                block = source.read(BLOCK_BYTES)
            if not block:
                return
            yield block


def _check_frames(source: BinaryIO) -> None:
    """Check that the last zstandard frame of a file is whole; raises ``EOFError`` when it is not.

    The decompressor reads a file that ends within a frame as a shorter file. Only headers are read here, a few bytes for each
    block of up to 128 KiB. Format: RFC 8878, section 3.1.
    """
    size = source.seek(0, os.SEEK_END)
    place = 0
    while place < size:
        source.seek(place)
        header = source.read(_FRAME_HEADER_MAX_BYTES)
        if len(header) < _FRAME_HEADER_MIN_BYTES:
            raise EOFError
        if _is_skippable(header):
            place += 8 + int.from_bytes(header[4:8], "little")
            continue
        # Padded, because a truncated header would raise another error; the size then shows the truncation.
        header = header.ljust(_FRAME_HEADER_MAX_BYTES, b"\0")
        parameters = zstandard.get_frame_parameters(header)
        place += zstandard.frame_header_size(header)
        is_last = False
        while not is_last and place + _BLOCK_HEADER_BYTES <= size:
            source.seek(place)
            block = int.from_bytes(source.read(_BLOCK_HEADER_BYTES), "little")
            is_last = bool(block & 1)
            # A run block stores one byte; its size field is the length of the run.
            place += _BLOCK_HEADER_BYTES + (1 if block >> 1 & 3 == _RUN_BLOCK else block >> 3)
        if not is_last:
            raise EOFError
        place += _CHECKSUM_BYTES if parameters.has_checksum else 0
    if place > size:
        raise EOFError
