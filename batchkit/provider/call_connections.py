"""Connections of the sync lane: a socket, TLS, a proxy, and a time limit for every read and write.

Each read sets its own time-out from what is left of the call, so a server that sends a byte now and then cannot hold a thread, and no
timer thread is needed. ``http.client`` parses the replies; it reads through ``TimedReader``.
"""

from __future__ import annotations

import base64
import contextlib
import io
import select
import socket
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, cast

from batchkit.errors import ConfigurationError
from batchkit.provider.proxies import proxy_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    import httpx
    from _typeshed import WriteableBuffer

_PORTS = {"http": 80, "https": 443}
#: Small enough for a time-out of a write to mean silence, not slowness.
_SEND_BYTES = 1 << 18
_MOST_INTERIM_REPLIES = 20
#: An answer may take minutes, and routers forget silent connections (350 s at AWS's load balancers).
_KEEP_ALIVE_SECONDS = 60


class Timing:
    """What is left of one call's time; ``clock`` returns monotonic seconds. Raises ``TimeoutError`` when nothing is."""

    def __init__(self, clock: Callable[[], float], total_seconds: float) -> None:
        self._clock = clock
        self._total_seconds = total_seconds
        self._ends = clock() + total_seconds

    def left(self, most_seconds: float) -> float:
        """Return the smaller one of ``most_seconds`` and what is left."""
        left = self._ends - self._clock()
        if left <= 0:
            raise TimeoutError(f"no complete reply within {self._total_seconds:g} s")
        return min(most_seconds, left)


class TimedReader(io.RawIOBase):
    """Reads from a socket: the first byte within ``first_seconds``, then each within ``between_seconds``, all within ``timing``."""

    def __init__(self, sock: socket.socket, timing: Timing, *, first_seconds: float, between_seconds: float) -> None:
        self._sock = sock
        self._timing = timing
        self._seconds = first_seconds
        self._between_seconds = between_seconds

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read what is there, at least a byte unless the stream has ended. Raises ``OSError``."""
        self._sock.settimeout(self._timing.left(self._seconds))
        try:
            size = self._sock.recv_into(cast("bytearray", buffer))
        except TimeoutError:
            self._timing.left(self._seconds)  # says so if the whole time is over
            raise TimeoutError(f"nothing came for {self._seconds:g} s") from None
        self._seconds = self._between_seconds
        return size


class Route:
    """How the API is reached: directly, through a proxy that is asked for each http:// URL, or through a tunnel for https://.

    ``base_url`` has been checked by ``parse_base_url``; ``trust`` is the TLS context. ``prefix`` comes before the path of each
    request, ``proxy_authorization`` is the header for a proxy that sees the requests.

    Raises ``ConfigurationError`` for a proxy that is not spoken to by ``http://``.
    """

    def __init__(self, base_url: httpx.URL, trust: ssl.SSLContext) -> None:
        proxy = proxy_of(base_url)
        if proxy is not None and (proxy.scheme != "http" or not proxy.host):
            raise ConfigurationError(
                "requests over the ordinary endpoints go through http:// proxies only",
                hint="check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY, or exempt the host with NO_PROXY",
            )
        self._host = base_url.raw_host.decode("ascii")
        self._port = base_url.port or _PORTS[base_url.scheme]
        self._trust = trust if base_url.scheme == "https" else None
        self._near = (self._host, self._port) if proxy is None else (proxy.raw_host.decode("ascii"), proxy.port or 80)
        authorization = {} if proxy is None or not proxy.userinfo else {"Proxy-Authorization": _basic(proxy)}
        self._has_tunnel = proxy is not None and self._trust is not None
        self._tunnel_authorization = authorization if self._has_tunnel else {}
        self.proxy_authorization = {} if self._has_tunnel else authorization
        self.netloc = base_url.netloc.decode("ascii")
        self.prefix = f"http://{self.netloc}" if proxy is not None and not self._has_tunnel else ""

    def open(self, timing: Timing, connect_seconds: float) -> socket.socket:
        """Return a new connection to the API. Raises ``OSError``; nothing of a request was sent then."""
        sock = socket.create_connection(self._near, timing.left(connect_seconds))
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _keep_alive(sock)
            if self._has_tunnel:
                self._open_tunnel(sock, timing, connect_seconds)
            if self._trust is None:
                return sock
            sock.settimeout(timing.left(connect_seconds))
            return self._trust.wrap_socket(sock, server_hostname=self._host)
        except BaseException:
            sock.close()
            raise

    def _open_tunnel(self, sock: socket.socket, timing: Timing, connect_seconds: float) -> None:
        address = f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"
        headers = {"Host": address, **self._tunnel_authorization}
        sock.settimeout(timing.left(connect_seconds))
        sock.sendall(head_of("CONNECT", address, headers))
        reader = TimedReader(sock, timing, first_seconds=connect_seconds, between_seconds=connect_seconds)
        try:
            with contextlib.closing(read_head(reader, method="CONNECT")) as response:
                status = response.status
        except HTTPException as error:
            raise OSError(f"the proxy's reply is unreadable ({type(error).__name__})") from None
        if status // 100 != 2:  # noqa: PLR2004 - RFC 9110, section 9.3.6
            raise OSError(f"the proxy opens no tunnel: it answered {status}")


class CallConnection:
    """One connection, for one call at a time. ``idle_since`` is when its last call ended, in monotonic seconds."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.idle_since = 0.0
        self.idle_seconds = 0.0

    def is_usable(self, now: float) -> bool:
        """Return whether a request may be sent on it: it is young enough, and the server has neither closed it nor sent anything.

        A request on a connection that the server is about to close would be in doubt, so that one is replaced.
        """
        if now - self.idle_since >= self.idle_seconds:
            return False
        poll = select.poll()  # select() refuses descriptors above 1,023
        poll.register(self.sock, select.POLLIN)
        return not poll.poll(0)

    def send(self, data: bytes, timing: Timing, write_seconds: float) -> None:
        """Send ``data``. Raises ``OSError``."""
        for start in range(0, len(data), _SEND_BYTES):
            self.sock.settimeout(timing.left(write_seconds))
            self.sock.sendall(data if len(data) <= _SEND_BYTES else memoryview(data)[start : start + _SEND_BYTES])

    def shut_down(self) -> None:
        """End what another thread does with it: its reads and writes return at once."""
        with contextlib.suppress(OSError):
            # The method of a TLS socket would remove its state while another thread reads.
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self.sock.close()


class _Source:
    """The part of a socket that ``http.client`` reads from."""

    def __init__(self, reader: io.BufferedReader[TimedReader]) -> None:
        self._reader = reader

    def makefile(self, *_arguments: object, **_named: object) -> io.BufferedReader[TimedReader]:
        return self._reader


def read_head(raw: TimedReader, *, method: str = "POST") -> HTTPResponse:
    """Read a reply up to its body; interim replies (1xx) are skipped. Raises ``OSError`` and ``http.client.HTTPException``.

    ``http.client`` bounds the lines and the number of the headers.
    """
    reader = io.BufferedReader(raw)
    for _ in range(_MOST_INTERIM_REPLIES):
        response = HTTPResponse(cast("socket.socket", _Source(reader)), method=method)
        response.begin()
        if response.status // 100 != 1:
            return response
        # Its end would close the reader, which the next one needs.
        response.fp = cast("io.BufferedReader", None)
    raise HTTPException("too many interim replies")


def head_of(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """Return the head of a request. Raises ``ValueError`` for text that would end a line."""
    head = "\r\n".join((f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())))
    if not head.count("\n") == head.count("\r") == len(headers):
        raise ValueError("a line break in the head of a request")
    return f"{head}\r\n\r\n".encode("latin-1")


def announced_idle_seconds(keep_alive: str | None) -> float | None:
    """Return N of the header ``Keep-Alive: timeout=N``, None without it."""
    for part in (keep_alive or "").split(","):
        name, _, value = part.partition("=")
        if name.strip().lower() == "timeout" and value.strip().isascii() and value.strip().isdigit():
            return float(value.strip()[:9])
    return None


def _basic(proxy: httpx.URL) -> str:
    return "Basic " + base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()


def _keep_alive(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEP_ALIVE_SECONDS)
