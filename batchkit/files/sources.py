r"""Reading the user's input as raw lines: plain, gzip or zstandard, in one pass and in constant memory.

``scan`` counts and digests the *content* of an input, and ``read_lines`` cuts it into lines. The content is, file by file
in the given order, the decompressed bytes

- without a UTF-8 byte order mark at the start of a file, and
- with a ``\n`` added to each file that has bytes but does not end with one.

So the same requests have the same digest in one file or in several files cut between lines, compressed or not, with or
without a final newline. All other bytes count unchanged, for example carriage returns.

A line ends with ``\n`` and nothing else: U+2028, U+2029 and U+0085 are legal inside JSON strings. The first bytes of a file
show its compression; its name does not matter. Every problem with a file is an ``InputUnreadable``, found before the first
byte is returned if possible.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple, Protocol

from batchkit.errors import InputUnreadable, SpoolError, UsageError
from batchkit.files.compressed import (
    BLOCK_BYTES,
    MAGIC_BYTES,
    blocks_of,
    check_file,
    compression_of,
    open_file,
    reading,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

#: The default results file is named after the workload, and the name of a file has at most 255 bytes.
_LONGEST_NAME_BYTES: Final = 200
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


_ENDINGS: Final = re.compile(r"(\.(jsonl|ndjson|json))?(\.(gz|zst|zstd))?$", re.IGNORECASE)


def name_of(path: Path) -> str:
    """Return a file's name without the endings of JSON Lines and compression: the default name of its workload."""
    return _ENDINGS.sub("", path.name)


def check_name(name: str) -> str:
    """Return a workload's name without surrounding blanks. Raises ``UsageError`` unless it is printable, not empty and short."""
    short = name.strip()
    if not short or not short.isprintable():
        raise UsageError(f"{name!r} cannot be a workload's name", hint="give a short readable one (--name)")
    if len(short.encode()) > _LONGEST_NAME_BYTES:
        raise UsageError(
            f"a workload's name of {len(short):,} characters is too long", hint="give a short readable one (--name)"
        )
    return short


class Readable(Protocol):
    """A source of bytes: a file, ``sys.stdin.buffer``."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, none at the end."""
        ...


class Digest(Protocol):
    """A digest that ``read_lines`` updates with the content; for example an object of ``hashlib``."""

    def update(self, data: bytes, /) -> object:
        """Add bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Scan:
    """The number of lines and bytes of an input's content, and its SHA-256 in hexadecimal."""

    line_count: int
    byte_count: int
    sha256: str


class Block(NamedTuple):
    r"""Some whole lines of a file, each ended by ``\n``; ``file`` counts the files from 0."""

    file: int
    path: Path
    data: bytes


def scan(paths: Sequence[Path]) -> Scan:
    """Measure and digest the content of the files in one pass. Raises ``InputUnreadable``."""
    digest = hashlib.sha256()
    line_count = byte_count = 0
    for block in _content(paths):
        digest.update(block)
        line_count += block.count(b"\n")
        byte_count += len(block)
    return Scan(line_count, byte_count, digest.hexdigest())


def size_of(paths: Sequence[Path]) -> int:
    """Return the size of the files on disk in bytes; a file that cannot be found counts as 0."""
    total = 0
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            total += path.stat().st_size
    return total


def estimate_lines(paths: Sequence[Path]) -> int:
    """Return about how many lines the content has, from the first block of large plain files and all blocks of others.

    Raises ``InputUnreadable``.
    """
    return sum(_estimate(path, blocks) for path, blocks in _files(paths))


def _estimate(path: Path, blocks: Iterator[bytes]) -> int:
    with open_file(path) as file, reading(path):
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        is_plain = compression_of(file.read(MAGIC_BYTES)) is None
    first = next(blocks, b"")
    lines = first.count(b"\n")
    if not is_plain or not lines or size <= BLOCK_BYTES:
        return lines + sum(block.count(b"\n") for block in blocks)
    return max(round(size / len(first) * lines), lines)


def read_lines(
    paths: Sequence[Path],
    *,
    max_line_bytes: int,
    digest: Digest | None = None,
) -> Iterator[tuple[Path, int, bytes]]:
    r"""Yield every line as (file, line number in that file from 1, line without its end), in order.

    Yields as many lines as ``scan`` counts. Of a line longer than ``max_line_bytes`` only the first ``max_line_bytes + 1`` bytes
    are returned.
    """
    file = -1
    number = 0
    for block in read_blocks(paths, max_line_bytes=max_line_bytes, digest=digest):
        if block.file != file:
            file, number = block.file, 0
        # Iterating over a buffer makes one line at a time, which stays in the processor's cache; split() makes all lines of a
        # block and takes nearly twice as long.
        for number, line in enumerate(io.BytesIO(block.data), number + 1):  # noqa: B020 - it counts on
            yield block.path, number, line[:-1][: max_line_bytes + 1]


def read_blocks(
    paths: Sequence[Path],
    *,
    max_line_bytes: int,
    digest: Digest | None = None,
) -> Iterator[Block]:
    r"""Yield the content in blocks of whole lines, about a megabyte each, in order.

    One carriage return before a ``\n`` is dropped: files written on Windows end their lines with both. Otherwise lines are
    unchanged, including empty and blank ones.

    A line longer than ``max_line_bytes`` and than a block is never held whole: at least ``max_line_bytes + 1`` bytes of it are
    returned, and the next line follows.

    ``digest`` gets the bytes that ``scan`` digests, in blocks ahead of the lines: it is complete when the iterator is
    exhausted, and equals ``Scan.sha256`` if the files have not changed in between.

    Raises ``InputUnreadable`` at the first step for files that cannot be opened, later for damaged ones.
    """
    for file, (path, blocks) in enumerate(_files(paths)):
        for data in _whole_lines(_fed(blocks, digest), max_line_bytes):
            yield Block(file, path, data)


def spool_stdin(stream: Readable, directory: Path) -> Path:
    """Copy a stream to a file in ``directory`` and return its path; the file can be read more than once.

    The file is named by the SHA-256 of its bytes, so the same input makes the same file. It appears whole and synced to disk
    under that name or not at all: an interrupted copy leaves nothing, a killed one a ``.part`` file. Only its owner may read
    it. Raises ``InputUnreadable`` when the stream cannot be read, ``SpoolError`` when the file cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=directory, prefix="stdin-", suffix=".part")
            part = Path(name)
            # After the rename there is nothing left to remove.
            stack.callback(part.unlink, missing_ok=True)
            target = stack.enter_context(os.fdopen(descriptor, "wb", buffering=0))
            digest = hashlib.sha256()
            first = b""
            while block := _read_stream(stream):
                first += block[: MAGIC_BYTES - len(first)]
                digest.update(block)
                _write_all(target, block)
            os.fsync(target.fileno())
            suffix = {"gzip": ".jsonl.gz", "zstandard": ".jsonl.zst"}.get(compression_of(first) or "", ".jsonl")
            path = part.replace(directory / f"stdin-{digest.hexdigest()}{suffix}")
            _sync_directory(directory)
        except OSError as error:
            raise SpoolError(
                f"the input cannot be copied to {directory}: {error.strerror or error}",
                hint="free space there, or set BATCHKIT_HOME to a directory that can be written",
            ) from error
    return path


def _read_stream(stream: Readable) -> bytes:
    try:
        return stream.read(BLOCK_BYTES)
    except OSError as error:
        raise InputUnreadable(
            Path("-"),
            f"cannot be read: {error.strerror or error}",
            "give the input as a file",
        ) from error


def _write_all(target: BinaryIO, block: bytes) -> None:
    left = memoryview(block)
    while left:
        left = left[target.write(left) :]


def _sync_directory(directory: Path) -> None:
    """Sync a folder, so that a rename in it survives a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Content


def _content(paths: Sequence[Path]) -> Iterator[bytes]:
    for _, blocks in _files(paths):
        yield from blocks


def _files(paths: Sequence[Path]) -> Iterator[tuple[Path, Iterator[bytes]]]:
    """Yield each file with its content in blocks, after a check of all files: a wrong last name is found at once."""
    seen: set[tuple[int, int]] = set()
    for path in paths:
        check_file(path)
        found = path.stat()
        if (found.st_dev, found.st_ino) in seen:
            # Otherwise each of its custom_ids would be reported as used twice.
            raise InputUnreadable(path, "the same file is given twice", "name each file once")
        seen.add((found.st_dev, found.st_ino))
    for path in paths:
        yield path, _normal(blocks_of(path))


def _normal(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Remove the byte order mark of a file, and add a final newline if it lacks one."""
    first = b""
    # The first blocks of a compressed file may be as small as a byte.
    while len(first) < len(_BYTE_ORDER_MARK) and (block := next(blocks, b"")):
        first += block
    last = first.removeprefix(_BYTE_ORDER_MARK)
    if last:
        yield last
    for block in blocks:
        yield block
        last = block
    if last and not last.endswith(b"\n"):
        yield b"\n"


def _fed(blocks: Iterator[bytes], digest: Digest | None) -> Iterator[bytes]:
    if digest is None:
        yield from blocks
        return
    for block in blocks:
        digest.update(block)
        yield block


def _whole_lines(blocks: Iterable[bytes], max_line_bytes: int) -> Iterator[bytes]:
    r"""Cut content, which ends with ``\n`` or is empty, at ends of lines; see ``read_blocks``."""
    kept_bytes = max_line_bytes + 1
    held = bytearray()  # the start of a line whose end has not come
    for block in blocks:
        end = block.rfind(b"\n") + 1
        if end:
            if len(held) > kept_bytes:
                # A part of this line was dropped already: the rest of it is dropped as well.
                yield bytes(held[:kept_bytes]) + b"\n"
                lines = block[block.find(b"\n") + 1 : end]
            else:
                lines = b"".join((held, memoryview(block)[:end]))
            if lines:
                yield lines.replace(b"\r\n", b"\n") if b"\r" in lines else lines
            held = bytearray()
        # One byte more than is returned, because the last byte may be the carriage return of the line's end.
        held += block[end:][: kept_bytes + 1 - len(held)]
