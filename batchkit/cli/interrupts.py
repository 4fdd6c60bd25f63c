"""Ctrl-C that is not lost.

Python drops an exception that is raised while a finaliser or a weak reference's callback runs (docs.python.org/3/library/weakref.html):
of the interrupts of a command that talks to a database a few in a hundred met one of those, and had to be given again.
"""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING

import typer

from batchkit.cli.render import exits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_AGAIN_SECONDS = 1.0


@contextmanager
def insistent(again_seconds: float = _AGAIN_SECONDS) -> Iterator[None]:
    """Let Ctrl-C raise ``KeyboardInterrupt`` until one is on its way: what the first one lacked, the next has a second later.

    A second Ctrl-C of the user interrupts also what is being tidied up. Where the signal is ignored or somebody else's, or
    outside the main thread, everything stays as it is.
    """
    main = threading.main_thread()
    if threading.current_thread() is not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    # Only a queue of this kind may be filled by a handler that interrupts its own thread anywhere.
    pressed: SimpleQueue[None] = SimpleQueue()
    over = threading.Event()
    is_repeated = False

    def hear(_number: int, _frame: object) -> None:
        nonlocal is_repeated
        if not is_repeated:
            pressed.put(None)
        elif over.is_set() or _is_on_its_way():
            is_repeated = False
            return
        is_repeated = False
        raise KeyboardInterrupt

    def insist() -> None:
        nonlocal is_repeated
        pressed.get()
        while not over.wait(again_seconds):
            is_repeated = True
            # To the main thread itself, so that whatever it waits for is interrupted.
            signal.pthread_kill(main.ident or 0, signal.SIGINT)

    thread = threading.Thread(target=insist, name="batchkit-interrupts", daemon=True)
    thread.start()
    signal.signal(signal.SIGINT, hear)
    try:
        yield
    finally:
        over.set()
        pressed.put(None)
        thread.join()
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_on_its_way() -> bool:
    """Whether what runs now is a handler or the tidying up after an interrupt."""
    error = sys.exc_info()[1]
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__context__
    return False


@contextmanager
def interruptible(farewell: Callable[[], None]) -> Iterator[None]:
    """Turn Ctrl-C into exit code 130, after ``farewell`` has printed what continues and how to resume."""
    try:
        yield
    except KeyboardInterrupt:
        farewell()
        raise typer.Exit(exits.INTERRUPTED) from None


@contextmanager
def until_stopped() -> Iterator[Callable[[], None]]:
    """Yield a function that waits for Ctrl-C or SIGTERM, which are the ordinary end of a server."""
    # Not an Event: a handler may only use what it cannot find locked.
    pressed: SimpleQueue[None] = SimpleQueue()
    before = {
        number: signal.signal(number, lambda _number, _frame: pressed.put(None))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield pressed.get
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
