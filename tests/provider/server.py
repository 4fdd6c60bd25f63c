"""An HTTP server on loopback with scripted replies, down to single bytes and broken connections."""

from __future__ import annotations

import hashlib
import json  # noqa: TID251 - the server is the other side; it must not share a parser with the code under test
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

_KEEP_BODY_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 16
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Seen:
    """A request as it arrived; ``connection`` numbers the connections from 1, ``body`` keeps up to a megabyte."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    body_bytes: int
    body_sha256: str
    connection: int

    @property
    def path(self) -> str:
        """Return the path without its query, unquoted."""
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> list[tuple[str, str]]:
        """Return the query, in order."""
        return parse_qsl(urlsplit(self.target).query)

    @property
    def json(self) -> Any:
        """Return the body, parsed."""
        return json.loads(self.body)


@dataclass
class Exchange:
    """The objects that a reply works with; ``stopped`` is set when the test is over."""

    connection: socket.socket
    stopped: threading.Event
    is_kept_alive: bool = False


Reply = Callable[[Exchange], None]


def answer(body: bytes = b"", status: int = 200, *, content_type: str = "application/json", **headers: str) -> Reply:
    """Send a complete reply with a Content-Length, and keep the connection."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = {"Content-Type": content_type, "Content-Length": str(len(body)), **names}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    raw = f"HTTP/1.1 {status} Scripted\r\n{head}\r\n".encode("latin-1") + body

    def reply(exchange: Exchange) -> None:
        exchange.connection.sendall(raw)
        exchange.is_kept_alive = True

    return reply


def as_json(value: Any, status: int = 200, **headers: str) -> Reply:
    """Send a JSON reply."""
    return answer(json.dumps(value).encode(), status, **headers)


def refusal(status: int, message: str = "no", code: str | None = None, **headers: str) -> Reply:
    """Send an error in the documented shape."""
    error = {"message": message, "type": "invalid_request_error", "code": code, "param": "a_field"}
    return as_json({"error": error}, status, **headers)


def raw(data: bytes, *, reset: bool = False) -> Reply:
    """Send exactly these bytes, then close the connection (with a reset, if requested)."""

    def reply(exchange: Exchange) -> None:
        exchange.connection.sendall(data)
        if reset:
            exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)

    return reply


def hang_up(exchange: Exchange) -> None:
    """Close the connection without a reply."""
    exchange.is_kept_alive = False


def reset(exchange: Exchange) -> None:
    """Reset the connection without a reply."""
    exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)


def silence(exchange: Exchange) -> None:
    """Send nothing until the test is over."""
    exchange.stopped.wait(20)


def sent_then_silence(data: bytes) -> Reply:
    """Send some bytes, then nothing."""

    def reply(exchange: Exchange) -> None:
        exchange.connection.sendall(data)
        exchange.stopped.wait(20)

    return reply


def trickle(head: bytes, piece: bytes, pause_seconds: float) -> Reply:
    """Send ``head``, then ``piece`` again and again with a pause, until the client hangs up or the test is over."""

    def reply(exchange: Exchange) -> None:
        exchange.connection.sendall(head)
        while not exchange.stopped.wait(pause_seconds):
            exchange.connection.sendall(piece)

    return reply


def flood(head: bytes, piece: bytes) -> Reply:
    """Send ``head``, then ``piece`` again and again as fast as the client reads."""
    return trickle(head, piece, 0.0)


def after(seconds: float, reply: Reply) -> Reply:
    """Delay a reply."""

    def wait_and_reply(exchange: Exchange) -> None:
        exchange.stopped.wait(seconds)
        reply(exchange)

    return wait_and_reply


def big(total_bytes: int, block: bytes) -> Reply:
    """Send a body without holding it in memory."""

    def reply(exchange: Exchange) -> None:
        exchange.connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {total_bytes}\r\n\r\n".encode())
        for _ in range(total_bytes // len(block)):
            exchange.connection.sendall(block)
        exchange.is_kept_alive = True

    return reply


@dataclass
class ScriptedServer:
    """Answers each request with the next reply of the script, then with ``otherwise``; or with the reply that ``choose`` returns.

    ``seen`` holds the requests in order of arrival. ``early`` is called after the headers: its reply is sent before
    the body has been read. ``wrap`` puts a layer, such as TLS, around each connection.
    """

    otherwise: Reply = field(default_factory=lambda: refusal(599, "the script has ended"))
    choose: Callable[[Seen], Reply | None] | None = None
    early: Callable[[Seen], Reply | None] | None = None
    wrap: Callable[[socket.socket], socket.socket] | None = None
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self._script: deque[Reply] = deque()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}/openai/v1"
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):  # the client may have cut it
                    connection.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        for thread in self._threads:
            thread.join()

    def script(self, *replies: Reply) -> None:
        """Append replies."""
        self._script.extend(replies)

    def calls(self) -> list[str]:
        """Return ``METHOD path`` of every request, without the prefix of the base URL."""
        return [f"{seen.method} {seen.path.removeprefix('/openai/v1')}" for seen in self.seen]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        try:
            if self.wrap:
                connection = self.wrap(connection)
            with self._lock:
                self._open.add(connection)
            with connection.makefile("rb") as reader:
                while self._serve_one(connection, reader, number):
                    pass
        except (OSError, ValueError):
            pass  # the client hung up, which many tests provoke
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _serve_one(self, connection: socket.socket, reader: Any, number: int) -> bool:
        line = reader.readline().decode("latin-1")
        if not line:
            return False
        method, target, _ = line.split(" ", 2)
        headers: dict[str, str] = {}
        while (header := reader.readline().decode("latin-1").strip()) != "":
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        exchange = Exchange(connection, self._stopped)
        announced = Seen(method, target, headers, b"", 0, "", number)
        early = self.early(announced) if self.early else None
        if early is not None:
            self.seen.append(announced)
            early(exchange)
            return False
        seen = self._read_body(reader, announced)
        with self._lock:
            self.seen.append(seen)
            chosen = self.choose(seen) if self.choose else None
            reply = chosen or (self._script.popleft() if self._script else self.otherwise)
        reply(exchange)
        return exchange.is_kept_alive

    @staticmethod
    def _read_body(reader: Any, seen: Seen) -> Seen:
        left = int(seen.headers.get("content-length", "0"))
        digest = hashlib.sha256()
        kept = bytearray()
        total = 0
        while left:
            chunk = reader.read(min(left, _CHUNK_BYTES))
            if not chunk:
                raise OSError("the client hung up within its body")
            left -= len(chunk)
            total += len(chunk)
            digest.update(chunk)
            if len(kept) < _KEEP_BODY_BYTES:
                kept += chunk
        return Seen(seen.method, seen.target, seen.headers, bytes(kept), total, digest.hexdigest(), seen.connection)
