"""Processes that run one command of batchkit and may be told to die, to stop or to meet an error at a point.

They are forked from a server process that has imported everything and opened nothing, so that hundreds of them can be started a
minute; their death is a real one.
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
from tests.proof import plants
from tests.proof.points import Harm, Point, Watch, install

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import ForkServerProcess
    from pathlib import Path

    from batchkit.store.engine import Limits

#: The first pause of a shard after an error that nobody expected: 5 s outside of the proof.
_FIRST_PAUSE_SECONDS = 0.2


@dataclass(frozen=True)
class Launch:
    """One command: its words, where it works, its whole environment, which ``harm`` it meets where, and a bug that is planted in it.

    Only one that is ``traced`` has crash points; of several commands at the same time one is at most. ``limits`` are those of its
    transactions, None the usual ones. The word ``python`` in front calls a function of the package instead of a command.
    """

    words: tuple[str, ...]
    folder: Path
    environment: dict[str, str]
    at: Point | int | None = None
    harm: Harm = Harm.DEATH
    plant: str | None = None
    traced: bool = True
    limits: Limits | None = None

    @property
    def trace_path(self) -> Path:
        """Where a command that was not killed says which points it passed."""
        return self.folder.parent / "trace.json"

    @property
    def output_path(self) -> Path:
        """Where everything that the commands print is kept."""
        return self.folder.parent / "output.txt"


@dataclass(frozen=True)
class Trace:
    """What a command that ended by itself passed, and its peak memory in bytes."""

    points: tuple[Point, ...]
    peak_bytes: int


def start(launch: Launch) -> ForkServerProcess:
    """Start a command and return at once; its exit code is -9 when it died at its point."""
    if launch.traced:
        launch.trace_path.unlink(missing_ok=True)
    process = CONTEXT.Process(target=_main, args=(launch,), daemon=True)
    process.start()
    return process


def read_trace(launch: Launch) -> Trace:
    """Read what a command left that ended by itself."""
    found = jsonl.loads(launch.trace_path.read_bytes())
    return Trace(tuple(Point(label, nth) for label, nth in found["points"]), found["peak_bytes"])


def is_stopped(process: Any) -> bool:
    """Whether a process is stopped by SIGSTOP."""
    return processes.is_stopped(process.pid)


def wait_until(condition: Callable[[], bool], *, within_seconds: float) -> bool:
    """Wait until a condition holds; says whether it came to hold in time."""
    give_up_at = time.monotonic() + within_seconds
    moment = threading.Event()
    while not condition():
        if time.monotonic() > give_up_at:
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
        engine.Limits = lambda: limits  # type: ignore[assignment,misc]
    if launch.plant is not None:
        plants.PLANTS[launch.plant].apply()
    leave(_traced(launch) if launch.traced else _untraced(launch))


def _untraced(launch: Launch) -> int:
    if launch.words[0] != "python":
        return run_command(launch.words)
    function, *arguments = launch.words[1:]
    try:
        getattr(batchkit, function)(*arguments)
    except BatchkitError as error:
        return error.exit_code
    return 0


def _traced(launch: Launch) -> int:
    watch = Watch(launch.folder, launch.at, launch.harm)
    trace_file = os.open(launch.trace_path.with_suffix(".new"), os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    install(watch)
    code = run_command(launch.words)
    peak = processes.own_peak_bytes()
    passed = [(point.label, point.nth) for point in watch.trace]
    os.write(trace_file, jsonl.dumps({"points": passed, "peak_bytes": peak}))
    os.close(trace_file)
    launch.trace_path.with_suffix(".new").rename(launch.trace_path)
    return code
