"""The writers' first-in, first-out lock."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import text

from batchkit.store.fair_lock import FairLock

LONG = 20.0


def test_threads_get_the_lock_in_the_order_of_their_requests():
    """A thread that asked first is first, also before one that releases the lock and asks again at once."""
    lock = FairLock()
    order = []

    def ask(name):
        with lock.hold(LONG):
            order.append(name)

    with ThreadPoolExecutor(3) as pool:
        with lock.hold(LONG):
            for number in range(3):
                pool.submit(ask, number)
                while len(lock._queue) <= number + 1:
                    threading.Event().wait(0.001)
        ask("again")

    assert order == [0, 1, 2, "again"]


def test_no_thread_waits_longer_than_its_limit():
    """After its longest wait a thread continues without the lock, and the holder keeps it."""
    lock = FairLock()

    with lock.hold(LONG), ThreadPoolExecutor(1) as pool:

        def go_in():
            with lock.hold(0.01):
                return True

        assert pool.submit(go_in).result(LONG)
        assert len(lock._queue) == 1
    assert lock._queue == []


def test_short_transactions_run_between_long_ones(sqlite_store):
    """Beside a thread that writes without a pause, another thread writes after each of its transactions, not after the last."""
    store = sqlite_store
    writing = threading.Event()
    stop = threading.Event()
    written = []

    def write_without_pause():
        while not stop.is_set():
            with store.write() as connection:
                connection.execute(text("UPDATE workloads SET name = name"))
                written.append("long")
                writing.set()
                stop.wait(0.05)

    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(write_without_pause)
        assert writing.wait(LONG)
        began = time.monotonic()
        for _ in range(10):
            with store.write():
                written.append("short")
        seconds = time.monotonic() - began
        stop.set()
        busy.result(LONG)

    assert written.count("short") == 10
    # One long transaction between two short ones, and not many: SQLite's own waiting takes more than ten times as long here.
    assert written.count("long") <= 12, seconds


def test_a_lock_that_an_interrupt_left_locked_is_passed_on():
    """The next waiting thread gets it as soon as the interrupted thread uses the lock again."""
    lock = FairLock()
    left = lock.hold(LONG)
    left.__enter__()

    def ask():
        with lock.hold(LONG):
            return time.monotonic()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask)
        while len(lock._queue) < 2:
            threading.Event().wait(0.001)
        came_back = time.monotonic()
        with lock.hold(LONG):
            pass
        assert waiting.result() - came_back < LONG / 2
