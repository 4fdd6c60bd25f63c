"""Blocks of an input with the results of their checks: a thread reads ahead, and a second process checks large inputs.

A split spends most of its CPU time on parsing, and the rest waiting for the database. On two cores both happen at the same time.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING

from batchkit.steps.block_check import BlockVerdict, check_block
from batchkit.steps.check_worker import receive_verdict, send

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.files.sources import Block
    from batchkit.preflight import LineRules

#: For smaller inputs a second process takes longer to start than it saves.
WORKER_FROM_BYTES = 50_000_000

#: These hold more lines than one commit of the split, so that the worker does not wait for the commit.
_BLOCKS_AHEAD = 32
_PIPE_BYTES = 1 << 20


def checked_blocks(
    blocks: Iterator[Block], *, rules: LineRules, max_line_bytes: int, input_bytes: int
) -> Iterator[tuple[Block, BlockVerdict]]:
    """Yield every block with the result of its check, in order. Raises what ``blocks`` raises.

    When the worker process cannot be started or ends early, the blocks are checked in this process.
    """
    worker = _start_worker(rules, max_line_bytes) if input_bytes >= WORKER_FROM_BYTES and _cores() > 1 else None
    if worker is None:
        for block in blocks:
            yield block, check_block(block.data, rules=rules, max_line_bytes=max_line_bytes)
        return
    with _sent_ahead(blocks, worker) as (arrived, taken):
        is_alive = True
        while (item := arrived.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            verdict = receive_verdict(_pipe(worker.stdout)) if is_alive else None
            is_alive = verdict is not None
            yield (
                item,
                check_block(item.data, rules=rules, max_line_bytes=max_line_bytes) if verdict is None else verdict,
            )
            taken.release()


@contextmanager
def _sent_ahead(
    blocks: Iterator[Block], worker: subprocess.Popen[bytes]
) -> Iterator[tuple[SimpleQueue[Block | BaseException | None], threading.Semaphore]]:
    """Read in a thread, a few blocks ahead of the consumer who releases the semaphore, and send all blocks to the worker.

    Yields the queue of the blocks, which ends with None or with the error that reading raised.
    """
    arrived: SimpleQueue[Block | BaseException | None] = SimpleQueue()
    taken = threading.Semaphore(_BLOCKS_AHEAD)
    stop = threading.Event()

    def read() -> None:
        is_alive = True
        try:
            for block in blocks:
                taken.acquire()
                if stop.is_set():
                    return
                arrived.put(block)
                if is_alive:
                    try:
                        send(_pipe(worker.stdin), block.data)
                    except OSError:
                        is_alive = False
            arrived.put(None)
        except BaseException as error:  # noqa: BLE001 - raised where the blocks are taken
            arrived.put(error)

    reader = threading.Thread(target=read, name="batchkit-split-reader", daemon=True)
    reader.start()
    try:
        yield arrived, taken
    finally:
        stop.set()
        taken.release()
        worker.kill()
        worker.wait()
        reader.join()
        _pipe(worker.stdout).close()
        with suppress(OSError):  # the rest of its buffer is lost
            _pipe(worker.stdin).close()


def _start_worker(rules: LineRules, max_line_bytes: int) -> subprocess.Popen[bytes] | None:
    try:
        worker = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "batchkit.steps.check_worker", str(max_line_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Ctrl-C must not reach the worker: it ends when its input does.
            process_group=0,
            env=_environment(),
        )
    except OSError:
        return None
    _widen(worker.stdin, worker.stdout)
    # A worker that has ended already is noticed when its first result is missing.
    with suppress(OSError):
        send(_pipe(worker.stdin), pickle.dumps(rules))
    return worker


def _widen(*pipes: IO[bytes] | None) -> None:
    """Make pipes hold more where the system allows it, so that the two processes wait less often."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        for pipe in pipes:
            # A user who has many pipes open may not make one larger; the default size works too.
            with suppress(OSError):
                fcntl.fcntl(_pipe(pipe), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _environment() -> dict[str, str]:
    """Return the variables that an interpreter needs to start and to find this package, without any secret."""
    needed = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PATH", "PYTHONHOME") if name in os.environ}
    return {**needed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("the worker was started without pipes")
    return stream
