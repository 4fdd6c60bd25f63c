"""Single calls of the ordinary endpoints, for many threads: what the sync lane sends its requests with.

A call is sent once. It is not repeated, follows no redirect and keeps no cookie: whoever calls decides what happens next, because only
one place may. The standard library's ``http.client`` parses the replies: at 200 calls in flight HTTPX takes 5 to 30 times its CPU time,
because its pool checks every connection at each call (tests/benchmarks has the figures).
"""

from __future__ import annotations

import contextlib
import logging
import re
import ssl
import threading
from dataclasses import dataclass, field, replace
from http.client import HTTPException
from typing import TYPE_CHECKING, Self

import httpx

from batchkit.errors import ConfigurationError
from batchkit.files.jsonl import MalformedJson, loads_leniently
from batchkit.provider.access import parse_base_url, reveal_key
from batchkit.provider.atomic_download import AtomicDownload
from batchkit.provider.call_bodies import (
    BodyUnread,
    FileBody,
    Unreadable,
    pieces_of_file,
    pieces_of_reply,
    reading_body,
)
from batchkit.provider.call_connections import (
    CallConnection,
    Route,
    TimedReader,
    Timing,
    announced_idle_seconds,
    head_of,
    read_head,
)
from batchkit.provider.call_reply import CallEnd, CallReply
from batchkit.provider.connections import key_header, trust
from batchkit.provider.dialect import AuthStyle
from batchkit.provider.failures import Quoter
from batchkit.provider.options import HTTP_OPTIONS, HttpOptions
from batchkit.provider.reading import TooLong, check_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from http.client import HTTPResponse
    from pathlib import Path

    from pydantic import SecretStr

logger = logging.getLogger(__name__)

#: A smaller body leaves together with its head.
_SMALL_BODY_BYTES = 1 << 16
_MOST_HEADERS = 60
_HEADER_CHARS = 300
_VERSION = re.compile(r"/v\d+[a-z0-9]*")
#: Replies that are no file, whatever was asked for: errors of the API or of a gateway.
_NO_FILE_TYPES = frozenset({"application/json", "text/html", "application/problem+json"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """Limits of one call; times are in seconds. Raises ``ConfigurationError`` for one that is not greater than zero.

    ``http`` has what all clients share: time-outs of connecting and writing, the most bytes and JSON values of a reply in memory,
    ``allow_insecure_http``, the clock. ``first_byte_seconds`` is the longest wait for an answer, ``between_bytes_seconds`` the longest
    silence within it, ``total_seconds`` the longest call. A long one is cheap, an early end is not: the request may be executed and
    billed all the same. ``max_file_bytes`` bounds a binary answer.

    A connection that was idle for ``idle_seconds`` is replaced. The default is below the shortest time after which a common server
    closes one (uvicorn and Node.js: 5 s); a server that announces a longer time in ``Keep-Alive`` changes nothing.
    """

    http: HttpOptions = HTTP_OPTIONS
    first_byte_seconds: float = 600.0
    between_bytes_seconds: float = 120.0
    total_seconds: float = 900.0
    idle_seconds: float = 4.0
    max_file_bytes: int = 1_000_000_000

    def __post_init__(self) -> None:
        if min(self.first_byte_seconds, self.between_bytes_seconds, self.total_seconds, self.max_file_bytes) <= 0:
            raise ConfigurationError("time-outs and sizes of calls must be greater than zero")


CALL_OPTIONS = CallOptions()


@dataclass(frozen=True, slots=True)
class _Request:
    """One call: what is sent, how its reply is read, and in what time."""

    path: str
    body: bytes | FileBody = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    timing: Timing
    receive: Callable[[HTTPResponse, CallReply], CallReply]

    @property
    def name(self) -> str:
        return f"POST {self.path}"


class CallClient:
    """Calls of the ordinary endpoints at one address with one key, for any number of threads; ``with`` closes it.

    Each call has a connection of its own, which the next call uses again. ``auth`` is the header that carries the key; the key is in
    nothing that a call returns or logs.

    Raises ``ConfigurationError`` for an address, a key or a proxy that cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        api_key: SecretStr | str,
        *,
        auth: AuthStyle = AuthStyle.BEARER,
        options: CallOptions = CALL_OPTIONS,
    ) -> None:
        self._base_url = parse_base_url(base_url, allow_insecure_http=options.http.allow_insecure_http)
        key = reveal_key(api_key)
        self._key = key.encode()
        self._quote = Quoter(key)
        self._options = options
        self._clock = options.http.clock
        try:
            self._route = Route(self._base_url, trust(self._base_url))
        except (OSError, ValueError, httpx.InvalidURL):
            # The environment may hold a proxy's password, so it is not quoted.
            raise ConfigurationError(
                "the proxy or certificate settings in the environment cannot be used",
                hint="check HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE and SSL_CERT_DIR",
            ) from None
        self._headers = {
            "Host": self._route.netloc,
            "User-Agent": "batchkit",
            "Accept-Encoding": "identity",
            **key_header(key, auth),
            **self._route.proxy_authorization,
        }
        self._lock = threading.Lock()
        self._idle: list[CallConnection] = []
        self._active: set[CallConnection] = set()
        self._is_closed = False

    def __repr__(self) -> str:
        return f"CallClient({str(self._base_url)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def call(
        self,
        path: str,
        body: bytes | FileBody,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
        content_type: str = "application/json",
        accept: str | None = None,
    ) -> CallReply:
        """POST ``body`` to an endpoint, named as lines of a batch name it (``/v1/chat/completions``), and read the reply into memory.

        ``timeout_seconds`` replaces the option ``total_seconds``. A ``FileBody`` has a content type of its own.
        Whatever the server and the network do is in the reply. Raises ``OSError`` when the file of a ``FileBody`` cannot be read:
        nothing was processed then, because the request was incomplete.
        """
        return self._call(
            _Request(path, body, _extra(headers, content_type, accept), self._timing(timeout_seconds), self._read_whole)
        )

    def call_to_file(
        self,
        path: str,
        body: bytes | FileBody,
        destination: Path,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
        content_type: str = "application/json",
        accept: str | None = None,
    ) -> CallReply:
        """POST as ``call`` does, and write a binary answer to ``destination``, which appears complete or not at all.

        Any other reply (an error, JSON, an HTML page) is in memory. A body whose length is not known counts as in doubt: its end
        cannot be told from a cut. Also raises ``SpoolError`` for an error of the disk; the answer is lost then.
        """

        def receive(response: HTTPResponse, reply: CallReply) -> CallReply:
            kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
            if response.status // 100 != 2 or kind in _NO_FILE_TYPES:  # noqa: PLR2004 - RFC 9110, section 15.3
                return self._read_whole(response, reply)
            if response.length is None and not response.chunked:
                raise Unreadable("its length is not known, so that its end cannot be told from a cut")
            with AtomicDownload(destination) as target:
                for piece in pieces_of_reply(response, reply.headers, most=self._options.max_file_bytes):
                    target.write(piece)
                return replace(reply, file=target.commit())

        return self._call(
            _Request(path, body, _extra(headers, content_type, accept or "*/*"), self._timing(timeout_seconds), receive)
        )

    def close(self) -> None:
        """Close the idle connections now, and the others when their calls end; a later call is not sent."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def abort(self) -> None:
        """Close, and end the calls under way: they return at once, in doubt."""
        self.close()
        with self._lock:
            for connection in self._active:
                connection.shut_down()

    def _timing(self, timeout_seconds: float | None) -> Timing:
        return Timing(self._clock, self._options.total_seconds if timeout_seconds is None else timeout_seconds)

    def _call(self, request: _Request) -> CallReply:
        name = request.name
        began = self._clock()
        try:
            connection = self._connect(request.timing)
        except OSError as error:
            is_certificate = isinstance(error, ssl.SSLCertVerificationError)
            hint = ": check the clock, SSL_CERT_FILE and any proxy in between" if is_certificate else ""
            reply = CallReply(end=CallEnd.NOT_SENT, message=f"{name}: no connection ({self._reason(error)}){hint}")
        else:
            reply = self._exchange(connection, request)
        reply = replace(reply, seconds=self._clock() - began)
        logger.debug(
            "%s -> %s %s in %.3f s, x-request-id %s", name, reply.end, reply.status, reply.seconds, reply.request_id
        )
        return reply

    def _connect(self, timing: Timing) -> CallConnection:
        """Take an idle connection that is still open, or open one. Raises ``OSError``."""
        while True:
            with self._lock:
                if self._is_closed:
                    raise ConnectionAbortedError("the client is closed")
                connection = self._idle.pop() if self._idle else None
                if connection is not None:
                    self._active.add(connection)
            if connection is None:
                break
            if connection.is_usable(self._clock()):
                return connection
            self._end(connection)
        connection = CallConnection(self._route.open(timing, self._options.http.connect_timeout_seconds))
        with self._lock:
            if not self._is_closed:
                self._active.add(connection)
                return connection
        connection.close()
        raise ConnectionAbortedError("the client is closed")

    def _exchange(self, connection: CallConnection, request: _Request) -> CallReply:
        """Send one request and read its reply."""
        is_reusable = False
        status = None
        try:
            is_sent = self._send(connection, request)
            first_seconds = self._options.first_byte_seconds if is_sent else self._options.http.connect_timeout_seconds
            between_seconds = self._options.between_bytes_seconds
            reader = TimedReader(
                connection.sock, request.timing, first_seconds=first_seconds, between_seconds=between_seconds
            )
            with contextlib.closing(read_head(reader)) as response:
                status = response.status
                reply = request.receive(response, self._answered(response, request.name))
                is_reusable = is_sent and not response.will_close
            self._set_idle_seconds(connection, reply)
        except (OSError, HTTPException, Unreadable, TooLong) as error:
            if isinstance(error, BodyUnread):
                raise error.error from None
            reply = CallReply(
                end=CallEnd.IN_DOUBT,
                status=status,
                message=f"{request.name}: sent, but without a complete reply ({self._reason(error)})",
                is_time_out=isinstance(error, TimeoutError),
            )
        finally:
            self._end(connection, is_reusable=is_reusable)
        return reply

    def _send(self, connection: CallConnection, request: _Request) -> bool:
        """Send a request; return False when the server stopped reading it: it may have answered before the end.

        Raises ``TimeoutError``, and ``BodyUnread``.
        """
        body, timing = request.body, request.timing
        write_seconds = self._options.http.write_timeout_seconds
        with contextlib.ExitStack() as stack:
            if isinstance(body, bytes):
                length = {"Content-Length": str(len(body))}
                pieces: Iterable[bytes] = (body,)
            else:
                with reading_body():
                    form = stack.enter_context(body.opened())
                length, pieces = form.headers, form
            head = head_of("POST", self._target(request.path), {**self._headers, **request.headers, **length})
            try:
                if isinstance(body, bytes) and len(body) < _SMALL_BODY_BYTES:
                    connection.send(head + body, timing, write_seconds)
                    return True
                connection.send(head, timing, write_seconds)
                for piece in pieces_of_file(pieces):
                    connection.send(piece, timing, write_seconds)
            except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                return False
        return True

    def _target(self, path: str) -> str:
        return self._route.prefix + path_below(self._base_url.raw_path.decode("ascii"), path)

    def _answered(self, response: HTTPResponse, name: str) -> CallReply:
        headers = {
            key.lower(): self._without_key(value[:_HEADER_CHARS])
            for key, value in response.getheaders()[:_MOST_HEADERS]
        }
        request_id = headers.get("x-request-id")
        return CallReply(
            end=CallEnd.ANSWERED,
            status=response.status,
            headers=headers,
            request_id=None if request_id is None else self._quote(request_id),
            message=f"{name}: HTTP {response.status}",
        )

    def _read_whole(self, response: HTTPResponse, reply: CallReply) -> CallReply:
        http = self._options.http
        is_framed = response.length is not None or response.chunked
        body = b"".join(pieces_of_reply(response, reply.headers, most=http.max_reply_bytes))
        check_values(body, max_values=http.max_reply_values)
        if not is_framed and "json" in reply.headers.get("content-type", "") and not _is_json(body):
            raise Unreadable("its JSON ends too early")
        if self._key in body:
            body = body.replace(self._key, b"[key]")
        return replace(reply, body=body)

    def _set_idle_seconds(self, connection: CallConnection, reply: CallReply) -> None:
        announced = announced_idle_seconds(reply.headers.get("keep-alive"))
        # A second of its time may have passed when it came.
        most = self._options.idle_seconds if announced is None else min(self._options.idle_seconds, announced - 1.0)
        connection.idle_seconds = most

    def _end(self, connection: CallConnection, *, is_reusable: bool = False) -> None:
        with self._lock:
            self._active.discard(connection)
            if is_reusable and not self._is_closed:
                connection.idle_since = self._clock()
                self._idle.append(connection)
                return
        connection.close()

    def _reason(self, error: Exception) -> str:
        return f"{type(error).__name__.lstrip('_')}: {self._quote(str(error))}".removesuffix(": ")

    def _without_key(self, text: str) -> str:
        key = self._key.decode()
        return text.replace(key, "[key]") if key in text else text


def _extra(headers: Mapping[str, str] | None, content_type: str, accept: str | None) -> dict[str, str]:
    wanted = {"Accept": "application/json" if accept is None else accept, "Content-Type": content_type}
    return {**wanted, **headers} if headers else wanted


def _is_json(body: bytes) -> bool:
    try:
        loads_leniently(body)
    except MalformedJson:
        return False
    return True


def path_below(base_path: str, endpoint: str) -> str:
    """Return the path of an endpoint below a base address.

    Lines name endpoints with a version (``/v1/chat/completions``), and base addresses mostly end with one: it is not repeated.
    """
    base = base_path.rstrip("/")
    last = base[base.rfind("/") :] if base else ""
    version = endpoint[: endpoint.find("/", 1)]
    if _VERSION.fullmatch(last) and _VERSION.fullmatch(version):
        return base + endpoint.removeprefix(version)
    return base + endpoint
