"""Several workloads driven at the same time in one process: each has a thread of its own while it has work, and none waits for another.

Any error of one workload is that one's: it is reported, and the workload is tried again after a growing wait.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from batchkit.engine.threads import WorkStopped
from batchkit.engine.waits import Countdown, Retries, Slots
from batchkit.engine.waves import Done, Wait
from batchkit.errors import BatchkitError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batchkit.engine.driver import Drive
    from batchkit.engine.observer import Observer
    from batchkit.engine.progress import Progress
    from batchkit.engine.runtime import Runner
    from batchkit.models import Workload, WorkloadId

    #: What one workload came to for now: a wait, its end, or its error.
    Step = Wait | Done | Exception

_logger = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS = 30.0
#: How long work gets to end in order after an interrupt; what takes longer is left, and ends with the process.
_STOP_SECONDS = 2.0

#: Of the process, not of a drive: the exit of the process has to know them.
_left_calls: set[threading.Thread] = set()


def has_left_calls() -> bool:
    """Whether calls are still running that nobody waits for: an ordinary exit of the process would."""
    return any(thread.is_alive() for thread in _left_calls)


def drive_all(
    runner: Runner,
    workloads: Sequence[Workload],
    *,
    observer: Observer,
    stop_at: float | None,
    wait: Callable[[float], object] | None = None,
) -> list[Progress | Exception]:
    """Drive workloads until each is finished or at ``stop_at`` (Unix seconds), or all that are left fail.

    ``wait`` sleeps for seconds, in this thread, while no workload has work. Returns where each one stands or the error that it ended
    with, in their order.
    """
    sleep = wait or threading.Event().wait
    return _Several(runner, workloads, observer=observer, stop_at=stop_at, wait=sleep).run()


def message_of(workload: Workload, error: Exception) -> str:
    """Return what is in the way of a workload and what to do about it, in one line."""
    return f"{workload.name}: {one_line(error)}"


class _Timer:
    """Seconds that only rise; a wait that has returned counts whole, whatever it slept by."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self._ahead

    def wait(self, seconds: float, wait: Callable[[float], object]) -> None:
        began = time.monotonic()
        wait(seconds)
        self._ahead += max(seconds - (time.monotonic() - began), 0.0)


class _Several:
    def __init__(
        self,
        runner: Runner,
        workloads: Sequence[Workload],
        *,
        observer: Observer,
        stop_at: float | None,
        wait: Callable[[float], object],
    ) -> None:
        self._runner = runner
        self._workloads = {workload.id: workload for workload in workloads}
        self._observer = observer
        self._stop_at = stop_at
        self._wait = wait
        self._timer = _Timer()
        self._slots: Slots[WorkloadId] = Slots(self._timer)
        self._retries: Retries[WorkloadId] = Retries(_FIRST_RETRY_SECONDS, self._timer)
        self._drives: dict[WorkloadId, Drive] = {}
        self._ready = deque(self._workloads)
        self._threads: dict[WorkloadId, threading.Thread] = {}
        self._waiting: dict[WorkloadId, Countdown] = {}
        self._failing: dict[WorkloadId, Exception] = {}
        self._ended: dict[WorkloadId, Progress | Exception] = {}
        self._steps: queue.SimpleQueue[tuple[WorkloadId, Step]] = queue.SimpleQueue()

    def run(self) -> list[Progress | Exception]:
        """Drive them all."""
        try:
            while len(self._ended) < len(self._workloads):
                self._begin_what_is_ready()
                if self._threads:
                    self._take_steps(self._shortest_wait())
                elif not self._end_what_only_fails():
                    self._sleep(self._shortest_wait() or 0.0)
                self._wake_up()
        except BaseException:
            self._leave()
            raise
        return [self._ended[workload_id] for workload_id in self._workloads]

    def _begin_what_is_ready(self) -> None:
        while self._ready and self._slots.take(self._ready[0]):
            workload_id = self._ready.popleft()
            thread = threading.Thread(target=self._step, args=(workload_id,), name="batchkit-drive", daemon=True)
            self._threads[workload_id] = thread
            thread.start()

    def _step(self, workload_id: WorkloadId) -> None:
        step: Step
        try:
            if workload_id not in self._drives:
                self._drives[workload_id] = self._runner.drive(workload_id, stop_at=self._stop_at)
                self._observer.began(self._workloads[workload_id])
            step = self._runner.work(self._drives[workload_id], self._observer)
        except WorkStopped:
            return
        except Exception as error:  # noqa: BLE001 - that workload's, whatever it is
            step = error
        self._steps.put((workload_id, step))

    def _take_steps(self, within_seconds: float | None) -> None:
        """Take what the next thread brings, and whatever others have brought by then."""
        try:
            self._take(*self._steps.get(timeout=within_seconds))
            while True:
                self._take(*self._steps.get_nowait())
        except queue.Empty:
            return

    def _take(self, workload_id: WorkloadId, step: Step) -> None:
        del self._threads[workload_id]
        self._slots.give_back(workload_id)
        if isinstance(step, Exception):
            self._fail(workload_id, step)
            return
        self._failing.pop(workload_id, None)
        self._retries.succeeded(workload_id)
        if isinstance(step, Wait):
            self._waiting[workload_id] = Countdown(step.until, self._runner.clock, self._timer)
        else:
            self._observer.finished(step.progress)
            self._ended[workload_id] = step.progress

    def _fail(self, workload_id: WorkloadId, error: Exception) -> None:
        message = message_of(self._workloads[workload_id], error)
        before = self._failing.get(workload_id)
        if before is None or message_of(self._workloads[workload_id], before) != message:
            self._observer.note(message)
            if not isinstance(error, BatchkitError):
                _logger.error("%s; it is tried again later", message, exc_info=error)
        self._observer.failed(self._workloads[workload_id], error)
        # A drive that has raised is over.
        self._drives.pop(workload_id, None)
        self._failing[workload_id] = error
        due_at = self._runner.clock() + self._retries.failed(workload_id)
        if self._stop_at is not None and due_at > self._stop_at:
            self._ended[workload_id] = error
        else:
            self._waiting[workload_id] = Countdown(due_at, self._runner.clock, self._timer)

    def _end_what_only_fails(self) -> bool:
        """End all that are left when each of them fails: nothing here makes progress any more."""
        left = [workload_id for workload_id in self._workloads if workload_id not in self._ended]
        if self._ready or not all(workload_id in self._failing for workload_id in left):
            return False
        self._ended.update({workload_id: self._failing[workload_id] for workload_id in left})
        return True

    def _shortest_wait(self) -> float | None:
        """How long until a workload is due, or there is a slot for one that is ready; None when nothing is waited for."""
        lefts = [countdown.left_seconds for countdown in self._waiting.values()]
        if self._ready:
            lefts.append(self._slots.wait_seconds())
        return min(lefts, default=None)

    def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            self._observer.idle(self._runner.clock() + seconds)
            self._timer.wait(seconds, self._wait)
            self._observer.idle(None)

    def _wake_up(self) -> None:
        for workload_id in [found for found, countdown in self._waiting.items() if countdown.left_seconds <= 0]:
            del self._waiting[workload_id]
            self._ready.append(workload_id)

    def _leave(self) -> None:
        """Ask what is under way to end, and leave what does not within a moment."""
        if not self._threads:
            return
        self._runner.threads.stopping.set()
        give_up_at = time.monotonic() + _STOP_SECONDS
        for thread in self._threads.values():
            thread.join(max(give_up_at - time.monotonic(), 0))
        _left_calls.update(self._threads.values())
