"""Who writes next: nobody is passed over."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import text

from batchkit.store.turns import Turns

LONG = 20.0


def test_turns_come_in_the_order_of_asking():
    """Who asks first goes first, also before one that gives its turn back and asks again at once."""
    turns = Turns()
    order = []

    def ask(name):
        with turns.turn(LONG):
            order.append(name)

    with ThreadPoolExecutor(3) as pool:
        with turns.turn(LONG):
            for number in range(3):
                pool.submit(ask, number)
                while len(turns._line) <= number + 1:
                    threading.Event().wait(0.001)
        ask("again")

    assert order == [0, 1, 2, "again"]


def test_nobody_waits_longer_than_agreed():
    """Who has waited long enough goes in all the same, and the turn stays with the one that has it."""
    turns = Turns()

    with turns.turn(LONG), ThreadPoolExecutor(1) as pool:

        def go_in():
            with turns.turn(0.01):
                return True

        assert pool.submit(go_in).result(LONG)
        assert len(turns._line) == 1
    assert turns._line == []


def test_short_transactions_come_between_long_ones(sqlite_store):
    """Beside a thread that writes without a pause, another one writes after each of its transactions, not after the last."""
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
    # A long one between two short ones, and not many: SQLite's own waiting takes more than ten times as long here.
    assert written.count("long") <= 12, seconds


def test_a_turn_that_an_interrupt_left_is_passed_on():
    """To who has waited behind it, as soon as the interrupted thread comes back."""
    turns = Turns()
    left = turns.turn(LONG)
    left.__enter__()

    def ask():
        with turns.turn(LONG):
            return time.monotonic()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask)
        while len(turns._line) < 2:
            threading.Event().wait(0.001)
        came_back = time.monotonic()
        with turns.turn(LONG):
            pass
        assert waiting.result() - came_back < LONG / 2
