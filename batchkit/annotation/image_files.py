"""Image files that a table's cells name: which of them may be read, and how.

A table may come from a stranger, and the content of a named file is sent to the provider. So only regular files below one folder
are read, other files only by permission, and no file without end.
"""

from __future__ import annotations

import base64
import binascii
import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import unquote

from batchkit.formatting import printable

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

#: Larger files are not read.
MAX_FILE_BYTES: Final = 500_000_000
_SHOWN_CHARS: Final = 80
_PIECE_BYTES: Final = 1 << 20
#: The kernel's virtual files look regular; they hold secrets of processes, and some have no end.
_KERNEL_FOLDERS: Final = (Path("/proc"), Path("/sys"))
_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_OPEN_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
    # Otherwise a pipe that replaces the file between the check and the opening would wait for a writer.
    | getattr(os, "O_NONBLOCK", 0)
)
_WINDOWS_PATH: Final = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
#: The first characters of images in base64: JPEG, PNG, GIF, RIFF (WebP), BMP, TIFF.
_BASE64_IMAGES: Final = ("/9j/", "iVBORw0KGgo", "R0lGOD", "UklGR", "Qk", "SUkqA", "TU0AK")
_BASE64_LEAST_CHARS: Final = 64
#: Longer than the name of a file may be.
_BASE64_TEXT: Final = re.compile(r"[A-Za-z0-9+/]{256,}={0,2}")


class UnreadableImageFile(ValueError):
    """An image file that is not read; the message names the file and the reason, and is safe for a terminal."""


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """Reads the files that cells name; relative paths begin in ``folder``. ``what`` they are is for errors.

    Only files below it are read, after symbolic links are followed, unless ``allow_outside``.
    """

    folder: Path
    allow_outside: bool = False
    what: str = "an image"

    def read(self, cell: str) -> bytes:
        """Return the content of the file whose path or ``file:`` address a cell holds. Raises ``UnreadableImageFile``."""
        return self._of_file(cell, self._content)

    def locate(self, cell: str) -> Path:
        """Return the path, without symbolic links, of the regular file that a cell names. Raises ``UnreadableImageFile``."""
        return self._of_file(cell, self._checked)

    def _of_file(self, cell: str, act: Callable[[Path, str], T]) -> T:
        shown = printable(cell[: 2 * _SHOWN_CHARS], _SHOWN_CHARS)
        try:
            return act(self._resolved(cell, shown), shown)
        except UnreadableImageFile:
            raise
        except OSError as error:
            raise UnreadableImageFile(f"{shown} cannot be read: {_reason(error, cell)}") from None
        except UnicodeError:
            raise UnreadableImageFile(
                f"{shown} cannot be read: the path holds characters that no file name has"
            ) from None
        except ValueError:
            raise UnreadableImageFile(f"{shown} cannot be read: the path holds a NUL byte") from None

    def _resolved(self, cell: str, shown: str) -> Path:
        """Return the file that a path leads to, and check its folder."""
        path = Path(os.path.realpath(self.folder / _path_in(cell, shown), strict=True))
        if any(path.is_relative_to(folder) for folder in _KERNEL_FOLDERS):
            raise UnreadableImageFile(
                f"{shown} is not a file on a disk: it leads to {printable(str(path), _SHOWN_CHARS)}"
            )
        folder = os.path.realpath(self.folder)
        if not self.allow_outside and not path.is_relative_to(folder):
            raise UnreadableImageFile(
                f"{shown} leads out of the table's folder {printable(folder, _SHOWN_CHARS)}; "
                "put the file into it, or read files anywhere with --allow-paths"
            )
        return path

    def _checked(self, path: Path, shown: str) -> Path:
        self._check_regular(path.stat(), shown)
        return path

    def _content(self, path: Path, shown: str) -> bytes:
        # Opening a device can have effects, so the first check precedes it; the second one checks the opened file.
        self._check_regular(path.stat(), shown)
        descriptor = os.open(path, _OPEN_FLAGS)
        with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - the file is open already
            found = os.fstat(descriptor)
            self._check_regular(found, shown)
            content = file.read(found.st_size + 1)
            while len(content) <= MAX_FILE_BYTES and (piece := file.read(_PIECE_BYTES)):
                content += piece
        if len(content) > MAX_FILE_BYTES:
            raise UnreadableImageFile(f"{shown} has more than {MAX_FILE_BYTES:,} bytes")
        return content

    def _check_regular(self, found: os.stat_result, shown: str) -> None:
        if not stat.S_ISREG(found.st_mode):
            kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "something else")
            raise UnreadableImageFile(f"{shown} is {kind}; {self.what} is a regular file")
        if found.st_size > MAX_FILE_BYTES:
            raise UnreadableImageFile(f"{shown} has {found.st_size:,} bytes; at most {MAX_FILE_BYTES:,} are read")


def _path_in(cell: str, shown: str) -> str:
    """Return the path in a cell, which may be a ``file:`` address."""
    if cell[:5].lower() != "file:":
        scheme = _SCHEME.match(cell)
        if scheme is not None:
            raise UnreadableImageFile(f"{shown} is not a file: addresses of {scheme[1].lower()}: are not read")
        return cell
    rest = cell[5:]
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host.lower() not in {"", "localhost"}:
            raise UnreadableImageFile(
                f"{shown} names the machine {printable(host, _SHOWN_CHARS)}; write file:///FOLDER/FILE"
            )
        rest = slash + path
    path = unquote(rest, errors="surrogateescape")
    # file:///C:/photos is the path C:/photos.
    return path[1:] if os.name == "nt" and _WINDOWS_PATH.match(path[1:]) else path


def _reason(error: OSError, cell: str) -> str:
    reason = error.strerror or str(error)
    if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}:
        if _BASE64_TEXT.fullmatch("".join(cell.split())):
            return f'{reason} (this looks like base64; write "data:image/png;base64,..." or give bytes)'
        if _WINDOWS_PATH.match(cell):
            return f"{reason} (this is a path of Windows)"
        if cell.startswith("~"):
            return f"{reason} (~ is not replaced; write the whole path)"
    return reason


def is_base64_image(cell: str) -> bool:
    """Whether a text is an image in base64, by its first characters."""
    if len(cell) < _BASE64_LEAST_CHARS or not cell.startswith(_BASE64_IMAGES):
        return False
    try:
        return bool(base64.b64decode(cell[:_BASE64_LEAST_CHARS], validate=True))
    except binascii.Error:
        return False
