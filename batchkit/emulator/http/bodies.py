"""The bodies of synchronous calls: their framing, and JSON or a form with one audio file."""

from __future__ import annotations

from contextlib import suppress
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from batchkit.emulator.answers.audio import FILE_SECONDS
from batchkit.emulator.answers.demand import HEARING
from batchkit.emulator.contract.replies import ApiError
from batchkit.emulator.http.uploads import FormReader

if TYPE_CHECKING:
    from collections.abc import Callable

_DIGEST_BYTES = 16
_WAV_HEAD_BYTES = 44
_MAX_CHUNK_LINE_BYTES = 1_000
_CONTENT_TYPE = "content-type"


class Malformed(Exception):
    """Bytes that are no HTTP request; the connection ends with ``status``."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Framing(Protocol):
    """Finds the end of a body."""

    def read(self, received: bytearray, feed: Callable[[bytes], None]) -> bool:
        """Take the body's bytes away from ``received`` and feed them; return whether the body has ended. Raises ``Malformed``."""
        ...


class Sized:
    """A body of a known length."""

    def __init__(self, length: int) -> None:
        self._left = length

    def read(self, received: bytearray, feed: Callable[[bytes], None]) -> bool:
        """Take bytes up to the length."""
        taken = bytes(received[: self._left])
        del received[: len(taken)]
        self._left -= len(taken)
        if taken:
            feed(taken)
        return not self._left


class Chunked:
    """A body in chunks."""

    def __init__(self) -> None:
        self._left = 0
        self._in_chunk = False
        self._last = False

    def read(self, received: bytearray, feed: Callable[[bytes], None]) -> bool:
        """Take chunks. Raises ``Malformed`` for a size that is none."""
        while True:
            if self._in_chunk and self._left:
                taken = bytes(received[: self._left])
                del received[: len(taken)]
                self._left -= len(taken)
                feed(taken)
                if self._left:
                    return False
            line = self._line(received)
            if line is None:
                return False
            if self._in_chunk:
                # The end of a chunk's line.
                self._in_chunk = False
            elif self._last:
                # Trailers, up to an empty line.
                if not line:
                    return True
            else:
                self._start(line)

    def _line(self, received: bytearray) -> bytes | None:
        end = received.find(b"\r\n")
        if end < 0:
            if len(received) > _MAX_CHUNK_LINE_BYTES:
                raise Malformed(400, "a chunk of the body has no size")
            return None
        line = bytes(received[:end])
        del received[: end + 2]
        return line

    def _start(self, line: bytes) -> None:
        try:
            self._left = int(line.partition(b";")[0], 16)
        except ValueError:
            raise Malformed(400, "a chunk of the body has no size") from None
        if self._left < 0:
            raise Malformed(400, "a chunk of the body has no size")
        self._in_chunk, self._last = self._left > 0, self._left == 0


class Body(Protocol):
    """Collects a body."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        ...

    def finish(self) -> tuple[dict[str, Any] | ApiError, str]:
        """Return the request, or the refusal of what could not be read, and the digest that names it."""
        ...


def body_for(url: str, headers: dict[str, str], max_bytes: int) -> Body:
    """Return the collector of a body. Forms are read by the audio endpoints alone; larger bodies are refused with 413."""
    if url in HEARING and not headers.get(_CONTENT_TYPE, "").startswith("application/json"):
        return _FormBody(url, headers.get(_CONTENT_TYPE, ""), max_bytes)
    return _JsonBody(url, max_bytes)


def _too_large() -> ApiError:
    return ApiError(413, "Request Entity Too Large", code="request_too_large")


class _JsonBody:
    """A JSON object. It is named by its members without ``service_tier``: a request may be sent again on another tier."""

    def __init__(self, url: str, max_bytes: int) -> None:
        self._url = url
        self._max_bytes = max_bytes
        self._size = 0
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """Take the next bytes; those of a body that is too large are let go."""
        self._size += len(data)
        if self._size <= self._max_bytes:
            self._data += data

    def finish(self) -> tuple[dict[str, Any] | ApiError, str]:
        """Parse."""
        if self._size > self._max_bytes:
            return _too_large(), ""
        try:
            body = orjson.loads(self._data)
        except orjson.JSONDecodeError as error:
            return ApiError(400, f"could not parse the request body as JSON: {error}"), ""
        if not isinstance(body, dict):
            return ApiError(400, "the request body must be a JSON object"), ""
        return body, _digest(self._url, body)


class _FormBody:
    """A form with fields and perhaps an audio file, whose bytes are not kept."""

    def __init__(self, url: str, content_type: str, max_bytes: int) -> None:
        self._url = url
        self._max_bytes = max_bytes
        self._file = _AudioFile()
        self._problem: ApiError | None = None
        self._reader: FormReader | None = None
        try:
            self._reader = FormReader(content_type, self._file, max_bytes)
        except ApiError as error:
            self._problem = error

    def feed(self, data: bytes) -> None:
        """Take the next bytes; after an error they are let go."""
        if self._reader is not None and self._problem is None:
            try:
                self._reader.feed(data)
            except ApiError as error:
                self._problem = error

    def finish(self) -> tuple[dict[str, Any] | ApiError, str]:
        """Return the fields, with the file's name and length."""
        if self._problem is not None or self._reader is None:
            return self._problem or _too_large(), ""
        try:
            form = self._reader.finish()
        except ApiError as error:
            return error, ""
        if form.file_bytes > self._max_bytes:
            return _too_large(), ""
        fields: dict[str, Any] = {name: values[0] for name, values in form.fields.items() if not name.endswith("[]")}
        fields |= {name.removesuffix("[]"): values for name, values in form.fields.items() if name.endswith("[]")}
        # A form has texts only. What is not a number stays a text, for the check of the fields to refuse.
        with suppress(KeyError, ValueError):
            fields["temperature"] = float(fields["temperature"])
        if form.filename is not None:
            fields["filename"] = form.filename
            seconds = self._file.seconds(form.file_bytes)
            fields |= {} if seconds is None else {FILE_SECONDS: seconds}
        return fields, _digest(self._url, fields, self._file.digest)


class _AudioFile:
    """Reads an audio file without keeping it: its digest, and the head of a WAV file."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=_DIGEST_BYTES)
        self._head = bytearray()

    def write(self, data: memoryview) -> None:
        """Take the next bytes."""
        self._hash.update(data)
        if len(self._head) < _WAV_HEAD_BYTES:
            self._head += data[: _WAV_HEAD_BYTES - len(self._head)]

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def seconds(self, size: int) -> float | None:
        """Return the length of a plain WAV file; None for every other file."""
        head = bytes(self._head)
        if len(head) < _WAV_HEAD_BYTES or head[:4] != b"RIFF" or head[8:16] != b"WAVEfmt ":
            return None
        per_second = int.from_bytes(head[28:32], "little")
        return (size - _WAV_HEAD_BYTES) / per_second if per_second else None


def _digest(url: str, body: dict[str, Any], file: str = "") -> str:
    named = {name: value for name, value in body.items() if name != "service_tier"}
    canonical = orjson.dumps([url, file, named], option=orjson.OPT_SORT_KEYS)
    return blake2b(canonical, digest_size=_DIGEST_BYTES).hexdigest()
