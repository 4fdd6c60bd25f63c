"""Connections that each serve one thread at a time.

By its documentation one HTTPX client serves many threads. But its pool first checks whether a connection is idle, and then,
without holding it, whether the server closed it. When another thread takes the connection in between and its reply arrives, the
pool reads the reply as a close and closes the connection under that thread (httpcore 1.0.9; eight threads over two connections
see some 25 ``Bad file descriptor`` in 9,000 calls). So each client here holds one connection and is lent to one thread.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

import httpx

from batchkit.provider.access import reveal_key
from batchkit.provider.dialect import AuthStyle
from batchkit.provider.proxies import proxy_of
from batchkit.provider.reading import ENCODINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pydantic import SecretStr

#: Events after which the library has a new stream (https://www.python-httpx.org/advanced/extensions/#trace).
_OPENED = ("connect_tcp.complete", "start_tls.complete")


class Connection:
    """A client with one connection, for one exchange at a time, with a limit for the whole exchange.

    The library's timeouts limit silence only: a server that sends a byte now and then could hold a call forever, even within
    the headers, which only the library reads. So another thread shuts the socket down when the time is over.
    """

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._stream: Any = None
        self._timer: threading.Timer | None = None
        self._seconds = 0.0
        self._is_cut = False

    @property
    def is_cut(self) -> bool:
        """Return whether the exchange was cut because its time was over; the data received may then be incomplete."""
        return self._is_cut

    @contextmanager
    def exchange(self, method: str, path: str, *, seconds: float, **content: Any) -> Iterator[httpx.Response]:
        """Send a request to ``path`` below the base URL and yield the response, its body unread.

        Raises ``httpx.ReadTimeout`` when the block has not been left after ``seconds``, and the errors of ``httpx.Client.stream``.
        """
        self.cut_after(seconds)
        try:
            extensions = {"trace": self._note}
            with self._client.stream(method, path.lstrip("/"), extensions=extensions, **content) as response:
                yield response
        except httpx.RequestError:
            if not self._is_cut:
                raise
        finally:
            self._stop()
        if self._is_cut:
            raise httpx.ReadTimeout(f"no complete reply within {self._seconds:g} s")

    def cut_after(self, seconds: float) -> None:
        """Restart the timer: the current exchange is cut ``seconds`` from now."""
        self._stop()
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        with self._lock:
            self._timer, self._seconds = timer, seconds
        timer.start()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _stop(self) -> None:
        with self._lock:
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _note(self, event: str, info: Mapping[str, Any]) -> None:
        if event.endswith(_OPENED):
            with self._lock:
                self._stream = info["return_value"]
                if self._is_cut:
                    self._shut_down()

    def _cut(self) -> None:
        with self._lock:
            # A timer that was stopped or replaced as it fired belongs to an exchange that is over.
            if self._timer is threading.current_thread():
                self._is_cut = True
                self._shut_down()

    def _shut_down(self) -> None:
        if self._stream is not None:
            # The method of a TLS socket would remove its state while another thread reads.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._stream.get_extra_info("socket"), socket.SHUT_RDWR)


class Connections:
    """Lends up to ``most`` connections; raises ``httpx.PoolTimeout`` after waiting ``longest_wait_seconds`` for one."""

    def __init__(self, build: Callable[[], httpx.Client], *, most: int, longest_wait_seconds: float) -> None:
        self._build: Callable[[], Connection] = lambda: Connection(build())
        self._longest_wait_seconds = longest_wait_seconds
        self._free = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()
        # The first one is built now, so that wrong settings raise at once.
        self._idle = [self._build()]
        self._is_closed = False

    @contextmanager
    def lend(self, *, fresh: bool = False) -> Iterator[Connection]:
        """Lend a connection for one exchange; with ``fresh`` a new one that is closed afterwards.

        After an exception the connection is closed: it may hold unread data.
        """
        if not self._free.acquire(timeout=self._longest_wait_seconds):
            raise httpx.PoolTimeout(f"all connections were busy for {self._longest_wait_seconds:g} s")
        try:
            connection = self._build() if fresh else self._take()
            is_good = False
            try:
                yield connection
                is_good = not fresh
            finally:
                self._give_back(connection, is_good=is_good)
        finally:
            self._free.release()

    @property
    def is_closed(self) -> bool:
        """Return whether ``close`` has been called."""
        return self._is_closed

    def close(self) -> None:
        """Close the idle connections now, and the lent ones when they are returned."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> Connection:
        with self._lock:
            if self._idle:
                # The last returned connection is the most likely to be open still.
                return self._idle.pop()
        return self._build()

    def _give_back(self, connection: Connection, *, is_good: bool) -> None:
        with self._lock:
            if is_good and not self._is_closed:
                self._idle.append(connection)
                return
        connection.close()


def new_client(
    base_url: httpx.URL, api_key: SecretStr | str, auth: AuthStyle, timeout: httpx.Timeout, verify: ssl.SSLContext
) -> httpx.Client:
    """Return a client that holds one connection and sends the key to its own host only."""
    return httpx.Client(
        base_url=base_url,
        headers={
            **key_header(reveal_key(api_key), auth),
            "User-Agent": "batchkit",
            "Accept-Encoding": ENCODINGS,
        },
        timeout=timeout,
        limits=httpx.Limits(max_connections=1),
        follow_redirects=False,
        verify=verify,
        # No cookie is kept: the API needs none, and one that is not ASCII would break every later request.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        # The proxy is the only thing that the environment decides here.
        proxy=proxy_of(base_url),
        trust_env=False,
    )


def key_header(key: str, auth: AuthStyle) -> dict[str, str]:
    """Return the one header that has the key."""
    return {"api-key": key} if auth is AuthStyle.API_KEY else {"Authorization": f"Bearer {key}"}


def trust(base_url: httpx.URL) -> ssl.SSLContext:
    """Return the TLS context by the settings of the environment. Raises the errors of wrong settings."""
    if base_url.scheme == "https":
        return httpx.create_ssl_context()
    # Plain HTTP needs no certificates, and reading them takes longer than a call; this context trusts none.
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
