"""Connections that no two threads use at the same time.

One HTTPX client serves many threads by its documentation, but the pool below it looks whether a connection is idle and then,
without holding it, whether it has been hung up. When another thread takes the connection in between and its reply arrives, the
pool takes the reply for a hang-up and closes the connection under that thread (httpcore 1.0.9; eight threads over two
connections see some 25 ``Bad file descriptor`` in 9,000 calls). So each client here holds one connection and is lent to one
thread.
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

from batchkit.provider.access import is_loopback, reveal_key
from batchkit.provider.reading import ENCODINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pydantic import SecretStr

#: Events after which the library holds another stream (https://www.python-httpx.org/advanced/extensions/#trace).
_OPENED = ("connect_tcp.complete", "start_tls.complete")


class Connection:
    """A client with one connection, for one exchange at a time, which ends in a given time whatever the server does.

    The library's time-outs are about silence: a server that sends a byte now and then keeps a call for ever, be it within the
    headers, where nobody but the library sees the bytes. So the socket is shut down by another thread when the time is over.
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
        """Whether the time was over before the exchange was; what came until then may be a part of what was sent."""
        return self._is_cut

    @contextmanager
    def exchange(self, method: str, path: str, *, seconds: float, **content: Any) -> Iterator[httpx.Response]:
        """Send a request to ``path`` below the base URL and yield the response, its body unread.

        Raises ``httpx.ReadTimeout`` when the block has not been left after ``seconds``, and what ``httpx.Client.stream`` does.
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
        """Count anew: the present exchange is cut ``seconds`` from now."""
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
            # One that was stopped or replaced as it fired is about an exchange that is over.
            if self._timer is threading.current_thread():
                self._is_cut = True
                self._shut_down()

    def _shut_down(self) -> None:
        if self._stream is not None:
            # A TLS socket's own method would take its state away under the thread that reads.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._stream.get_extra_info("socket"), socket.SHUT_RDWR)


class Connections:
    """Lends connections, ``most`` at the same time; who waits longer than ``patience_seconds`` gets ``httpx.PoolTimeout``."""

    def __init__(self, build: Callable[[], httpx.Client], *, most: int, patience_seconds: float) -> None:
        self._build: Callable[[], Connection] = lambda: Connection(build())
        self._patience_seconds = patience_seconds
        self._free = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()
        # The first one shows at once whether a client can be built at all.
        self._idle = [self._build()]
        self._is_closed = False

    @contextmanager
    def lend(self, *, fresh: bool = False) -> Iterator[Connection]:
        """Lend a connection for one exchange; ``fresh`` gives one that was never connected and will not be used again.

        After an exception it is thrown away, for nobody knows what is still on it.
        """
        if not self._free.acquire(timeout=self._patience_seconds):
            raise httpx.PoolTimeout(f"all connections were busy for {self._patience_seconds:g} s")
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
        """Whether ``close`` has been called."""
        return self._is_closed

    def close(self) -> None:
        """Close the idle connections now, and those that are lent as they come back."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> Connection:
        with self._lock:
            if self._idle:
                # The last one back is the one whose connection is most likely still open.
                return self._idle.pop()
        return self._build()

    def _give_back(self, connection: Connection, *, is_good: bool) -> None:
        with self._lock:
            if is_good and not self._is_closed:
                self._idle.append(connection)
                return
        connection.close()


def new_client(
    base_url: httpx.URL, api_key: SecretStr | str, timeout: httpx.Timeout, verify: ssl.SSLContext
) -> httpx.Client:
    """Make a client that holds one connection and sends the key to its own host only."""
    return httpx.Client(
        base_url=base_url,
        headers={
            "Authorization": f"Bearer {reveal_key(api_key)}",
            "User-Agent": "batchkit",
            "Accept-Encoding": ENCODINGS,
        },
        timeout=timeout,
        limits=httpx.Limits(max_connections=1),
        follow_redirects=False,
        verify=verify,
        # None is kept: the API needs none, and one that is no ASCII would break every later request.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        # A proxy from the environment would get to see the key that must not leave this machine.
        trust_env=not is_loopback(base_url.host),
    )


def trust(base_url: httpx.URL) -> ssl.SSLContext:
    """Make the context that judges certificates, as the environment says. Raises what a wrong setting there raises."""
    if base_url.scheme == "https":
        return httpx.create_ssl_context()
    # Plain HTTP needs no certificates, and reading them takes longer than a call; this context trusts nobody.
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
