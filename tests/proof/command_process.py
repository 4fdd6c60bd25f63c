"""Processes that each run one command of batchkit, in which a kill, a stop or an error can be injected at a fault point.

A server process that has imported everything and opened nothing forks them, so that hundreds can be started a minute. A kill is a
real SIGKILL.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import batchkit
from batchkit.cli.app import run_command
from batchkit.cli.prefect import leave
from batchkit.errors import BatchkitError
from batchkit.files import jsonl
from batchkit.steps import memory
from batchkit.store import engine
from tests import processes
from tests.forked import CONTEXT, close_stdin, redirect
from tests.proof import planted_bugs
from tests.proof.fault_points import FaultInjector, FaultPoint, InjectionKind, install

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import ForkServerProcess
    from pathlib import Path

    from batchkit.store.engine import TransactionLimits

#: The first pause of a shard after an unexpected error; 5 s outside the proof.
_FIRST_PAUSE_SECONDS = 0.2


@dataclass(frozen=True)
class Launch:
    """One command: its arguments, its folder, its whole environment, the fault to inject (``kind`` at ``at``) and a planted bug.

    Only a ``traced`` command has fault points; of commands that run at the same time, at most one is traced. ``limits`` are
    the limits of its transactions (None: the defaults). If the first argument is ``python``, the second names a package function.
    """

    arguments: tuple[str, ...]
    folder: Path
    environment: dict[str, str]
    at: FaultPoint | int | None = None
    kind: InjectionKind = InjectionKind.DEATH
    planted_bug: str | None = None
    traced: bool = True
    limits: TransactionLimits | None = None

    @property
    def trace_path(self) -> Path:
        """Return the path of the file in which a command that was not killed stores its points."""
        return self.folder.parent / "trace.json"

    @property
    def output_path(self) -> Path:
        """Return the path of the file that holds everything that the command prints."""
        return self.folder.parent / "output.txt"


@dataclass(frozen=True)
class Trace:
    """The points that a command passed, in order, and its peak memory in bytes."""

    points: tuple[FaultPoint, ...]
    peak_bytes: int


def start(launch: Launch) -> ForkServerProcess:
    """Start a command and return its process; its exit code is -9 if it was killed at its point."""
    if launch.traced:
        launch.trace_path.unlink(missing_ok=True)
    process = CONTEXT.Process(target=_main, args=(launch,), daemon=True)
    process.start()
    return process


def read_trace(launch: Launch) -> Trace:
    """Return the trace of a command that ended by itself."""
    found = jsonl.loads(launch.trace_path.read_bytes())
    return Trace(tuple(FaultPoint(label, nth) for label, nth in found["points"]), found["peak_bytes"])


def is_stopped(process: Any) -> bool:
    """Return whether a process is stopped by SIGSTOP."""
    return processes.is_stopped(process.pid)


def wait_until(condition: Callable[[], bool], *, within_seconds: float) -> bool:
    """Wait until a condition holds; return whether it held in time."""
    deadline = time.monotonic() + within_seconds
    moment = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        moment.wait(0.02)
    return True


def _main(launch: Launch) -> None:
    os.chdir(launch.folder)
    os.environ.clear()
    os.environ.update(launch.environment)
    close_stdin()
    redirect(1, launch.output_path)
    redirect(2, launch.output_path)
    memory._FIRST_PAUSE_SECONDS = _FIRST_PAUSE_SECONDS
    if launch.limits is not None:
        limits = launch.limits
        engine.TransactionLimits = lambda: limits  # type: ignore[assignment,misc] # shorter limits, in this process only
    if launch.planted_bug is not None:
        planted_bugs.PLANTED_BUGS[launch.planted_bug].apply()
    leave(_traced(launch) if launch.traced else _untraced(launch))


def _untraced(launch: Launch) -> int:
    if launch.arguments[0] != "python":
        return run_command(launch.arguments)
    function, *arguments = launch.arguments[1:]
    try:
        getattr(batchkit, function)(*arguments)
    except BatchkitError as error:
        return error.exit_code
    return 0


def _traced(launch: Launch) -> int:
    injector = FaultInjector(launch.folder, launch.at, launch.kind)
    trace_file = os.open(launch.trace_path.with_suffix(".new"), os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    install(injector)
    code = run_command(launch.arguments)
    peak = processes.own_peak_bytes()
    passed = [(point.label, point.nth) for point in injector.trace]
    os.write(trace_file, jsonl.dumps({"points": passed, "peak_bytes": peak}))
    os.close(trace_file)
    launch.trace_path.with_suffix(".new").rename(launch.trace_path)
    return code
