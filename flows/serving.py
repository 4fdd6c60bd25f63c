"""The schedule in one process: a pass over the open workloads every so often, as a flow when Prefect is there.

Beside a schedule of Prefect's with workers, this costs a sixth of a CPU second for a pass instead of two, cannot fall
behind, and writes nothing to Prefect while no workload is open::

    export PREFECT_API_URL=http://127.0.0.1:4200/api    # `prefect server start`; optional
    batchkit serve --interval 60

Each workload is advanced in a thread of its own. One whose wave takes long is left out of the next passes until it ends, and
one that failed until its next try: neither keeps the others waiting. For several machines see ``prefect.yaml``.
"""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batchkit.engine.runtime import Runner
from batchkit.engine.threads import Crew
from batchkit.engine.waits import Retries, Slots

from .adapter import Job
from .collecting import collecting
from .foreground import Foreground
from .passing import is_of_all, job_of, log_trouble, message_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from batchkit.models import WorkloadId
    from batchkit.settings import Settings

    from .collecting import Finding
    from .engine import Engine
    from .passing import Advanced

#: How long a pass waits for its flow to begin.
_PATIENCE_SECONDS = 10.0
#: How long a pass waits for its workloads, if the interval is not longer: those that take longer continue beside the next one.
_PASS_SECONDS = 5.0
#: How long what is under way gets to end in order when the schedule is stopped; then it is left, and how long the leases get.
_STOP_SECONDS = 2.0
_CLOSE_SECONDS = 2.0
_FIRST_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Task:
    """What one thread does in a pass: advance the workload ``key``, or collect evaluations when that is None."""

    key: WorkloadId | None
    name: str
    job: Job[Any]
    foreground: Foreground


@dataclass(frozen=True, slots=True)
class _Ended:
    """How a task ended; ``result`` is None when it was stopped before."""

    task: _Task
    result: Any = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class _LoopEnded:
    """The passes have ended; ``error`` is a bug of theirs."""

    error: Exception | None


class _FlowOwner:
    """Passes on to all tasks of a pass what its one flow says."""

    def __init__(self, note: Callable[[str], None], foregrounds: Sequence[Foreground]) -> None:
        self.note = note
        self._foregrounds = foregrounds

    def begin_without(self) -> None:
        for foreground in self._foregrounds:
            foreground.begin_without()

    def flow_ended(self) -> None:
        for foreground in self._foregrounds:
            foreground.flow_ended()


class Schedule:
    """Runs passes until it is stopped; ``interval_seconds`` lie between the starts of two.

    ``has_evaluations`` says whether runs of suites wait to be scored, but for those that wait for their next try: that is then
    done after the pass. ``on_note`` may be called in any thread.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        *,
        interval_seconds: float,
        on_note: Callable[[str], None],
        has_evaluations: Callable[[Runner, Retries[str]], bool] = lambda _runner, _retries: False,
        pass_seconds: float = _PASS_SECONDS,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._interval_seconds = interval_seconds
        self._on_note = on_note
        self._has_evaluations = has_evaluations
        self._pass_seconds = pass_seconds
        first_retry = max(interval_seconds, _FIRST_RETRY_SECONDS)
        self._retries: Retries[WorkloadId] = Retries(first_retry)
        self._evaluation_retries: Retries[str] = Retries(first_retry)
        self._troubles: dict[str, str] = {}
        self._said: set[str] = set()
        self._saying: set[str] = set()
        self._lock = threading.Lock()
        self._slots: Slots[WorkloadId | None] = Slots()
        self._under_way: dict[WorkloadId | None, _Task] = {}
        #: For the thread of the passes: tasks that have ended, None to stop.
        self._ended: queue.SimpleQueue[_Ended | None] = queue.SimpleQueue()
        # Not an Event: a signal handler may only use what it cannot find locked. None is a wish to end, else it has ended.
        self._news: queue.SimpleQueue[_LoopEnded | None] = queue.SimpleQueue()
        self._stopping = False

    def run(self, ticks: int | None) -> None:
        """Run ``ticks`` passes, None for no end. Raises ``KeyboardInterrupt`` at a second Ctrl-C.

        At the first Ctrl-C or SIGTERM what is under way gets a few seconds to end in order. What takes longer is left as by a
        death of the process, but with its leases given up: the caller must end the process.
        """
        runner = Runner(self._settings, verb="serve")
        close_within = _CLOSE_SECONDS
        try:
            with self._signals():
                threading.Thread(target=self._loop, args=(runner, ticks), name="batchkit-schedule", daemon=True).start()
                ended = self._news.get()
                if ended is None:
                    self._stop_all(runner)
                elif ended.error is not None:
                    raise ended.error
        except KeyboardInterrupt:
            close_within = _CLOSE_SECONDS / 2
            raise
        finally:
            closing = threading.Thread(target=runner.close, name="batchkit-close", daemon=True)
            closing.start()
            closing.join(close_within)

    # In the main thread

    def _stop_all(self, runner: Runner) -> None:
        self._engine.is_stopped = True
        runner.crew.stopping.set()
        self._ended.put(None)
        with self._lock:
            under_way = list(self._under_way.values())
        for task in under_way:
            task.foreground.stop()
        give_up_at = time.monotonic() + _STOP_SECONDS
        while (left := give_up_at - time.monotonic()) > 0:
            try:
                if self._news.get(timeout=left) is not None:
                    return
            except queue.Empty:
                break
        for task in under_way:
            task.foreground.abandon()

    def _stop(self, _number: int, _frame: object) -> None:
        if self._stopping:
            raise KeyboardInterrupt
        self._stopping = True
        self._news.put(None)

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

    # In the thread of the passes

    def _loop(self, runner: Runner, ticks: int | None) -> None:
        error: Exception | None = None
        try:
            done = 0
            while not self._stopping:
                started = time.monotonic()
                self._tick(runner)
                done += 1
                if done == ticks:
                    break
                self._handle_until(started + self._interval_seconds)
            while self._under_way:
                self._handle(self._ended.get())
        except Exception as met:  # noqa: BLE001 - raised in the thread that waits for us
            error = met
        self._news.put(_LoopEnded(error))

    def _tick(self, runner: Runner) -> None:
        with self._lock:
            self._said, self._saying = self._saying, set()
        give_up_at = time.monotonic() + max(self._pass_seconds, self._interval_seconds)
        try:
            self._pass(runner, give_up_at)
            if not self._stopping and None not in self._under_way:
                self._collect(runner, give_up_at)
        except Exception as error:  # noqa: BLE001 - the next tick comes, whatever this one met
            log_trouble("this pass", error)
            self._note(f"this pass could not be finished: {message_of(error)}")

    def _pass(self, runner: Runner, give_up_at: float) -> None:
        tasks = [
            self._task(workload.id, workload.name, job_of(runner, workload))
            for workload in runner.open_workloads()
            if workload.id not in self._under_way and self._retries.left_seconds(workload.id) <= 0
        ]
        if not tasks:
            return
        self._start_flow(tasks, lambda: _load_advance_workloads(self._interval_seconds))
        waiting = deque(tasks)
        while waiting and not self._stopping:
            if self._slots.take(waiting[0].key):
                self._begin(waiting.popleft())
            else:
                self._handle_until(
                    time.monotonic() + self._slots.wait_seconds(), lambda: self._slots.wait_seconds() <= 0
                )
        for task in waiting:
            task.foreground.abandon()
        self._handle_until(give_up_at, lambda: not any(task is self._under_way.get(task.key) for task in tasks))

    def _collect(self, runner: Runner, give_up_at: float) -> None:
        if not self._has_evaluations(runner, self._evaluation_retries):
            return
        task = self._task(None, "evaluations", Job(runner, collecting(runner, self._evaluation_retries), names={}))
        self._start_flow([task], lambda: load_collect_evaluations(self._interval_seconds))
        self._begin(task)
        self._handle_until(give_up_at, lambda: None not in self._under_way)

    def _task(self, key: WorkloadId | None, name: str, job: Job[Any]) -> _Task:
        # With threads of its own: what it waits for at its end must not be another workload's.
        return _Task(key, name, job, Foreground(self._note, Crew(), patience_seconds=_PATIENCE_SECONDS))

    def _start_flow(
        self, tasks: Sequence[_Task], load_flow: Callable[[], Callable[[], Coroutine[Any, Any, None]]]
    ) -> None:
        owner = _FlowOwner(self._note, [task.foreground for task in tasks])
        self._engine.start([(task.job, task.foreground) for task in tasks], owner, load_flow)

    def _begin(self, task: _Task) -> None:
        with self._lock:
            self._under_way[task.key] = task
            if self._stopping:
                task.foreground.stop()
        threading.Thread(target=self._work, args=(task,), name="batchkit-advance", daemon=True).start()

    def _work(self, task: _Task) -> None:
        try:
            self._ended.put(_Ended(task, task.foreground.work(task.job)))
        except Exception as error:  # noqa: BLE001 - that workload's, whatever it is
            self._ended.put(_Ended(task, error=error))

    def _handle_until(self, moment: float, is_over: Callable[[], bool] = lambda: False) -> None:
        """Handle tasks as they end, until ``is_over``, a moment of ``time.monotonic``, or the wish to end."""
        while not self._stopping and not is_over() and (left := moment - time.monotonic()) > 0:
            try:
                self._handle(self._ended.get(timeout=left))
            except queue.Empty:
                return

    def _handle(self, ended: _Ended | None) -> None:
        if ended is None:
            return
        task = ended.task
        with self._lock:
            del self._under_way[task.key]
        if task.key is not None:
            self._slots.give_back(task.key)
        if ended.error is not None:
            if task.key is not None and not is_of_all(ended.error):
                self._retries.failed(task.key)
            self._trouble(task.name, ended.error)
        elif ended.result is not None:
            if task.key is None:
                self._troubles.pop(task.name, None)
                self._collected(ended.result)
            else:
                self._advanced(task, task.key, ended.result)

    def _advanced(self, task: _Task, key: WorkloadId, advanced: Advanced) -> None:
        self._retries.succeeded(key)
        before = self._troubles.pop(task.name, None)
        if advanced.trouble is not None:
            # The next pass comes as usual: what is away for a pass is no failure of the workload.
            self._troubles[task.name] = advanced.trouble
            if before != advanced.trouble:
                self._on_note(f"{task.name}: {advanced.trouble}")
        for note in advanced.notes:
            self._on_note(note)

    def _collected(self, findings: Sequence[Finding]) -> None:
        for found in findings:
            if found.error is not None:
                self._evaluation_retries.failed(found.run)
                self._trouble(found.run, found.error)
                continue
            self._evaluation_retries.succeeded(found.run)
            if found.summary is not None:
                self._on_note(f"{found.run}: {found.summary.verdict}")

    def _trouble(self, name: str, error: Exception) -> None:
        """Tell what is in the way of a workload or run: once, until it is something else or is gone."""
        message = message_of(error)
        if self._troubles.get(name) != message:
            self._troubles[name] = message
            log_trouble(name, error)
            self._on_note(f"{name}: {message}")

    def _note(self, text: str) -> None:
        """Tell the user, but not at every tick the same. May be called in any thread."""
        with self._lock:
            self._saying.add(text)
            is_known = text in self._said
            self._said.add(text)
        if not is_known:
            self._on_note(text)


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
