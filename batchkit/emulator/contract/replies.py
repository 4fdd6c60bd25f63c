"""HTTP replies: JSON objects, the provider's error bodies, downloads, and broken connections.

Error body: console.groq.com/docs/errors. Response headers are those of Groq's own replies.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Any, Literal, Protocol

import orjson
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

CutMode = Literal["content-length", "chunked", "close-delimited", "clean"]

_PIECE_BYTES = 256 * 1024
_ERROR_CLASS = 400


class ApiError(Exception):
    """A refusal to send to the client: HTTP status and the fields of the error body."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error: dict[str, Any] = {"message": message, "type": kind}
        if code is not None:
            self.error["code"] = code
        if param is not None:
            self.error["param"] = param
        self.error.update(extra or {})
        self.headers = dict(headers or {})

    def reply(self) -> Response:
        """Return the HTTP answer."""
        return Refusal(self.status, self.error, self.headers)


class Refusal(Response):
    """An error body in Groq's form, which another provider writes in its own."""

    def __init__(self, status: int, error: dict[str, Any], headers: Mapping[str, str]) -> None:
        super().__init__(orjson.dumps({"error": error}), status, headers=headers, media_type="application/json")
        self.error = error
        self.given_headers = headers


def json_reply(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with JSON."""
    return Response(orjson.dumps(content), status, headers=headers, media_type="application/json")


def html_reply(status: int, title: str) -> Response:
    """Answer with an HTML page, as the CDN in front of the API does when the API does not answer."""
    page = f"<html>\r\n<head><title>{status} {title}</title></head>\r\n<body><center><h1>{status} {title}</h1></center></body>\r\n</html>\r\n"
    return Response(page, status, media_type="text/html")


class Connections(Protocol):
    """The open connections of the server, by client address."""

    def transport(self, scope: Scope) -> asyncio.Transport | None:
        """Return the transport that a request came in on."""
        ...


def _transport(scope: Scope) -> asyncio.Transport | None:
    connections: Connections = scope["app"].state.connections
    return connections.transport(scope)


class HangUp(Response):
    """Close the connection without any byte of an answer, after ``seconds`` real seconds; ``reset`` sends RST instead.

    With ``after_bytes`` the connection closes when this number of bytes of the request's body has been read; None reads all of it.
    """

    def __init__(self, seconds: float = 0.0, *, after_bytes: int | None = None, reset: bool = False) -> None:
        super().__init__()
        self.seconds = seconds
        self.after_bytes = after_bytes
        self.reset = reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - nothing is sent
        """Wait, then break the connection; a client that leaves earlier ends the wait."""
        read, more = 0, self.after_bytes is not None
        while more and read < (self.after_bytes or 0):
            message = await receive()
            read += len(message.get("body", b""))
            more = message.get("more_body", False)
        if self.seconds:
            gone = asyncio.create_task(_until_gone(receive))
            await asyncio.wait({gone}, timeout=self.seconds)
            gone.cancel()
        await break_connection(scope, receive, reset=self.reset)


async def break_connection(scope: Scope, receive: Receive, *, reset: bool = False) -> None:
    """Abort the transport and wait until the server has noticed, so that it sends no answer."""
    transport = _transport(scope)
    if transport is not None:
        abort(transport, reset=reset)
        await _until_gone(receive)


def abort(transport: asyncio.Transport, *, reset: bool) -> None:
    """Close a connection at once, without what is still to be sent; ``reset`` sends RST."""
    connected = transport.get_extra_info("socket")
    if reset and connected is not None:
        # Lingering for no time makes the system send RST in place of FIN.
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class CutReply(Response):
    """An answer of which only ``kept`` arrives: it states the whole length, and then the connection closes."""

    def __init__(self, whole: Response, kept: bytes) -> None:
        super().__init__(whole.body, whole.status_code, media_type=whole.headers.get("content-type"))
        self.kept = kept

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the part, then break the connection."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.kept, "more_body": True})
        await _flush(_transport(scope))
        await break_connection(scope, receive)


class Download(Response):
    """Stream a file with its length; a cut download has only the first ``kept_bytes``.

    ``cut`` is the form of the loss: ``content-length`` and ``chunked`` break the connection in mid-body, which a client can detect;
    ``close-delimited`` ends a body without a length by closing, and ``clean`` states the shorter length, which HTTP cannot detect.
    """

    def __init__(self, path: Path, length: int) -> None:
        super().__init__(media_type="application/octet-stream", headers={"content-length": str(length)})
        self.path = path
        self.length = length
        self.cut: CutMode | None = None

    def keep(self, share: float, cut: CutMode, *, at_line_end: bool) -> None:
        """Cut the body to a share of its bytes, or a little more so that it ends after a newline."""
        self.cut = cut
        kept = int(self.length * share)
        if at_line_end:
            with self.path.open("rb") as source:
                source.seek(kept)
                kept += len(source.readline())
        self.length = min(kept, self.length)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file piece by piece."""
        if self.cut == "close-delimited":
            await self._write_raw(scope, receive)
            return
        if self.cut == "clean":
            self.headers["content-length"] = str(self.length)
        elif self.cut == "chunked":
            del self.headers["content-length"]
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        with self.path.open("rb") as source:
            left = self.length
            while left and (piece := source.read(min(_PIECE_BYTES, left))):
                left -= len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        if self.cut in {"content-length", "chunked"}:
            # The kept part must reach the client before the connection breaks, or it would see no answer.
            await _flush(_transport(scope))
            await break_connection(scope, receive)
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write_raw(self, scope: Scope, receive: Receive) -> None:
        # The server would frame such a body as chunked, so it is written to the transport directly.
        transport = _transport(scope)
        if transport is None:
            return
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\nconnection: close\r\n\r\n"
        transport.write(head)
        with self.path.open("rb") as source:
            left = self.length
            while left and not transport.is_closing() and (piece := source.read(min(_PIECE_BYTES, left))):
                left -= len(piece)
                transport.write(piece)
                await _flush(transport)
        transport.close()
        await _until_gone(receive)


async def _flush(transport: asyncio.Transport | None) -> None:
    # A transport has no event for an empty buffer.
    while transport is not None and not transport.is_closing() and transport.get_write_buffer_size():  # noqa: ASYNC110 - see above
        await asyncio.sleep(0.001)


def is_refusal(response: Response) -> bool:
    """Return whether an answer means that nothing was done."""
    return response.status_code >= _ERROR_CLASS
