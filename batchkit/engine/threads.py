"""Doing several things at the same time: the first in the calling thread, the others beside it in threads of their own."""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


class Crew:
    """Threads that a calling thread can wait for, and ask to come to an end.

    ``stopping`` is set for as long as they are asked to: what they do is expected to look at it.
    """

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._under_way: set[Future[Any]] = set()

    @property
    def is_busy(self) -> bool:
        """Whether something that ``begin`` began has not ended."""
        return bool(self._under_way)

    def begin(self, call: Callable[[], T]) -> Future[T]:
        """Do a call in a thread of its own."""
        future: Future[T] = Future()
        with self._lock:
            self._under_way.add(future)

        def run() -> None:
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001 - belongs to whoever asks for the result
                future.set_exception(error)
            else:
                future.set_result(result)
            finally:
                with self._lock:
                    self._under_way.discard(future)

        threading.Thread(target=run, name="batchkit-wave", daemon=True).start()
        return future

    def do(self, calls: Sequence[Callable[[], T]]) -> list[T | Exception]:
        """Do all calls; gives what each returned or raised, when the last has ended.

        An interrupt is met in the first call or in the wait for the others: it asks them to end, waits until they have,
        and is raised.
        """
        first, *others = calls
        futures = [self.begin(call) for call in others]
        try:
            return [_outcome(first), *(_outcome(future.result) for future in futures)]
        except BaseException:
            self.stop()
            raise

    def wait(self) -> None:
        """Wait until everything that was begun has ended."""
        with self._lock:
            under_way = list(self._under_way)
        wait(under_way)

    def stop(self) -> None:
        """Ask everything that was begun to end as soon as it can, and wait until it has."""
        self.stopping.set()
        try:
            self.wait()
        finally:
            self.stopping.clear()


def _outcome(call: Callable[[], T]) -> T | Exception:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - handed over, for the caller to judge
        return error
