"""The Prefect server that this process reports to: the configured one, a temporary one, or none."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from .temporary_server import TemporaryServer, TemporaryServerFailed

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

_HEALTHY_WITHIN_SECONDS = 2.0
_READY_WITHIN_SECONDS = 90.0
#: Two notes, so that the command fits in 80 columns.
_HINT = (
    "Prefect: no server is configured, so a temporary one records this run. For a lasting UI run `prefect server start`, then",
    "export PREFECT_API_URL=http://127.0.0.1:4200/api",
)
#: A file in the home that records that the hint was given.
_HINT_GIVEN = "prefect-hint-given"


class NoServer(Exception):
    """There is no server to report to; the message is for the user."""


class ServerChoice:
    """The server of this process: the configured one, or a temporary one, which is started at first use.

    ``home`` holds the record of a temporary server.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._temporary: TemporaryServer | None = None
        self._given_up = False

    def choose(self, *, on_note: Callable[[str], None], is_leaving: threading.Event) -> str:
        """Return the address of the server's API. Blocks until it answers, or ``is_leaving`` is set.

        ``on_note`` receives notes for the user. Raises ``NoServer``.
        """
        url: str | None = PREFECT_API_URL.value()
        if not url:
            return self._start(on_note, is_leaving).api_url
        if not anyio.run(_is_healthy):
            raise NoServer(f"the Prefect server at {_without_password(url)} does not answer")
        return url

    def close(self) -> None:
        """End the temporary server, if there is one."""
        if self._temporary is not None:
            self._temporary.stop(0)

    def _start(self, on_note: Callable[[str], None], is_leaving: threading.Event) -> TemporaryServer:
        """Start the temporary server, at most once in this process."""
        if self._given_up:
            raise NoServer("the temporary Prefect server is gone")
        try:
            if self._temporary is None:
                self._temporary = TemporaryServer.start(self._home)
                self._give_hint(on_note)
            self._temporary.wait_until_ready(_READY_WITHIN_SECONDS, sleep=is_leaving.wait)
        except TemporaryServerFailed as error:
            self._given_up = True
            raise NoServer(f"a temporary Prefect server could not be started: {error}") from error
        return self._temporary

    def _give_hint(self, on_note: Callable[[str], None]) -> None:
        """Give the hint about a permanent server, once per home."""
        # The file is there if it was given; a home that cannot be written to is no reason to fail, or to repeat it at every run.
        with suppress(OSError):
            (self._home / _HINT_GIVEN).touch(exist_ok=False)
            for line in _HINT:
                on_note(line)


async def _is_healthy() -> bool:
    with anyio.move_on_after(_HEALTHY_WITHIN_SECONDS), temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        async with get_client() as client:
            return await client.api_healthcheck() is None
    return False


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
