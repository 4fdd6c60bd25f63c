"""Daemon threads that take calls: as many as are busy at the same time, kept for the next calls."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class WorkerThreads:
    """Runs calls at the same time, each in its own thread; the calls raise nothing. No call keeps the process from ending."""

    def __init__(self, *, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._busy = 0

    def do(self, call: Callable[[], object]) -> None:
        """Run a call soon, in a thread that is idle or new."""
        with self._lock:
            self._busy += 1
            if self._busy > self._threads:
                self._threads += 1
                threading.Thread(target=self._run, name=self._name, daemon=True).start()
        self._calls.put(call)

    def close(self) -> None:
        """Let the threads end after the calls that were given to them; waits for none."""
        with self._lock:
            for _ in range(self._threads):
                self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            finally:
                with self._lock:
                    self._busy -= 1
