"""Ctrl-C at any moment of a command."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest

import batchkit as package
from batchkit.cli.interrupts import insistent

#: No wait takes this long: its event comes, or the test fails.
LONG = 20


@pytest.fixture(autouse=True)
def listens():
    """Handle Ctrl-C as a command at a prompt does, whatever runs the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def repeats(monkeypatch):
    """Count how often an interrupt is raised again."""
    given = []
    kill = signal.pthread_kill

    def counted(thread, number):
        given.append(number)
        kill(thread, number)

    monkeypatch.setattr(signal, "pthread_kill", counted)
    return given


class Thing:
    """The target of a weak reference."""


def interrupted_in_a_callback():
    """Send Ctrl-C at a moment at which Python drops the exception."""
    thing = Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    del thing
    assert reference() is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_drops_is_raised_again(repeats):
    """The next wait is interrupted as if the exception had not been dropped."""

    def command():
        interrupted_in_a_callback()
        threading.Event().wait(LONG)

    with pytest.raises(KeyboardInterrupt), insistent(0.01):
        command()
    assert repeats


def test_cleanup_after_an_interrupt_is_not_interrupted(repeats):
    """While an interrupt propagates, none is added; exceptions raised meanwhile change nothing."""
    tidied = []

    def command():
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            while len(repeats) < 3:
                pass
            try:
                raise OSError("while tidying up")
            finally:
                while len(repeats) < 6:
                    pass
                tidied.append("all")

    with pytest.raises(OSError, match="while tidying up"), insistent(0.001):
        command()
    assert tidied == ["all"]


def test_the_second_press_interrupts_the_cleanup():
    """A user who cannot wait for the cleanup can skip it."""

    def command():
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)
            pytest.fail("went on")

    with pytest.raises(KeyboardInterrupt), insistent(LONG):
        command()


def test_after_the_command_nothing_is_raised_again():
    """The thread that raises interrupts again has ended."""
    with insistent(LONG), contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert "batchkit-interrupts" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda _number, _frame: None], ids=["ignored", "somebody's"])
def test_another_handler_of_the_signal_is_kept(handler):
    """This covers ``nohup``, and programs with their own handler."""
    signal.signal(signal.SIGINT, handler)
    with insistent(0.001):
        assert signal.getsignal(signal.SIGINT) is handler
        signal.raise_signal(signal.SIGINT)
    assert signal.signal(signal.SIGINT, signal.default_int_handler) is handler


def test_another_thread_is_left_alone():
    """Only the main thread handles signals."""
    seen = []

    def run():
        with insistent(0.001):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_an_interrupted_command_exits_with_its_exit_code(tmp_path):
    """Python ends itself by the signal when an interrupt hits code compiled by a library; the exit code is right even then."""
    (tmp_path / "interrupted.py").write_text(
        "from batchkit.cli import app, main\napp.run_command = lambda words: exec('raise KeyboardInterrupt')\nmain()\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(package.__file__).parent.parent)])
    ended = subprocess.run([sys.executable, "-m", "interrupted"], env={**os.environ, "PYTHONPATH": path}, check=False)
    assert ended.returncode == 130
