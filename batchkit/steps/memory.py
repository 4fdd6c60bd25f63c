"""What one process remembers between passes. It is lost with the process: nothing is bought or given up because of it."""

from __future__ import annotations

import random
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from batchkit.models import Batch, BatchId, ShardId

T = TypeVar("T")

_FIRST_PAUSE_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 3_600.0
#: After this many unchanged polls the list is not trusted alone: the batch is read individually.
_UNCHANGED_PROBES = 8
#: The same for processes with one pass each: no change of the batch was stored for this long.
_UNCHANGED_SECONDS = 1_800.0
#: The most individual reads per status call: usually, and once the list is known to be stale.
_READS_PER_CALL = 4
_READS_PER_CALL_WHEN_STALE = 50


class BackgroundCalls(Generic[T]):
    """Runs calls in daemon threads called ``name``, one at a time for each key and ``at_most`` at a time in all.

    Transfers within them count apart, also ``at_most`` at a time: slow ones delay no call that has nothing to transfer.
    """

    def __init__(self, at_most: int, *, name: str) -> None:
        self._name = name
        self._free = threading.BoundedSemaphore(at_most)
        self._free_transfers = threading.BoundedSemaphore(at_most)
        self._lock = threading.Lock()
        self._calls: dict[ShardId, Future[T]] = {}

    def begin(self, key: ShardId, call: Callable[[], T]) -> Future[T]:
        """Start a call, or return the future of the one that still runs for this key.

        An ended call is made again: its result may be out of date.
        """
        with self._lock:
            known = self._calls.get(key)
            if known is not None and not known.done():
                return known
            future = self._calls[key] = Future()
        threading.Thread(target=self._run, args=(future, call), name=self._name, daemon=True).start()
        return future

    @contextmanager
    def transferring(self) -> Iterator[None]:
        """Wait until a transfer may begin; until it ends, the call that makes it does not count."""
        self._free.release()
        try:
            with self._free_transfers:
                yield
        finally:
            self._free.acquire()

    def _run(self, future: Future[T], call: Callable[[], T]) -> None:
        with self._free:
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001 - belongs to whoever asks for the result
                future.set_exception(error)
            else:
                future.set_result(result)
        with self._lock:
            self._calls = {key: call for key, call in self._calls.items() if not call.done()}


class ProbeMemory:
    """Remembers how often in a row the list showed each batch unchanged, and which batches were read individually, in what order."""

    def __init__(self) -> None:
        self._unchanged: dict[BatchId, int] = {}
        self._read: dict[BatchId, int] = {}
        self._reads = 0
        self.list_is_stale = False

    def choose(self, watched: Sequence[Batch], *, now: float) -> set[BatchId]:
        """Return the batches of one status call that are read individually although the list shows them: a few at most.

        Those are batches that the list has shown unchanged for long, also to earlier processes (``now`` in Unix seconds). The
        least recently read ones come first, in random order among those that this process never read.
        """
        limit = _READS_PER_CALL_WHEN_STALE if self.list_is_stale else _READS_PER_CALL
        due = [batch.id for batch in watched if self._is_due(batch, now)]
        random.shuffle(due)
        return set(sorted(due, key=lambda batch_id: self._read.get(batch_id, 0))[:limit])

    def _is_due(self, batch: Batch, now: float) -> bool:
        if self.list_is_stale or self._unchanged.get(batch.id, 0) >= _UNCHANGED_PROBES:
            return True
        was_read = batch.id in self._read
        return not was_read and batch.seen_at is not None and now - batch.seen_at >= _UNCHANGED_SECONDS

    def saw(self, batch_id: BatchId, *, changed: bool) -> None:
        """Record whether the list showed a change of a running batch."""
        self._unchanged[batch_id] = 0 if changed else self._unchanged.get(batch_id, 0) + 1

    def read_alone(self, batch_id: BatchId, *, list_was_wrong: bool) -> None:
        """Record that a batch was read individually, and whether that showed a change that the list did not."""
        self._reads += 1
        self._read[batch_id] = self._reads
        self._unchanged[batch_id] = 0
        self.list_is_stale |= list_was_wrong

    def forget(self, batch_id: BatchId) -> None:
        """Forget a batch that has ended."""
        self._unchanged.pop(batch_id, None)
        self._read.pop(batch_id, None)


class FailureMemory:
    """Counts how often in a row the work on each shard ended in an unexpected error."""

    def __init__(self) -> None:
        self._counts: dict[ShardId, int] = {}

    def pause_seconds(self, shard_id: ShardId) -> float:
        """Record one more failure; return the pause before the next try: 5 s, doubling up to an hour."""
        count = self._counts[shard_id] = self._counts.get(shard_id, 0) + 1
        return min(_FIRST_PAUSE_SECONDS * 2.0 ** min(count - 1, 16), _LONGEST_PAUSE_SECONDS)

    def end(self, shard_id: ShardId) -> None:
        """Record that the work on a shard succeeded."""
        self._counts.pop(shard_id, None)
