"""Timing one thing in a process of its own: wall and CPU seconds, and the peak of its memory."""

from __future__ import annotations

import multiprocessing
import resource
import shutil
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.benchmarks.parts import PARTS

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from tests.benchmarks.lab import Lab
    from tests.benchmarks.parts import Part


@dataclass(frozen=True)
class Sample:
    """One timing: seconds on the wall and of this process's CPU, and peak memory in bytes."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Figure:
    """A part on a database: medians of some rounds, in each of which floor and work ran back to back."""

    part: str
    database: str
    lines: int
    floor_name: str
    floor_seconds: float
    seconds: float
    cpu_seconds: float
    ratio: float
    lowest: float
    highest: float
    goal: float
    peak_bytes: int


def measure(part: Part, lab: Lab, *, rounds: int) -> Figure:
    """Run floor and work in turns."""
    floors: list[Sample] = []
    works: list[Sample] = []
    for _ in range(rounds):
        floors.append(_in_a_process(part.name, lab, is_floor=True))
        works.append(_in_a_process(part.name, lab, is_floor=False))
    ratios = [work.seconds / floor.seconds for work, floor in zip(works, floors, strict=True)]
    return Figure(
        part=part.name,
        database=lab.database,
        lines=lab.lines,
        floor_name=part.floor_name,
        floor_seconds=statistics.median(sample.seconds for sample in floors),
        seconds=statistics.median(sample.seconds for sample in works),
        cpu_seconds=statistics.median(sample.cpu_seconds for sample in works),
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        goal=part.goals[lab.database],
        peak_bytes=max(sample.peak_bytes for sample in works),
    )


def _in_a_process(name: str, lab: Lab, *, is_floor: bool) -> Sample:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_timed, args=(name, lab, is_floor, there))
    process.start()
    there.close()
    try:
        sample: Sample = here.recv()
    finally:
        process.join()
    return sample


def _timed(name: str, lab: Lab, is_floor: bool, answer: Connection[Any, Any]) -> None:
    part = next(part for part in PARTS if part.name == name)
    if is_floor:
        folder = lab.folder / "floor"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        began, cpu = time.perf_counter(), time.process_time()
        part.floor(lab, folder)
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
        shutil.rmtree(folder)
    else:
        with part.ready(lab) as runner:
            began, cpu = time.perf_counter(), time.process_time()
            part.work(runner, lab)
            seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    answer.send(Sample(seconds, cpu_seconds, peak))
