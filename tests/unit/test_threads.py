from __future__ import annotations

import threading

import pytest

from batchkit.engine.threads import ThreadGroup

LONG = 20.0


def test_calls_are_done_at_the_same_time():
    """Each call is under way while the others are; the first one in the thread that asked."""
    all_there = threading.Barrier(3, timeout=LONG)
    threads = []

    def call():
        all_there.wait()
        threads.append(threading.current_thread())
        return len(threads)

    outcomes = ThreadGroup().do([call, call, call])

    assert set(outcomes) == {1, 2, 3}
    assert threading.current_thread() in threads
    assert len(set(threads)) == 3


def test_an_error_leaves_the_others_to_their_end():
    """What one call raises is given in its place, and the others have ended by then."""
    trouble = ValueError("no")
    failed = threading.Event()

    def fails():
        failed.set()
        raise trouble

    assert ThreadGroup().do([fails, lambda: failed.wait(LONG)]) == [trouble, True]
    assert ThreadGroup().do([lambda: 1, fails]) == [1, trouble]


def test_an_interrupt_asks_the_others_to_end_and_waits_for_them():
    """Ctrl-C in the first call: the others see that they are to stop, and have stopped when it is raised."""
    threads = ThreadGroup()
    begun = threading.Event()
    ended = []

    def interrupted():
        assert begun.wait(LONG)
        raise KeyboardInterrupt

    def beside():
        begun.set()
        ended.append(threads.stopping.wait(LONG))

    with pytest.raises(KeyboardInterrupt):
        threads.do([interrupted, beside])

    assert ended == [True]
    # Whoever calls again is not meant.
    assert not threads.stopping.is_set()
