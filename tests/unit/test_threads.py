from __future__ import annotations

import threading

import pytest

from batchkit.engine.threads import ThreadGroup

LONG = 20.0


def test_calls_run_in_parallel():
    """All calls run at the same time, the first one in the calling thread."""
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


def test_an_error_does_not_stop_the_other_calls():
    """The exception of one call is returned in its place, after the others have ended."""
    trouble = ValueError("no")
    failed = threading.Event()

    def fails():
        failed.set()
        raise trouble

    assert ThreadGroup().do([fails, lambda: failed.wait(LONG)]) == [trouble, True]
    assert ThreadGroup().do([lambda: 1, fails]) == [1, trouble]


def test_an_interrupt_stops_the_others_and_waits_for_them():
    """Ctrl-C in the first call: the others see the request to stop, and have stopped when the interrupt is raised."""
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
    # Later calls are not affected.
    assert not threads.stopping.is_set()
