"""Reading the body of a reply in decoded pieces, so that a compressed body cannot fill the memory."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: The encodings that a request accepts; other encodings are not decoded.
ENCODINGS = "gzip, deflate"

_PIECE_BYTES = 1 << 20
#: As many values as JSON has, or a few more: those in strings count too.
_SIGNS_OF_VALUES = (b",", b"[", b"{")
_KNOWN_ENCODINGS = frozenset({"gzip", "x-gzip", "deflate"})
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
_NO_HEADER = -zlib.MAX_WBITS


class RawReply(Protocol):
    """A reply whose body is still to be read: one of HTTPX, or of a client of our own. Names of ``headers`` are in lower case."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers."""
        ...

    def iter_raw(self) -> Iterator[bytes]:
        """Yield the body as it arrives, still encoded."""
        ...


class TooLong(Exception):
    """Inside this package: a body is too long to be held in memory, or its JSON would be; the message says what it exceeds."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply that was read completely; ``content`` is decoded. Its ``repr`` shows neither headers nor content."""

    status: int
    headers: httpx.Headers = field(repr=False)
    content: bytes = field(repr=False)

    @property
    def is_success(self) -> bool:
        """Return whether the status is one of 200 to 299."""
        return self.status // 100 == 2  # noqa: PLR2004 - RFC 9110, section 15.3

    @property
    def redirect_target(self) -> str | None:
        """Return the target of a redirect; None for any other reply."""
        return self.headers.get("location") if self.status // 100 == 3 else None  # noqa: PLR2004 - RFC 9110, section 15.4


def read_whole(response: httpx.Response, *, max_bytes: int, max_values: int) -> Reply:
    """Read a reply into memory. Raises ``TooLong`` and ``httpx.RequestError``.

    A body is too long with more than ``max_bytes``, counted decoded, or more than about ``max_values`` JSON values.
    """
    content = bytearray()
    for piece in decoded(response) if is_readable(response) else response.iter_raw():
        content += piece
        if len(content) > max_bytes:
            raise TooLong(f"{max_bytes:,} bytes")
    check_values(content, max_values=max_values)
    return Reply(response.status_code, response.headers, bytes(content))


def check_values(content: bytes | bytearray, *, max_values: int) -> None:
    """Raise ``TooLong`` when the JSON of ``content`` has more than about ``max_values`` values."""
    if sum(map(content.count, _SIGNS_OF_VALUES)) > max_values:
        raise TooLong(f"{max_values:,} JSON values")


def is_readable(response: RawReply) -> bool:
    """Return whether the body has an encoding that ``decoded`` knows, or none."""
    encodings = _encodings(response)
    return not encodings or (len(encodings) == 1 and encodings[0] in _KNOWN_ENCODINGS)


def decoded(response: RawReply) -> Iterator[bytes]:
    """Yield the body as it arrives, decoded, in pieces of at most a megabyte. Raises ``httpx.RequestError``."""
    if not _encodings(response):
        yield from response.iter_raw()
        return
    decoder = zlib.decompressobj(_GZIP_OR_ZLIB)
    is_begun = False
    for raw in response.iter_raw():
        data, piece = raw, b""
        # After a full piece the decoder may hold more output, even without further input.
        while not decoder.eof and (data or len(piece) == _PIECE_BYTES):
            try:
                piece = decoder.decompress(data, _PIECE_BYTES)
            except zlib.error as error:
                if is_begun:
                    raise httpx.DecodingError(str(error)) from error
                # Some servers send "deflate" streams without the zlib header.
                decoder, is_begun = zlib.decompressobj(_NO_HEADER), True
                continue
            is_begun = True
            data = decoder.unconsumed_tail
            yield piece
    if is_begun and not decoder.eof:
        raise httpx.DecodingError("the encoded body ends too early")


def _encodings(response: RawReply) -> list[str]:
    names = response.headers.get("content-encoding", "").lower().split(",")
    return [name.strip() for name in names if name.strip() not in {"", "identity"}]
