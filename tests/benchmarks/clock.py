"""Timing one thing in a process of its own: wall and CPU seconds, and what it needs of memory."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import psutil

from tests.processes import memory_bytes, peak_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection

    from tests.benchmarks.parts import Part

Unit = Literal["x", "s", "MB"]

MEGABYTE = 1_000_000
_RESET_PEAK = "5"


class Ground(Protocol):
    """Where a part is measured."""

    @property
    def folder(self) -> Path:
        """Where its files lie."""

    @property
    def lines(self) -> int:
        """How many requests there are."""

    @property
    def database(self) -> str:
        """The kind of database, a dash for none."""


@dataclass(frozen=True)
class Sample:
    """One timing: seconds on the wall and of CPU (its children's too), the peak of memory in bytes, and its growth to it."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    grown_bytes: int


@dataclass(frozen=True)
class Figure:
    """A part on a database: medians of some rounds, in each of which floor and work ran back to back.

    ``value`` is what the goal is about: in ``unit`` x the ratio to the floor, in s the seconds, in MB the growth of memory.
    ``lowest`` and ``highest`` are its spread. ``note`` says what else is to be known, ``failure`` why there are no numbers.
    """

    part: str
    database: str
    lines: int
    floor_name: str = ""
    size_bytes: int = 0
    floor_seconds: float | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    value: float = 0.0
    lowest: float = 0.0
    highest: float = 0.0
    unit: Unit = "x"
    goal: float | None = None
    peak_bytes: int = 0
    grown_bytes: int = 0
    note: str = ""
    failure: str = ""


def measure(part: Part, ground: Ground, *, rounds: int, alone: bool = True) -> Figure:
    """Run floor and work in turns, the one that comes first changing from round to round; ``alone`` in a process of its own."""
    take: Callable[..., Sample | str] = _in_a_process if alone else sample
    floors: list[Sample] = []
    works: list[Sample] = []
    for number in range(rounds):
        turns = [True, False] if part.floor is not None else [False]
        for is_floor in turns if number % 2 == 0 else reversed(turns):
            taken = take(part, ground, is_floor=is_floor)
            if isinstance(taken, str):
                return Figure(part.name, ground.database, ground.lines, part.floor_name, failure=taken)
            (floors if is_floor else works).append(taken)
    return figure_of(
        Figure(
            part.name,
            ground.database,
            ground.lines // part.one_in,
            part.floor_name,
            size_bytes=part.size(ground),
            unit="x" if floors else "s",
            goal=part.goals.get(ground.database),
        ),
        works,
        floors,
    )


def figure_of(about: Figure, works: Sequence[Sample], floors: Sequence[Sample]) -> Figure:
    """Fill in the numbers: the median and the spread of the paired ratios, or of the seconds where there is no floor."""
    match about.unit:
        case "x":
            values = [work.seconds / floor.seconds for work, floor in zip(works, floors, strict=True)]
        case "s":
            values = [work.seconds for work in works]
        case "MB":
            values = [work.grown_bytes / MEGABYTE for work in works]
    numbers = {
        "floor_seconds": statistics.median(floor.seconds for floor in floors) if floors else None,
        "seconds": statistics.median(work.seconds for work in works),
        "cpu_seconds": statistics.median(work.cpu_seconds for work in works),
        "value": statistics.median(values),
        "lowest": min(values),
        "highest": max(values),
        "peak_bytes": max(work.peak_bytes for work in works),
        "grown_bytes": max(work.grown_bytes for work in works),
    }
    return Figure(**vars(about) | numbers)


def sample(part: Part, ground: Ground, *, is_floor: bool) -> Sample | str:
    """Take one timing in this process, or say what is missing for it."""
    try:
        if not is_floor:
            with part.ready(ground) as ready:
                return timed(lambda: part.work(ready, ground))
        floor = part.floor
        assert floor is not None
        with part.floor_ready(ground) as ready:
            return timed(lambda: floor(ground, ready))
    except ImportError as error:
        return f"{error.name or error} is not installed"


def timed(work: Callable[[], object]) -> Sample:
    """Call ``work`` and say what it took of this process and of the children that ended meanwhile."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    before = memory_bytes()
    children = _children_seconds()
    began, cpu = time.perf_counter(), time.process_time()
    work()
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    peak = peak_bytes()
    return Sample(seconds, cpu_seconds + _children_seconds() - children, peak, max(peak - before, 0))


def process_seconds(process: int) -> float:
    """Read the CPU seconds that a living process has used, user and system."""
    taken = psutil.Process(process).cpu_times()
    return float(taken.user + taken.system)


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _in_a_process(part: Part, ground: Ground, *, is_floor: bool) -> Sample | str:
    # Each timing is a fork of one process that has imported everything and done nothing.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.benchmarks.transfers", "tests.benchmarks.parts"])
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(part, ground, is_floor, there))
    process.start()
    there.close()
    try:
        taken: Sample | str = here.recv()
    except EOFError:
        taken = "its process failed, see above"
    process.join()
    return taken


def _answer(part: Part, ground: Ground, is_floor: bool, answer: Connection[Any, Any]) -> None:
    answer.send(sample(part, ground, is_floor=is_floor))
