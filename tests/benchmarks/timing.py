"""Measures work in its own process: wall and CPU seconds, and memory."""

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

    from tests.benchmarks.measurements import Measurement

Unit = Literal["x", "s", "MB"]

MEGABYTE = 1_000_000
_RESET_PEAK = "5"


class MeasurementInput(Protocol):
    """The input of a measurement."""

    @property
    def folder(self) -> Path:
        """Return the folder of the stores' files."""

    @property
    def lines(self) -> int:
        """Return the number of requests."""

    @property
    def database(self) -> str:
        """Return the kind of database, or a dash for none."""


@dataclass(frozen=True)
class Sample:
    """One timing: wall seconds, CPU seconds (including children), peak memory in bytes, and how much of it the work added."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    grown_bytes: int


@dataclass(frozen=True)
class Figure:
    """A part on a database: medians over rounds; in each round floor and work run directly after each other.

    ``value`` is compared with the goal: in ``unit`` x the ratio to the floor, in s the seconds, in MB the growth of memory.
    ``lowest`` and ``highest`` are its spread. ``note`` has further facts, ``failure`` the reason for missing numbers.
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


def measure(part: Measurement, source: MeasurementInput, *, rounds: int, alone: bool = True) -> Figure:
    """Run floor and work alternately, in an order that changes each round; ``alone`` in separate processes."""
    take: Callable[..., Sample | str] = _in_a_process if alone else sample
    floors: list[Sample] = []
    works: list[Sample] = []
    for number in range(rounds):
        steps = [True, False] if part.floor is not None else [False]
        for is_floor in steps if number % 2 == 0 else reversed(steps):
            taken = take(part, source, is_floor=is_floor)
            if isinstance(taken, str):
                return Figure(part.name, source.database, source.lines, part.floor_name, failure=taken)
            (floors if is_floor else works).append(taken)
    return figure_of(
        Figure(
            part.name,
            source.database,
            source.lines // part.one_in,
            part.floor_name,
            size_bytes=part.size(source),
            unit="x" if floors else "s",
            goal=part.goals.get(source.database),
        ),
        works,
        floors,
    )


def figure_of(about: Figure, works: Sequence[Sample], floors: Sequence[Sample]) -> Figure:
    """Return the figure with its numbers: the median and the spread of the paired ratios, or of the seconds without a floor."""
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


def sample(part: Measurement, source: MeasurementInput, *, is_floor: bool) -> Sample | str:
    """Return one timing from this process, or a message about a missing library."""
    try:
        if not is_floor:
            with part.ready(source) as ready:
                return timed(lambda: part.work(ready, source))
        floor = part.floor
        assert floor is not None
        with part.floor_ready(source) as ready:
            return timed(lambda: floor(source, ready))
    except ImportError as error:
        return f"{error.name or error} is not installed"


def timed(work: Callable[[], object]) -> Sample:
    """Call ``work`` and return the time and memory of this process and of the children that ended meanwhile."""
    # Where the kernel cannot forget the earlier peak, that is a part of this one.
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
    """Return the CPU seconds that a running process has used, user and system."""
    taken = psutil.Process(process).cpu_times()
    return float(taken.user + taken.system)


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _in_a_process(part: Measurement, source: MeasurementInput, *, is_floor: bool) -> Sample | str:
    # Each timing runs in a fork of a process that has only imported everything.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.benchmarks.transfers", "tests.benchmarks.measurements"])
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(part, source, is_floor, there))
    process.start()
    there.close()
    try:
        taken: Sample | str = here.recv()
    except EOFError:
        taken = "its process failed, see above"
    process.join()
    return taken


def _answer(part: Measurement, source: MeasurementInput, is_floor: bool, answer: Connection[Any, Any]) -> None:
    answer.send(sample(part, source, is_floor=is_floor))
