"""Bodies of single calls: a file that is read as it is sent, and replies that are read in decoded pieces."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from batchkit.provider.multipart import FileForm
from batchkit.provider.reading import TooLong, decoded, is_readable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from http.client import HTTPResponse
    from pathlib import Path

_PIECE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class FileBody:
    """A multipart/form-data body with ``fields`` and one file, which is read from the disk at each call, so that a call can be repeated."""

    source: Path
    fields: Sequence[tuple[str, str]]
    field: str = "file"
    filename: str

    @contextlib.contextmanager
    def opened(self) -> Iterator[FileForm]:
        """Open the file. Raises ``OSError``."""
        with self.source.open("rb") as handle:
            yield FileForm(handle, fields=self.fields, field=self.field, filename=self.filename)


class Unreadable(Exception):
    """A reply whose body cannot be read completely."""


class BodyUnread(OSError):
    """``error`` happened when the file of a body was read: it is not the network's."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


@contextlib.contextmanager
def reading_body() -> Iterator[None]:
    """Raise ``BodyUnread`` for an ``OSError`` within the block."""
    try:
        yield
    except OSError as error:
        raise BodyUnread(error) from None


def pieces_of_file(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the pieces of a body. Raises ``BodyUnread``."""
    iterator = iter(pieces)
    while True:
        with reading_body():
            piece = next(iterator, None)
        if piece is None:
            return
        yield piece


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A body of which ``decoded`` makes pieces."""

    headers: Mapping[str, str]
    response: HTTPResponse

    def iter_raw(self) -> Iterator[bytes]:
        while piece := self.response.read(_PIECE_BYTES):
            yield piece


def pieces_of_reply(response: HTTPResponse, headers: Mapping[str, str], *, most: int) -> Iterator[bytes]:
    """Yield the decoded body. Raises ``TooLong``, ``Unreadable`` when its end is missing, and the errors of reading."""
    encoded = _Encoded(headers, response)
    if not is_readable(encoded):
        raise Unreadable(f"its encoding ({headers['content-encoding'][:20]}) is unknown")
    size = 0
    try:
        for piece in decoded(encoded):
            size += len(piece)
            if size > most:
                raise TooLong(f"its body has more than {most:,} bytes")
            yield piece
    except httpx.DecodingError as error:
        raise Unreadable(str(error)) from None
    if response.length:
        raise Unreadable(f"{response.length:,} bytes of its body are missing")
