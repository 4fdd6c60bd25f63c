"""The schedule in one process: a pass over the open workloads every so often, as a flow when Prefect is there.

Beside a schedule of Prefect's with workers, this costs a sixth of a CPU second for a pass instead of two, cannot fall
behind, and writes nothing to Prefect while no workload is open::

    export PREFECT_API_URL=http://127.0.0.1:4200/api    # `prefect server start`; optional
    batchkit serve --interval 60

For several machines see ``prefect.yaml``.
"""

from __future__ import annotations

import queue
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from batchkit.errors import BatchkitError
from batchkit.runner import Runner

from .adapter import Job, Pass, one_pass
from .collecting import collecting
from .foreground import Foreground

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from batchkit.models import WorkloadId
    from batchkit.settings import Settings

    from .engine import Engine

#: How long a pass waits for its flow to begin.
_PATIENCE_SECONDS = 10.0


class Schedule:
    """Runs passes until it is stopped; ``interval_seconds`` lie between the starts of two, or the longer of the two.

    ``has_evaluations`` says whether runs of suites wait to be scored: that is then done after the pass.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        *,
        interval_seconds: float,
        on_note: Callable[[str], None],
        has_evaluations: Callable[[Runner], bool] = lambda _runner: False,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._interval_seconds = interval_seconds
        self._on_note = on_note
        self._has_evaluations = has_evaluations
        self._said: set[str] = set()
        self._saying: set[str] = set()
        # Not an Event: a signal handler may only use what it cannot find locked.
        self._stops: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._stopping = False
        self._foreground: Foreground | None = None

    def run(self, ticks: int | None) -> None:
        """Run ``ticks`` passes, None for no end. Raises ``KeyboardInterrupt`` at a second Ctrl-C."""
        with Runner(self._settings) as runner, self._signals():
            done = 0
            while not self._stopping:
                started = time.monotonic()
                self._tick(runner)
                done += 1
                if done == ticks:
                    return
                self._pause(started + self._interval_seconds - time.monotonic())

    def _tick(self, runner: Runner) -> None:
        self._saying = set()
        try:
            if runner.open_workloads():
                self._pass(runner)
            if not self._stopping and self._has_evaluations(runner):
                self._collect(runner)
        except Exception as error:  # noqa: BLE001 - the next tick comes, whatever this one met
            self._note(f"this pass could not be finished: {_words(error)}")
        self._said = self._saying

    def _pass(self, runner: Runner) -> None:
        names: dict[WorkloadId, str] = {}
        job: Job[Pass] = Job(runner, one_pass(runner, names), names=names)
        self._foreground = Foreground(self._note, runner.crew, patience_seconds=_PATIENCE_SECONDS)
        if self._stopping:
            return
        self._engine.start(job, self._foreground, lambda: _load_advance_workloads(self._interval_seconds))
        came_to = self._foreground.work(job)
        if came_to is None:
            return
        for progress in came_to.pictures:
            if progress.is_finished:
                self._on_note(f"{progress.workload.name}: finished, {progress.counts.succeeded:,} succeeded")
        for workload, error in came_to.problems:
            self._note(f"{workload.name}: {_words(error)}")

    def _collect(self, runner: Runner) -> None:
        job = Job(runner, collecting(runner), names={})
        self._foreground = Foreground(self._note, runner.crew, patience_seconds=_PATIENCE_SECONDS)
        self._engine.start(job, self._foreground, lambda: load_collect_evaluations(self._interval_seconds))
        for found in self._foreground.work(job) or ():
            if found.summary is not None:
                self._on_note(f"{found.run}: {found.summary.verdict}")
            elif found.error is not None:
                self._note(f"{found.run}: {_words(found.error)}")

    def _note(self, text: str) -> None:
        """Tell the user, but not at every tick the same."""
        self._saying.add(text)
        if text not in self._said:
            self._on_note(text)

    def _pause(self, seconds: float) -> None:
        try:
            self._stops.get(timeout=max(seconds, 0))
        except queue.Empty:
            return

    def _stop(self, _number: int, _frame: object) -> None:
        if self._stopping:
            raise KeyboardInterrupt
        self._stopping = True
        self._stops.put(None)
        if self._foreground is not None:
            self._foreground.stop()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Take Ctrl-C and SIGTERM as wishes to end, in the main thread; elsewhere they are somebody else's."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _load_advance_workloads(interval_seconds: float) -> Callable[[], Coroutine[Any, Any, None]]:
    from .advance_workloads import advance_workloads  # noqa: PLC0415 - imports Prefect

    async def call() -> None:
        await advance_workloads(interval_seconds, return_state=True)

    return call


def load_collect_evaluations(interval_seconds: float) -> Callable[[], Coroutine[Any, Any, None]]:
    """Give what calls the flow that collects evaluations; loads Prefect."""
    from .evaluate import collect_evaluations  # noqa: PLC0415 - imports Prefect

    async def call() -> None:
        await collect_evaluations(interval_seconds, return_state=True)

    return call


def _words(error: Exception) -> str:
    if isinstance(error, BatchkitError):
        return " ".join(filter(None, (error.message, error.hint and f"({error.hint})")))
    return f"{type(error).__name__}: {error}"
