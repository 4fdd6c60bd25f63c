"""The schedule in one process: a pass over the open workloads every so often.

Each workload is advanced in a thread of its own. One whose wave takes long is left out of the next passes until it ends, and
one that failed until its next try: neither keeps the others waiting. For several machines see ``flows/prefect.yaml``.
"""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from batchkit.api.collecting import Collected, collect, is_due
from batchkit.api.finishing import is_about_all, log_trouble, on_finished
from batchkit.engine.budget_texts import budget_text
from batchkit.engine.driving import NOTIFY_SECONDS
from batchkit.engine.observer import DO_NOTHING, Observer, Observers
from batchkit.engine.progress import WorkloadState
from batchkit.engine.runtime import Runner
from batchkit.engine.threads import WorkStopped
from batchkit.engine.waits import Retries, Slots
from batchkit.engine.waves import Done, DriveUntil
from batchkit.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from batchkit.engine.progress import Progress
    from batchkit.models import Workload, WorkloadId
    from batchkit.settings import Settings

#: How long a pass waits for its workloads, if the interval is not longer: those that take longer continue beside the next one.
_PASS_SECONDS = 5.0
#: How long running work gets to end in order when the schedule is stopped; then it is left, and how long the leases get.
_STOP_SECONDS = 2.0
_CLOSE_SECONDS = 2.0
_FIRST_RETRY_SECONDS = 1.0
#: A signal is handled within this time at the latest.
_SIGNAL_SECONDS = 0.5


def serve(
    settings: Settings,
    *,
    interval_seconds: float,
    on_note: Callable[[str], None],
    observer: Observer = DO_NOTHING,
    ticks: int | None = None,
) -> None:
    """Take every open workload one pass further every ``interval_seconds``, until Ctrl-C or SIGTERM, or for ``ticks`` passes.

    Runs of suites whose answers are all there are scored after a pass. An outage of the provider or of the database is a note, and the
    next pass comes all the same. Any error of one workload is a note, and that workload is tried again after a growing wait.
    ``on_note`` and ``observer`` may be called in any thread. The first Ctrl-C or SIGTERM gives running waves two seconds to end;
    the second is a ``KeyboardInterrupt``. Raises what opening a ``Runner`` raises.
    """
    Schedule(settings, interval_seconds=interval_seconds, on_note=on_note, observer=observer).run(ticks)


@dataclass(frozen=True, slots=True)
class _Advanced:
    """What a pass came to for one workload: where it stands, sentences for the user, and what is away, if anything."""

    progress: Progress
    notes: tuple[str, ...] = ()
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class _Ended:
    """How a thread of a pass ended: ``key`` is the workload, None for evaluations; ``result`` is None when it was stopped before."""

    key: WorkloadId | None
    name: str
    result: _Advanced | list[Collected] | None = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class _LoopEnded:
    """The passes have ended; ``error`` is a bug of theirs."""

    error: Exception | None


class Schedule:
    """Runs passes until it is stopped; ``interval_seconds`` lie between the starts of two. See ``serve``."""

    def __init__(
        self,
        settings: Settings,
        *,
        interval_seconds: float,
        on_note: Callable[[str], None],
        observer: Observer = DO_NOTHING,
        pass_seconds: float = _PASS_SECONDS,
    ) -> None:
        self._settings = settings
        self._interval_seconds = interval_seconds
        self._on_note = on_note
        self._observer = Observers(observer)
        self._pass_seconds = pass_seconds
        first_retry = max(interval_seconds, _FIRST_RETRY_SECONDS)
        self._retries: Retries[WorkloadId] = Retries(first_retry)
        self._evaluation_retries: Retries[str] = Retries(first_retry)
        self._troubles: dict[str, str] = {}
        self._said: set[str] = set()
        self._saying: set[str] = set()
        self._lock = threading.Lock()
        self._slots: Slots[WorkloadId | None] = Slots()
        self._under_way: set[WorkloadId | None] = set()
        #: For the thread of the passes: threads that have ended, None to stop.
        self._ended: queue.SimpleQueue[_Ended | None] = queue.SimpleQueue()
        # Not an Event: a signal handler may only use what it cannot find locked. None is a wish to end, else it has ended.
        self._news: queue.SimpleQueue[_LoopEnded | None] = queue.SimpleQueue()
        self._stopping = False
        self._notifying: threading.Thread | None = None

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
                ended = self._next_news()
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

    def _next_news(self) -> _LoopEnded | None:
        """Wait for the end of the passes, or for a signal.

        In steps: a signal that another thread of the process takes wakes nobody up here, and is handled at the next step.
        """
        while True:
            with suppress(queue.Empty):
                return self._news.get(timeout=_SIGNAL_SECONDS)

    def _stop_all(self, runner: Runner) -> None:
        runner.threads.stopping.set()
        self._ended.put(None)
        give_up_at = time.monotonic() + _STOP_SECONDS
        while (left := give_up_at - time.monotonic()) > 0:
            try:
                if self._news.get(timeout=left) is not None:
                    return
            except queue.Empty:
                return

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
            if self._notifying is not None and not self._stopping:
                self._notifying.join()
                runner.notify(NOTIFY_SECONDS)
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
            self._note(f"this pass could not be finished: {one_line(error)}")
        if not self._stopping:
            self._notify(runner)

    def _pass(self, runner: Runner, give_up_at: float) -> None:
        workloads = [
            workload
            for workload in runner.open_workloads()
            if workload.id not in self._under_way and self._retries.left_seconds(workload.id) <= 0
        ]
        if not workloads:
            return
        self._observer.pass_began(workloads)
        waiting = deque(workloads)
        while waiting and not self._stopping:
            if self._slots.take(waiting[0].id):
                workload = waiting.popleft()
                self._begin(workload.id, workload.name, partial(self._advance, runner, workload))
            else:
                self._handle_until(
                    time.monotonic() + self._slots.wait_seconds(), lambda: self._slots.wait_seconds() <= 0
                )
        ids = {workload.id for workload in workloads}
        self._handle_until(give_up_at, lambda: not ids & self._under_way)
        self._observer.pass_ended()

    def _notify(self, runner: Runner) -> None:
        """Deliver notifications beside the passes; one delivery at a time."""
        if self._notifying is None or not self._notifying.is_alive():
            deliver = partial(runner.notify, NOTIFY_SECONDS)
            self._notifying = threading.Thread(target=deliver, name="batchkit-notify-pass", daemon=True)
            self._notifying.start()

    def _collect(self, runner: Runner, give_up_at: float) -> None:
        if not is_due(runner, self._evaluation_retries):
            return
        self._begin(None, "evaluations", lambda: collect(runner, self._evaluation_retries))
        self._handle_until(give_up_at, lambda: None not in self._under_way)

    def _begin(self, key: WorkloadId | None, name: str, call: Callable[[], _Advanced | list[Collected] | None]) -> None:
        def work() -> None:
            try:
                self._ended.put(_Ended(key, name, call()))
            except Exception as error:  # noqa: BLE001 - that workload's, whatever it is
                self._ended.put(_Ended(key, name, error=error))

        self._under_way.add(key)
        threading.Thread(target=work, name="batchkit-advance", daemon=True).start()

    def _advance(self, runner: Runner, workload: Workload) -> _Advanced | None:
        """Take a workload one pass further; None when that was stopped."""
        self._observer.began(workload)
        drive = runner.drive(workload.id, until=DriveUntil.ONE_PASS)
        try:
            action = runner.work(drive, self._observer)
        except WorkStopped:
            return None
        except Exception as error:
            self._observer.failed(workload, error)
            raise
        if not isinstance(action, Done):
            raise TypeError("a single pass does not wait")
        progress = action.progress
        self._observer.finished(progress)
        if progress.is_finished:
            return _Advanced(progress, on_finished(runner, progress))
        trouble = runner.trouble(workload.id)
        if progress.state is WorkloadState.STOPPED_BY_BUDGET:
            return _Advanced(progress, trouble=budget_text(progress))
        return _Advanced(progress, trouble=action.outage if trouble is None else trouble.what)

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
        self._under_way.discard(ended.key)
        if ended.key is not None:
            self._slots.give_back(ended.key)
        if ended.error is not None:
            if ended.key is not None and not is_about_all(ended.error):
                self._retries.failed(ended.key)
            self._trouble(ended.name, ended.error)
        elif isinstance(ended.result, list):
            self._troubles.pop(ended.name, None)
            self._collected(ended.result)
        elif ended.result is not None and ended.key is not None:
            self._advanced(ended.name, ended.key, ended.result)

    def _advanced(self, name: str, key: WorkloadId, advanced: _Advanced) -> None:
        self._retries.succeeded(key)
        before = self._troubles.pop(name, None)
        if advanced.trouble is not None:
            # The next pass comes as usual: what is away for a pass is no failure of the workload.
            self._troubles[name] = advanced.trouble
            if before != advanced.trouble:
                self._on_note(f"{name}: {advanced.trouble}")
        for note in advanced.notes:
            self._on_note(note)

    def _collected(self, collected: Sequence[Collected]) -> None:
        for found in collected:
            if found.error is not None:
                self._evaluation_retries.failed(found.run)
                self._trouble(found.run, found.error)
                continue
            self._evaluation_retries.succeeded(found.run)
            if found.summary is not None:
                self._observer.evaluated(found.summary, found.report)
                self._on_note(f"{found.run}: {found.summary.verdict}")

    def _trouble(self, name: str, error: Exception) -> None:
        """Note what is in the way of a workload or run: once, until it is something else or is gone."""
        message = one_line(error)
        if self._troubles.get(name) != message:
            self._troubles[name] = message
            log_trouble(name, error)
            self._on_note(f"{name}: {message}")

    def _note(self, text: str) -> None:
        """Note it for the user, but not at every tick the same. May be called in any thread."""
        with self._lock:
            self._saying.add(text)
            is_known = text in self._said
            self._said.add(text)
        if not is_known:
            self._on_note(text)
