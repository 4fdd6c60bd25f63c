"""The calling thread's side of a flow that runs in this process.

The engine runs in a thread of its own, because it may hang for minutes at its end when the server is gone; the work is
done here, in the thread that called and beside it. So the verdict is known here first, Ctrl-C meets the work as in the plain loop, and
a flow that does not begin, fails or stalls costs nothing: the plain loop goes on with the same drive.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from batchkit.engine.driver import Wait

from .adapter import HandsWithdrawn

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.engine.threads import Crew

    from .adapter import Job

T = TypeVar("T")
R = TypeVar("R")

_LONGEST_NAP_SECONDS = 1.0
#: How long the flow may take from one request to the next beyond what it was told to wait. A wave that is tried again
#: after trouble with the machine is silent for up to 30 s.
STALL_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class _Request(Generic[T]):
    call: Callable[[], T]
    context: Context
    answer: Future[T]

    def serve(self) -> None:
        """Do the call; an interrupt is raised here and withdraws the hands there."""
        if self.answer.done():
            return
        try:
            result = self.context.run(self.call)
        except Exception as error:  # noqa: BLE001 - belongs to the flow that asked
            _fail(self.answer, error)
        except BaseException:
            _fail(self.answer, HandsWithdrawn())
            raise
        else:
            # The flow may have been told meanwhile that nobody waits for the call.
            with suppress(InvalidStateError):
                self.answer.set_result(result)


def _fail(answer: Future[Any], error: Exception) -> None:
    with suppress(InvalidStateError):
        answer.set_exception(error)


@dataclass(frozen=True, slots=True)
class _News:
    call: Callable[[], object]


class Foreground:
    """Hands for a flow in another thread of this process: whoever calls ``work``, and the threads of ``crew``.

    ``on_note`` is told, in that thread, sentences for the user. ``patience_seconds`` is how long work waits for a flow to
    begin before it starts by itself.
    """

    def __init__(self, on_note: Callable[[str], None], crew: Crew, *, patience_seconds: float) -> None:
        self._on_note = on_note
        self._crew = crew
        self._begin_by = time.monotonic() + patience_seconds
        self._inbox: queue.SimpleQueue[_Request[Any] | _News] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._answers: set[Future[Any]] = set()
        self._withdrawn = False
        self._leads = False
        self._stopping = False

    # For the flow's thread

    @property
    def withdrawn(self) -> bool:
        """Whether ``do`` will raise."""
        return self._withdrawn

    async def do(self, call: Callable[[], T], *, beside: bool = False) -> T:
        """Have a call done in the working thread or ``beside`` it, in this context. Raises what it raises, and ``HandsWithdrawn``."""
        request = _Request(call, copy_context(), Future[T]())
        with self._lock:
            if self._withdrawn:
                raise HandsWithdrawn
            self._answers.add(request.answer)
            if beside:
                self._crew.begin(request.serve)
            else:
                self._inbox.put(request)
        try:
            return await asyncio.wrap_future(request.answer)
        finally:
            self._answers.discard(request.answer)

    def note(self, text: str) -> None:
        """Have the user told something; may be lost when the work is done."""
        self._inbox.put(_News(lambda: self._on_note(text)))

    def begin_without(self) -> None:
        """Let the work begin before the flow does."""
        self._inbox.put(_News(self._lose_patience))

    def flow_ended(self) -> None:
        """Say that the flow asks for nothing more."""
        self._inbox.put(_News(self._take_over))

    # For signal handlers and other threads

    def stop(self) -> None:
        """Make ``work`` return after the present calls; safe in a signal handler."""
        self._stopping = True
        self._inbox.put(_News(lambda: None))

    def abandon(self) -> None:
        """Do nothing more for the flow, which is told so at once; a call that goes on is not waited for."""
        self.stop()
        with self._lock:
            self._withdrawn = True
            answers = list(self._answers)
        for answer in answers:
            _fail(answer, HandsWithdrawn())

    # For the working thread

    def work(self, job: Job[R]) -> R | None:
        """Work until the job is over: as the flow asks, or by itself while there is none.

        Gives the job's result or raises its error; None when stopped before. A ``KeyboardInterrupt`` ends it as soon as what
        is done beside can end.
        """
        try:
            while not job.is_over and not self._stopping:
                if not self._serve_one(job) and not self._leads:
                    self._step(job)
            self._withdraw()
        except BaseException:
            self._withdraw(stopping=True)
            raise
        return job.result() if job.is_over else None

    def _serve_one(self, job: Job[Any]) -> bool:
        """Take one thing out of the inbox and do it; False when nothing came in time."""
        timeout = self._timeout(job)
        try:
            item = self._inbox.get(timeout=timeout) if timeout > 0 else self._inbox.get_nowait()
        except queue.Empty:
            if self._leads and self._crew.is_busy:
                return True
            if self._leads:
                self._on_note("Prefect has stalled; the work goes on without it")
                self._take_over()
                return True
            return False
        match item:
            case _Request():
                self._leads = True
                item.serve()
            case _News():
                item.call()
        return True

    def _timeout(self, job: Job[Any]) -> float:
        now = time.monotonic()
        if self._leads:
            return STALL_SECONDS + job.left_seconds
        if self._begin_by > now:
            return self._begin_by - now
        return min(job.left_seconds, _LONGEST_NAP_SECONDS)

    def _step(self, job: Job[Any]) -> None:
        """Do what is due, without a flow."""
        if time.monotonic() < self._begin_by:
            return
        match job.action():
            case tuple() as waves:
                job.answer(job.runner.run_waves(waves))
            case Wait() if job.left_seconds <= 0:
                job.go_on()

    def _lose_patience(self) -> None:
        self._begin_by = 0.0

    def _take_over(self) -> None:
        self._lose_patience()
        self._leads = False
        self._withdraw()

    def _withdraw(self, *, stopping: bool = False) -> None:
        """Do nothing more for the flow; what is done for it beside comes to its end first, a quick one when ``stopping``."""
        with self._lock:
            self._withdrawn = True
            waiting: list[_Request[Any]] = []
            while True:
                try:
                    item = self._inbox.get_nowait()
                except queue.Empty:
                    break
                if isinstance(item, _Request):
                    waiting.append(item)
        for request in waiting:
            _fail(request.answer, HandsWithdrawn())
        if stopping:
            self._crew.stop()
        else:
            self._crew.wait()
