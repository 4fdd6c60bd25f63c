"""Processes forked from one that has loaded batchkit and opened nothing.

A command spends more time on imports than on most of its work in a test. The processes are real: they can be killed, stopped and
waited for.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import batchkit
from batchkit.cli import main

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from multiprocessing.context import ForkServerProcess

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.preload", "tests.forked", "tests.proof.command_process"])
_PROGRAM = str(Path(batchkit.__file__).with_name("__main__.py"))


class ForkedCommand:
    """A running ``batchkit``, with the methods of ``subprocess.Popen`` that tests use. ``printed`` is a new folder for its output."""

    def __init__(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], printed: Path) -> None:
        printed.mkdir(parents=True)
        self._arguments = arguments
        self._printed = printed
        self._process: ForkServerProcess = CONTEXT.Process(
            target=_run, args=(tuple(arguments), folder, dict(environment), printed), daemon=True
        )
        self._process.start()

    @property
    def pid(self) -> int:
        """Return the process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Return the exit code, the negative number of the signal that ended it, or None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal if it is running."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end, at most ``timeout`` seconds; return stdout and stderr. Raises ``subprocess.TimeoutExpired``."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(list(self._arguments), timeout or 0.0)
        out, err = (_path(self._printed, stream).read_text() for stream in ("stdout", "stderr"))
        return out, err

    def completed(self, timeout: float) -> subprocess.CompletedProcess[str]:
        """Wait for its end; it is killed when that takes more than ``timeout`` seconds. Raises ``AssertionError`` then."""
        try:
            out, err = self.communicate(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            out, err = self.communicate()
            raise AssertionError(f"the command did not end:\n{out}\n{err}") from None
        assert self.returncode is not None
        return subprocess.CompletedProcess(list(self._arguments), self.returncode, out, err)


def redirect(descriptor: int, path: Path) -> None:
    """Append the output of a descriptor to a file."""
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    os.dup2(file, descriptor)
    os.close(file)


def close_stdin() -> None:
    """Make stdin empty."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _run(arguments: Sequence[str], folder: Path, environment: Mapping[str, str], printed: Path) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    close_stdin()
    redirect(1, _path(printed, "stdout"))
    redirect(2, _path(printed, "stderr"))
    sys.argv = [_PROGRAM, *arguments]
    try:
        main()
    finally:
        # A forked process would skip the exit functions.
        atexit._run_exitfuncs()


def _path(printed: Path, stream: str) -> Path:
    return printed / f"{stream}.txt"
