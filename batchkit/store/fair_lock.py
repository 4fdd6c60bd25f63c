"""A first-in, first-out lock for the threads of one process."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(eq=False, slots=True)
class _Waiter:
    thread: int = field(default_factory=threading.get_ident)
    is_first: threading.Event = field(default_factory=threading.Event)


class FairLock:
    """A first-in, first-out lock: threads get it in the order in which they ask.

    SQLite gives its write lock to whoever asks at the right moment, and its waiters ask only every tenth of a second: behind a
    thread that writes one long transaction after another they would wait until their timeout. ``threading.Lock`` is no
    better: the thread that releases it may take it again before the waiters have woken up.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: The first one holds the lock, the others wait.
        self._queue: list[_Waiter] = []

    @contextmanager
    def hold(self, longest_wait_seconds: float) -> Iterator[None]:
        """Hold the lock during the ``with`` block; enter without it after ``longest_wait_seconds``. Do not nest."""
        waiter = _Waiter()
        try:
            if not self._enqueue(waiter):
                waiter.is_first.wait(longest_wait_seconds)
            yield
        finally:
            self._dequeue(waiter)

    def _enqueue(self, waiter: _Waiter) -> bool:
        """Add a waiter; return whether it is the first. An entry that a Ctrl-C left behind for the same thread is dropped."""
        with self._lock:
            self._queue = [other for other in self._queue if other.thread != waiter.thread] + [waiter]
            self._queue[0].is_first.set()
            return self._queue[0] is waiter

    def _dequeue(self, waiter: _Waiter) -> None:
        with self._lock:
            self._queue = [other for other in self._queue if other is not waiter]
            if self._queue:
                self._queue[0].is_first.set()
