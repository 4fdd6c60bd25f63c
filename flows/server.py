"""Which Prefect server this process reports to: the configured one, a temporary one, or none."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from .temporary_server import TemporaryServer, TemporaryServerFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_HEALTHY_WITHIN_SECONDS = 2.0
_READY_WITHIN_SECONDS = 90.0
_HOW_TO_KEEP = (
    "Prefect: no server is configured, so a temporary one records this run. To watch runs in a lasting UI:"
    " `prefect server start`, then `export PREFECT_API_URL=http://127.0.0.1:4200/api`"
)


class NoServer(Exception):
    """There is no server to report to; the message tells the user why."""


class ServerChoice:
    """The server of this process: found at first use, and looked at again each time.

    ``home`` is where the record of a temporary one is kept.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._temporary: TemporaryServer | None = None
        self._lock = threading.Lock()
        self._given_up = False

    @contextmanager
    def use(self, *, on_note: Callable[[str], None], on_slow_start: Callable[[], None]) -> Iterator[None]:
        """Set the server for what runs within. Blocks until it answers.

        ``on_note`` is told what the user should know; ``on_slow_start`` is called before a wait of many seconds. Raises
        ``NoServer``.
        """
        if url := PREFECT_API_URL.value():
            if not anyio.run(_is_healthy):
                raise NoServer(f"the Prefect server at {_without_password(url)} does not answer")
            yield
            return
        on_slow_start()
        with self._lock:
            temporary = self._start(on_note)
        with temporary_settings({PREFECT_API_URL: temporary.api_url}):
            yield

    def is_lost(self) -> bool:
        """Whether nothing more can be told to the server; one that is still starting is not lost."""
        if PREFECT_API_URL.value():
            return not anyio.run(_is_healthy)
        return self._temporary is None or not self._temporary.is_running

    def close(self, within_seconds: float) -> None:
        """End the temporary server, if there is one."""
        if self._temporary is not None:
            self._temporary.stop(within_seconds)

    def _start(self, on_note: Callable[[str], None]) -> TemporaryServer:
        """Start the temporary server, once in this process."""
        if self._given_up:
            raise NoServer("the temporary Prefect server is gone")
        try:
            if self._temporary is None:
                self._temporary = TemporaryServer.start(self._home)
                on_note(_HOW_TO_KEEP)
            self._temporary.wait_until_ready(_READY_WITHIN_SECONDS, sleep=time.sleep)  # noqa: TID251 - waits for a process
        except TemporaryServerFailed as error:
            self._given_up = True
            raise NoServer(f"a temporary Prefect server could not be started: {error}") from error
        return self._temporary


async def _is_healthy() -> bool:
    with anyio.move_on_after(_HEALTHY_WITHIN_SECONDS), temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        async with get_client() as client:
            return await client.api_healthcheck() is None
    return False


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
