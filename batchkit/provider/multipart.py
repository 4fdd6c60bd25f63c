"""A multipart/form-data body (RFC 7578) with one file, generated while it is sent: its length is known, its bytes are not held."""

from __future__ import annotations

import os
import secrets
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Small enough to notice a slow server within minutes: the speed is measured between chunks.
_CHUNK_BYTES = 1 << 18
# Browsers escape names in this way (HTML, section 4.10.21.8).
_ESCAPES = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


class FileForm:
    """One body for one attempt: ``fields``, pairs of a name and a value, first, then the file that ``handle`` reads, under the name ``field``.

    ``headers`` are its headers. Iterating raises ``OSError`` when the file cannot be read or its length changes.
    """

    def __init__(self, handle: IO[bytes], *, fields: Iterable[tuple[str, str]], field: str, filename: str) -> None:
        boundary = secrets.token_hex(16)
        parts = [_part(boundary, f'name="{_escaped(name)}"') + f"{value}\r\n" for name, value in fields]
        names = f'name="{_escaped(field)}"; filename="{_escaped(filename)}"'
        parts.append(_part(boundary, names, "Content-Type: application/octet-stream\r\n"))
        self._head = "".join(parts).encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._handle = handle
        self._size = os.fstat(handle.fileno()).st_size
        self.headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(self._head) + self._size + len(self._tail)),
        }

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        left = self._size
        while chunk := self._handle.read(_CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:
                break
            yield chunk
        if left:
            # Shard files never change; a changed one must not be bought as the original.
            raise OSError("its length changed while it was sent")
        yield self._tail


def _part(boundary: str, names: str, headers: str = "") -> str:
    return f"--{boundary}\r\nContent-Disposition: form-data; {names}\r\n{headers}\r\n"


def _escaped(name: str) -> str:
    return name.translate(_ESCAPES)
