"""Running calls at the same time: the first in the calling thread, the others in their own threads."""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


class WorkStopped(Exception):
    """The work was signalled to stop; its result is not needed."""


class ThreadGroup:
    """Threads that a caller can wait for and signal to stop.

    ``stopping`` is set while they are to stop; the calls are expected to check it.
    """

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._under_way: set[Future[Any]] = set()

    def begin(self, call: Callable[[], T]) -> Future[T]:
        """Start a call in its own thread."""
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
        """Run all calls; return what each returned or raised, in their order, when the last has ended.

        An interrupt arrives in the first call or in the wait for the others: the others are signalled to stop and waited for, then
        the interrupt is raised.
        """
        first, *others = calls
        futures = [self.begin(call) for call in others]
        try:
            return [_outcome(first), *(_outcome(future.result) for future in futures)]
        except BaseException:
            self.stop()
            raise

    def wait(self) -> None:
        """Wait until all started calls have ended."""
        with self._lock:
            under_way = list(self._under_way)
        wait(under_way)

    def stop(self) -> None:
        """Signal all running calls to stop, then wait for them."""
        self.stopping.set()
        try:
            self.wait()
        finally:
            self.stopping.clear()


def _outcome(call: Callable[[], T]) -> T | Exception:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - returned for the caller to judge
        return error
