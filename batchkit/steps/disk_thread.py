"""Writing files beside other work: the disk and the digests take their own core."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

#: So much may wait to be written; each piece is a block of the input at most.
_PIECES_AHEAD = 8


class DiskThread:
    """Does pieces of work one after the other in a thread, a few behind whoever asks for them.

    After a piece that failed none of the following is done; its error is raised by a later call. Used as a context manager.
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
        """Wait for the piece that is under way; what was not begun is never done."""
        self._pool.shutdown(cancel_futures=True)

    def do(self, piece: Callable[[], None]) -> None:
        """Take a piece of work; waits while too many are to be done. Raises what an earlier one raised."""
        if len(self._pending) >= _PIECES_AHEAD:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(self._do, piece))

    def finish(self) -> None:
        """Wait until everything is done. Raises what a piece raised."""
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
