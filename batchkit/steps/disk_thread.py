"""Writing files in a thread, so that the disk and the digests can use another core."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

#: The most pieces that wait to be written; each is at most a block of the input.
_PIECES_AHEAD = 8


class DiskThread:
    """Runs pieces of work one after another in a thread, a few behind the caller. Used as a context manager.

    After a piece failed the following ones are skipped; its error is raised by a later call.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batchkit-disk")
        self._pending: deque[Future[None]] = deque()
        self._has_failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for the running piece; the pieces after it are dropped."""
        self._pool.shutdown(cancel_futures=True)

    def do(self, piece: Callable[[], None]) -> None:
        """Add a piece of work; wait while too many are pending. Raises the error of an earlier piece."""
        if len(self._pending) >= _PIECES_AHEAD:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(self._do, piece))

    def finish(self) -> None:
        """Wait until all pieces are done. Raises the error of a piece."""
        while self._pending:
            self._pending.popleft().result()

    def _do(self, piece: Callable[[], None]) -> None:
        if self._has_failed:
            return
        try:
            piece()
        except BaseException:
            self._has_failed = True
            raise
