"""Tells open pages that something has changed: one cheap query a second for all of them, and none while no page is open."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Final

from batchkit.errors import BatchkitError
from batchkit.store.overview_rows import ChangeMarker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from batchkit.view.reader import Reader

_POLL_SECONDS: Final = 1.0
#: Without a word for this long, a browser or a proxy may take the connection for dead.
_WORD_SECONDS: Final = 15.0
AWAY: Final = "away"


class Changes:
    """Polls the marker of a database while somebody listens. Each listener gets the newest marker, or ``AWAY``."""

    def __init__(self, reader: Reader, *, poll_seconds: float = _POLL_SECONDS) -> None:
        self._reader = reader
        self._poll_seconds = poll_seconds
        self._lock = threading.Lock()
        self._listeners: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._marker = ""

    @property
    def marker(self) -> str:
        """Return the newest marker; empty before the first one."""
        return self._marker

    def close(self) -> None:
        """Let the listeners and the thread end."""
        self._stopping.set()
        self._tell()

    async def listen(self) -> AsyncIterator[str]:
        """Yield server-sent events: the present marker, then each new one, and a comment now and then."""
        news = asyncio.Event()
        self._join(news)
        told = None
        try:
            yield "retry: 2000\n\n"
            while not self._stopping.is_set():
                try:
                    await asyncio.wait_for(news.wait(), _WORD_SECONDS)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                news.clear()
                marker = self._marker
                if marker and marker != told:
                    told = marker
                    yield f"data: {marker}\n\n"
        finally:
            with self._lock:
                self._listeners.pop(news, None)

    def _join(self, news: asyncio.Event) -> None:
        with self._lock:
            self._listeners[news] = asyncio.get_running_loop()
            if self._marker:
                news.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._poll, name="batchkit-view-changes", daemon=True)
                self._thread.start()

    def _poll(self) -> None:
        marker = ChangeMarker(self._reader.store)
        try:
            while not self._stopping.is_set():
                try:
                    found = self._reader.checked(marker.read)
                except BatchkitError:
                    found = AWAY
                    marker.close()
                if found != self._marker:
                    self._marker = found
                    self._tell()
                self._stopping.wait(self._poll_seconds)
                with self._lock:
                    if not self._listeners:
                        self._thread = None
                        self._marker = ""
                        return
        finally:
            marker.close()

    def _tell(self) -> None:
        with self._lock:
            for news, loop in self._listeners.items():
                if not loop.is_closed():
                    loop.call_soon_threadsafe(news.set)
