"""Recordings that a table's cells name as files of this machine: which may be sent, and what identifies them.

A file is sent as it is. One that the provider does not take is refused with the command that converts it: no conversion is guessed.
"""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from batchkit.annotation.image_files import ImageFolder, UnreadableImageFile
from batchkit.formatting import printable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from batchkit.provider.dialect import AudioUploads

#: What stands in place of a path.
ADDRESSES: Final = ("http://", "https://", "data:")
_LONGEST_SCHEME: Final = max(map(len, ADDRESSES))
_HEAD_BYTES: Final = 12
_SHOWN_CHARS: Final = 80
#: The smallest file of the formats that could hold a sound: the head of WAV, and one sample.
_LEAST_BYTES: Final = 45


class NoRecording(ValueError):
    """A file that is not sent; the message names it and the reason, and is safe for a terminal."""


def is_file_name(cell: Any) -> bool:
    """Return whether a cell names a file, and not an address."""
    return isinstance(cell, str) and bool(cell.strip()) and not cell[:_LONGEST_SCHEME].lower().startswith(ADDRESSES)


@dataclass(frozen=True, slots=True)
class RecordingFiles:
    """Checks the files that cells name, below ``files.folder``, against what the provider takes."""

    files: ImageFolder
    uploads: AudioUploads

    def named(self, cell: str) -> dict[str, Any]:
        """Return how a request names the file of a cell: by its path, its bytes and its SHA-256. Raises ``NoRecording``."""
        shown = printable(cell[: 2 * _SHOWN_CHARS], _SHOWN_CHARS)
        try:
            path = self.files.locate(cell)
            size = path.stat().st_size
            self._check_name(path, shown)
            self._check_size(path, shown, size)
            _check_content(path, shown)
            return {"path": str(path), "bytes": size, "sha256": digest_of(path)}
        except UnreadableImageFile as error:
            raise NoRecording(str(error)) from None
        except OSError as error:
            raise NoRecording(f"{shown} cannot be read: {error.strerror or error}") from None

    def _check_name(self, path: Path, shown: str) -> None:
        if not str(path).isprintable():
            raise NoRecording(f"{shown} has a name that is no text; rename the file")
        kind = path.suffix.lower().removeprefix(".")
        if kind not in self.uploads.kinds:
            kinds = ", ".join(self.uploads.kinds)
            raise NoRecording(f"{shown} is no {kinds} ({self.uploads.page}); {_converted(path)}")

    def _check_size(self, path: Path, shown: str, size: int) -> None:
        if size < _LEAST_BYTES:
            raise NoRecording(f"{shown} is empty" if not size else f"{shown} has {size} bytes, which hold no sound")
        if size > self.uploads.max_bytes:
            raise NoRecording(
                f"{shown} has {size:,} bytes; at most {self.uploads.max_bytes:,} are taken ({self.uploads.page}): cut it, give an "
                f"address, or make it smaller: {_converted(path)}"
            )


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex. A file is read once, as long as neither its size nor its time changes. Raises ``OSError``."""
    found = path.stat()
    return _digest(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=100_000)
def _digest(path: Path, _size: int, _changed: int) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def scan(cells: Iterable[Any], files: ImageFolder) -> tuple[str, int]:
    """Return a digest of all files that some cells name, empty without any, and how many bytes the largest has.

    What cannot be read counts as nothing: its row is reported when its request is made.
    """
    digest = hashlib.sha256()
    count = largest = 0
    for cell in cells:
        if not is_file_name(cell):
            continue
        try:
            path = files.locate(cell)
            largest = max(largest, path.stat().st_size)
            digest.update(digest_of(path).encode())
            count += 1
        except (UnreadableImageFile, OSError):
            digest.update(b"-")
    return (digest.hexdigest() if count else ""), largest


def _check_content(path: Path, shown: str) -> None:
    with path.open("rb") as handle:
        head = handle.read(_HEAD_BYTES)
    if not _is_media(head):
        raise NoRecording(f"{shown} is not audio that the provider takes, whatever its name says; {_converted(path)}")


def _is_media(head: bytes) -> bool:
    """Return whether a file begins as one of the formats: RIFF (wav), FLAC, Ogg, MP3, MP4, WebM or MPEG."""
    is_frame = head[0] == 0xFF and head[1] & 0xE0 == 0xE0  # noqa: PLR2004 - the sync bits of an MPEG audio frame
    return (
        is_frame
        or head.startswith((b"fLaC", b"OggS", b"ID3", b"\x1aE\xdf\xa3", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3"))
        or (head.startswith(b"RIFF") and head[8:12] == b"WAVE")
        or head[4:8] == b"ftyp"
    )


def _converted(path: Path) -> str:
    """Return the command of the documentation that converts a file, with its name."""
    source, target = (shlex.quote(one) for one in (path.name, f"{path.stem}.flac"))
    return f"convert it: ffmpeg -i {source} -ar 16000 -ac 1 -map 0:a -c:a flac {target}"
