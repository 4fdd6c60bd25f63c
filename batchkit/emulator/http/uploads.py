"""Reads multipart bodies as a stream: fields into memory, the one file to disk, whatever its size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from python_multipart.multipart import MultipartParser, parse_options_header

from batchkit.emulator.contract.replies import ApiError

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

_MAX_FIELD_BYTES = 1_000_000
_MAX_FIRST_LINE_BYTES = 8_000_000


@dataclass(slots=True)
class Form:
    """A form that has been read. ``file_bytes`` is the file's full size, even if only ``limit_bytes`` of it were kept."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    filename: str | None = None
    file_bytes: int = 0
    first_line: bytes = b""

    def text(self, name: str) -> str | None:
        """Return the first value of a field."""
        return next(iter(self.fields.get(name, ())), None)


class Target(Protocol):
    """Where the bytes of a file go."""

    def write(self, data: memoryview, /) -> object:
        """Take the next bytes."""
        ...


class _Reader:
    """Receives the parser's events."""

    def __init__(self, target: Target, limit_bytes: int) -> None:
        self.form = Form()
        self._target = target
        self._limit_bytes = limit_bytes
        self._header_name = self._header_value = b""
        self._disposition: dict[bytes, bytes] = {}
        self._value = bytearray()
        self._in_file = False
        self._first_line = bytearray()

    def on_part_begin(self) -> None:
        self._disposition = {}
        self._value.clear()
        self._in_file = False

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = parse_options_header(self._header_value)[1]
        self._header_name = self._header_value = b""

    def on_headers_finished(self) -> None:
        filename = self._disposition.get(b"filename")
        if filename is not None and self._disposition.get(b"name") == b"file":
            self._in_file = True
            self.form.filename = filename.decode("utf-8", "replace")

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if not self._in_file:
            self._value += data[start:end]
            if len(self._value) > _MAX_FIELD_BYTES:
                raise ApiError(400, "A form field is too large.")
            return
        kept = memoryview(data)[start : min(end, start + max(0, self._limit_bytes - self.form.file_bytes))]
        self._target.write(kept)
        self.form.file_bytes += end - start
        if not self._first_line.endswith(b"\n") and len(self._first_line) < _MAX_FIRST_LINE_BYTES:
            newline = data.find(b"\n", start, end)
            self._first_line += data[start : end if newline < 0 else newline + 1]

    def on_part_end(self) -> None:
        if not self._in_file:
            name = self._disposition.get(b"name", b"").decode("utf-8", "replace")
            self.form.fields.setdefault(name, []).append(self._value.decode("utf-8", "replace"))
        self.form.first_line = bytes(self._first_line)


class FormReader:
    """Reads a multipart body piece by piece; at most ``limit_bytes`` of the part named ``file`` are written to ``target``.

    All of it raises ``ApiError`` 400 if the body is not multipart or is malformed.
    """

    def __init__(self, content_type: str, target: Target, limit_bytes: int) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise ApiError(400, "request Content-Type isn't multipart/form-data")
        self._reader = reader = _Reader(target, limit_bytes)
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": reader.on_part_begin,
                "on_header_field": reader.on_header_field,
                "on_header_value": reader.on_header_value,
                "on_header_end": reader.on_header_end,
                "on_headers_finished": reader.on_headers_finished,
                "on_part_data": reader.on_part_data,
                "on_part_end": reader.on_part_end,
            },
        )

    def feed(self, data: bytes) -> None:
        """Read the next bytes."""
        try:
            self._parser.write(data)
        except ValueError as error:
            raise _malformed(error) from None

    def finish(self) -> Form:
        """Return the form at the end of the body."""
        try:
            self._parser.finalize()
        except ValueError as error:
            raise _malformed(error) from None
        return self._reader.form


def _malformed(error: ValueError) -> ApiError:
    return ApiError(400, f"malformed multipart body: {error}")


async def read_form(request: Request, target: Path, *, limit_bytes: int) -> Form:
    """Read a multipart body completely; at most ``limit_bytes`` of the part named ``file`` go to ``target``.

    Raises ``ApiError`` 400 if the body is not multipart or is malformed.
    """
    with target.open("wb") as file:
        reader = FormReader(request.headers.get("content-type", ""), file, limit_bytes)
        async for piece in request.stream():
            if piece:
                reader.feed(piece)
        return reader.finish()
