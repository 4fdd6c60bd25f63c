"""Connections that no two threads use at the same time.

One HTTPX client serves many threads by its documentation, but the pool below it looks whether a connection is idle and then,
without holding it, whether it has been hung up. When another thread takes the connection in between and its reply arrives, the
pool takes the reply for a hang-up and closes the connection under that thread (httpcore 1.0.9; eight threads over two
connections see some 25 ``Bad file descriptor`` in 9,000 calls). So each client here holds one connection and is lent to one
thread.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Connections:
    """Lends clients, ``most`` at the same time; who waits longer than ``patience_seconds`` gets ``httpx.PoolTimeout``."""

    def __init__(self, build: Callable[[], httpx.Client], *, most: int, patience_seconds: float) -> None:
        self._build = build
        self._patience_seconds = patience_seconds
        self._free = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()
        # The first one shows at once whether a client can be built at all.
        self._idle = [build()]
        self._is_closed = False

    @contextmanager
    def lend(self, *, fresh: bool = False) -> Iterator[httpx.Client]:
        """Lend a client for one exchange; ``fresh`` gives one that has never been connected and will not be used again.

        After an exception the client is thrown away, for nobody knows what is still on its connection.
        """
        if not self._free.acquire(timeout=self._patience_seconds):
            raise httpx.PoolTimeout(f"all connections were busy for {self._patience_seconds:g} s")
        try:
            client = self._build() if fresh else self._take()
            is_good = False
            try:
                yield client
                is_good = not fresh
            finally:
                self._give_back(client, is_good=is_good)
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
        for client in idle:
            client.close()

    def _take(self) -> httpx.Client:
        with self._lock:
            if self._idle:
                # The last one back is the one whose connection is most likely still open.
                return self._idle.pop()
        return self._build()

    def _give_back(self, client: httpx.Client, *, is_good: bool) -> None:
        with self._lock:
            if is_good and not self._is_closed:
                self._idle.append(client)
                return
        client.close()
