"""The HTTP of synchronous calls: a short way through uvicorn's protocol, for speed.

A connection may mix both kinds of calls. A POST to a synchronous endpoint is read and answered here; every other request is
handed to uvicorn with all its bytes, and the connection comes back here when uvicorn has answered it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from batchkit.emulator.contract.replies import abort
from batchkit.emulator.http.bodies import Body, Chunked, Framing, Malformed, Sized, body_for
from batchkit.emulator.http.synchronous import Incoming

if TYPE_CHECKING:
    from batchkit.emulator.http.synchronous import Synchronous

_MAX_HEAD_BYTES = 65_536
_MAX_WAITING_BYTES = 1_000_000
_END = b"\r\n\r\n"


class SynchronousProtocol(H11Protocol):
    """One connection. A subclass names the ``synchronous`` that answers."""

    synchronous: ClassVar[Synchronous]

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._received = bytearray()
        self._incoming: Incoming | None = None
        self._body: Body | None = None
        self._framing: Framing | None = None
        self._answering = False
        self._reading = False
        self._shared = False

    # --- what comes in

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client."""
        if self._shared and self._is_uvicorns():
            super().data_received(data)
            return
        self._unset_keepalive_if_required()
        self._received += data
        if self._answering and len(self._received) > _MAX_WAITING_BYTES:
            # Nobody sends the next request before the answer; this one would only fill the memory.
            abort(self.transport, reset=False)
            return
        self._read()

    def _is_uvicorns(self) -> bool:
        """Return whether uvicorn is in the middle of a request."""
        conn = self.conn
        return conn.our_state is not h11.IDLE or conn.their_state is not h11.IDLE or bool(conn.trailing_data[0])

    def _read(self) -> None:
        """Answer the requests that have come in completely, one after the other."""
        if self._reading:
            return
        self._reading = True
        try:
            while not self._answering and (self._received or self._incoming is not None) and self._read_request():
                pass
        except Malformed as problem:
            self._refuse(problem)
        finally:
            self._reading = False

    def _read_request(self) -> bool:
        """Read on; return whether a request was answered or handed over. Raises ``Malformed``."""
        if self._incoming is None and not self._read_head():
            return False
        incoming, body, framing = self._incoming, self._body, self._framing
        if incoming is None or body is None or framing is None:
            return False
        if not framing.read(self._received, body.feed):
            return False
        self._incoming = self._body = self._framing = None
        incoming.body, incoming.digest = body.finish()
        self._answering = True
        self.synchronous.begin(incoming, self)
        return True

    def _read_head(self) -> bool:
        """Read the head of a request; return whether a synchronous call begins. Raises ``Malformed``."""
        received = self._received
        line_end = received.find(b"\r\n")
        if line_end < 0 and len(received) < _MAX_HEAD_BYTES and received[:5] == b"POST "[: len(received)]:
            return False
        method, _, rest = bytes(received[: max(line_end, 0)]).partition(b" ")
        target, _, version = rest.partition(b" ")
        url = self.synchronous.urls.get(target.partition(b"?")[0]) if method == b"POST" else None
        if url is None:
            self._hand_over()
            return False
        end = received.find(_END)
        if (len(received) if end < 0 else end) > _MAX_HEAD_BYTES:
            raise Malformed(431, "the head of the request is too long")
        if end < 0:
            return False
        headers = _headers(bytes(received[line_end + 2 : end]))
        del received[: end + len(_END)]
        closes = version != b"HTTP/1.1" or headers.get("connection", "").lower() == "close"
        self._incoming = Incoming(url, headers, {}, "", closes)
        self._framing = _framing(headers)
        self._body = body_for(url, headers, self.synchronous.max_body_bytes(url))
        if headers.get("expect", "").lower() == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _hand_over(self) -> None:
        data = bytes(self._received)
        self._received.clear()
        self._shared = True
        super().data_received(data)

    def _refuse(self, problem: Malformed) -> None:
        """Answer what is no request, and close."""
        self._received.clear()
        self._incoming = None
        text = str(problem).encode()
        head = f"HTTP/1.1 {problem.status} Bad Request\r\ncontent-type: text/plain\r\ncontent-length: {len(text)}\r\n"
        self.transport.write(head.encode() + b"connection: close\r\n\r\n" + text)
        self.transport.close()

    # --- what goes out: the Peer of a call

    @property
    def is_open(self) -> bool:
        """Return whether an answer can still be sent."""
        return not self.transport.is_closing()

    def reply(self, data: bytes, *, close: bool = False) -> None:
        """Send a whole answer; with ``close`` the connection ends after it."""
        if self.transport.is_closing():
            return
        self.transport.write(data)
        if close:
            self.transport.close()
            return
        self._answering = False
        self._read()

    def hang_up(self, *, reset: bool) -> None:
        """End the connection without an answer."""
        abort(self.transport, reset=reset)


def _headers(head: bytes) -> dict[str, str]:
    """Return the headers by lower-case name. Raises ``Malformed``."""
    headers = {}
    for line in head.decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise Malformed(400, "a header line is malformed")
        headers[name.lower()] = value.strip()
    return headers


def _framing(headers: dict[str, str]) -> Framing:
    """Return how the body's end is found. Raises ``Malformed``."""
    if "transfer-encoding" in headers:
        if headers["transfer-encoding"].lower() != "chunked":
            raise Malformed(501, "the transfer-encoding is not supported")
        return Chunked()
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise Malformed(400, "the content-length is no number")
    return Sized(int(length[:18]))
