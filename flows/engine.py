"""Flows in threads of their own: the engine's start, waits and retries stay there, and must not hold up the process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .adapter import Job
    from .foreground import Foreground
    from .server import ServerChoice

#: Imports a flow and returns what calls it; is called in the flow's thread.
FlowLoader = Callable[[], Callable[[], Coroutine[Any, Any, None]]]

_LOOK_EVERY_SECONDS = 0.5
#: What is kept of the time for ending the temporary server.
_STOP_SHARE = 0.3


class FlowOwner(Protocol):
    """Who began a flow. Each method is called in the flow's thread and returns at once."""

    def note(self, text: str) -> None:
        """Have the user told something."""
        ...

    def begin_without(self) -> None:
        """Let the work begin before the flow does."""
        ...

    def flow_ended(self) -> None:
        """Take note that the flow asks for nothing more."""
        ...


class Engine:
    """Runs flows in this process and ends what they leave. Prefect is imported in their threads, beside the work.

    ``home`` is where the record of a temporary server is kept.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        #: Set when the user does not want to wait for what Prefect still has to send.
        self.is_stopped = False
        self._lock = threading.Lock()
        self._server: ServerChoice | None = None
        self._threads: list[threading.Thread] = []

    def start(self, jobs: Sequence[tuple[Job[Any], Foreground]], owner: FlowOwner, load_flow: FlowLoader) -> None:
        """Begin a flow in a thread; the work on each job is asked of the foreground beside it.

        ``load_flow`` is called in that thread; it imports the flow and returns what calls it. Whatever goes wrong
        with Prefect is a note to the ``owner``, who then works without it.
        """
        thread = threading.Thread(target=self._run, args=(jobs, owner, load_flow), name="batchkit-flow", daemon=True)
        self._threads = [known for known in self._threads if known.is_alive()] + [thread]
        thread.start()

    def finish(self, within_seconds: float) -> None:
        """Let the flows end and Prefect send what is queued, unless its server is gone, and end the temporary server.

        Takes at most ``within_seconds``.
        """
        deadline = time.monotonic() + within_seconds
        drained_by = deadline - within_seconds * _STOP_SHARE
        try:
            self._await_flows(drained_by)
            if self._server is not None and not self._server.is_lost():
                _drain(drained_by - time.monotonic())
        finally:
            if self._server is not None:
                self._server.close(max(deadline - time.monotonic(), 0))

    def _await_flows(self, deadline: float) -> None:
        for thread in self._threads:
            while thread.is_alive() and (left := deadline - time.monotonic()) > 0:
                thread.join(min(left, _LOOK_EVERY_SECONDS))
                if thread.is_alive() and self._server is not None and self._server.is_lost():
                    return

    def _run(self, jobs: Sequence[tuple[Job[Any], Foreground]], owner: FlowOwner, load_flow: FlowLoader) -> None:
        try:
            server = self._choose_server()
            with server.use(on_note=owner.note, on_slow_start=owner.begin_without):
                _run_flow(jobs, load_flow)
        except BaseException as error:  # noqa: BLE001 - nothing that Prefect does ends the work
            owner.note(f"{_words(error)}; the work goes on without Prefect")
        finally:
            owner.flow_ended()

    def _choose_server(self) -> ServerChoice:
        from .server import ServerChoice  # noqa: PLC0415 - imports Prefect, which takes more than a second

        with self._lock:
            if self._server is None:
                self._server = ServerChoice(self.home)
            return self._server


def _run_flow(jobs: Sequence[tuple[Job[Any], Foreground]], load_flow: FlowLoader) -> None:
    from .session import Session, given_sessions  # noqa: PLC0415 - as above

    call = load_flow()
    given_sessions.set(tuple(Session(job, foreground) for job, foreground in jobs))
    asyncio.run(call())


def _words(error: BaseException) -> str:
    from .server import NoServer  # noqa: PLC0415 - as above

    if isinstance(error, NoServer):
        return str(error)
    return f"Prefect failed ({type(error).__name__})"


def _drain(within_seconds: float) -> None:
    """Wait until Prefect's own queues, of log lines and of events, are sent."""

    def drain() -> None:
        from prefect.events.worker import EventsWorker  # noqa: PLC0415 - as above
        from prefect.logging.handlers import APILogWorker  # noqa: PLC0415 - as above

        with contextlib.suppress(Exception):
            APILogWorker.drain_all(timeout=within_seconds)
            EventsWorker.drain_all(timeout=within_seconds)

    if within_seconds > 0:
        thread = threading.Thread(target=drain, name="batchkit-drain", daemon=True)
        thread.start()
        thread.join(within_seconds)
