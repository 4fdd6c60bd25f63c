"""The whole command against an emulator, each in its own process: end to end, Prefect's share, and memory."""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psutil
from sqlalchemy.engine import make_url

from tests.benchmarks import measurements
from tests.benchmarks.timing import MEGABYTE, Figure, Sample, figure_of, process_seconds, timed
from tests.postgres import PostgresServer
from tests.processes import peak_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.benchmarks.benchmark_stores import BenchmarkStores

END_TO_END = "end to end: `run`"
PLAIN = "end to end: `run --no-prefect`"
PREFECTS_SHARE = "Prefect's share of `run`"
MEMORY = "memory of `run` above `import prefect`"
RUNS = (END_TO_END, PLAIN, PREFECTS_SHARE, MEMORY)

_GOALS = {END_TO_END: 2.0, PLAIN: 2.0, PREFECTS_SHARE: 1.15, MEMORY: 300.0}
_SAMPLE_SECONDS = 0.02
#: Seconds between two polls of 200 batches: shorter than for users, and long enough not to dominate the measurement.
_POLLING = {"BATCHKIT_POLL_INTERVAL_SECONDS": "1", "BATCHKIT_MAX_POLL_INTERVAL_SECONDS": "1"}
#: The number of batches in one status call, and the default number for a million lines.
_BATCHES = 200
_FEWEST_LINES = 100
#: Emulated seconds per real second: a batch takes as long as the emulator needs to execute it.
_SPEED = 10_000_000
_MEMORY_OF_PREFECT = "import prefect; from tests.processes import peak_bytes; print(peak_bytes())"


@dataclass(frozen=True)
class Run:
    """The sample of one run, and the floor of splitting and merging the same files.

    The CPU seconds of the command include those of its children, but not those of the emulator and of a database server.
    """

    sample: Sample
    floor: Sample
    emulator_seconds: float


def figures(stores: BenchmarkStores, names: Sequence[str], *, rounds: int) -> list[Figure]:
    """Run the command with and without Prefect, as ``names`` require, and return the figures."""
    kinds = [
        kind
        for kind, asking in ((True, {END_TO_END, PREFECTS_SHARE, MEMORY}), (False, {PLAIN, PREFECTS_SHARE}))
        if asking & set(names)
    ]
    taken: dict[bool, list[Run]] = {True: [], False: []}
    for number in range(rounds):
        for is_with_prefect in kinds if number % 2 == 0 else reversed(kinds):
            taken[is_with_prefect].append(_run(stores, prefect=is_with_prefect))
    makers = {
        END_TO_END: lambda about: _end_to_end(about, taken[True]),
        PLAIN: lambda about: _end_to_end(about, taken[False]),
        PREFECTS_SHARE: lambda about: figure_of(
            replace(about, floor_name="`run --no-prefect`"),
            [run.sample for run in taken[True]],
            [run.sample for run in taken[False]],
        ),
        MEMORY: lambda about: _memory(about, taken[True]),
    }
    return [
        makers[name](
            Figure(name, stores.database, stores.lines, goal=_GOALS[name], size_bytes=measurements.input_bytes(stores))
        )
        for name in RUNS
        if name in names
    ]


def _end_to_end(about: Figure, taken: Sequence[Run]) -> Figure:
    emulator = statistics.median(run.emulator_seconds for run in taken)
    own = statistics.median(run.sample.cpu_seconds / run.floor.cpu_seconds for run in taken)
    note = (
        f"the emulator took {emulator:.1f} s of CPU beside the command's own;"
        f" by CPU seconds, the emulator's left out, the command is at {own:.2f} times the floor"
    )
    about = replace(about, floor_name="the floors of split and merge", note=note)
    return figure_of(about, [run.sample for run in taken], [run.floor for run in taken])


def _memory(about: Figure, taken: Sequence[Run]) -> Figure:
    bare_bytes = _memory_of_prefect()
    works = [replace(run.sample, grown_bytes=run.sample.peak_bytes - bare_bytes) for run in taken]
    note = f"`import prefect` alone peaks at {bare_bytes / MEGABYTE:.0f} MB"
    return figure_of(replace(about, unit="MB", note=note), works, [])


def _memory_of_prefect() -> int:
    done = subprocess.run([sys.executable, "-c", _MEMORY_OF_PREFECT], check=True, capture_output=True, text=True)
    return int(done.stdout)


def _run(stores: BenchmarkStores, *, prefect: bool) -> Run:
    """Run the command to its end, and then its floor."""
    home = stores.folder / f"run-{os.getpid()}"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    try:
        with _database(stores, home) as url, _emulator(home / "emulator") as (emulator, base_url):
            environment = {
                **{name: value for name, value in os.environ.items() if not name.startswith(("BATCHKIT_", "PREFECT_"))},
                **_POLLING,
                "GROQ_API_KEY": "gsk_none",
                "BATCHKIT_BASE_URL": base_url,
                "BATCHKIT_DATABASE_URL": url,
                "BATCHKIT_HOME": str(home),
                "BATCHKIT_SHARD_LINES": str(max(-(-stores.lines // _BATCHES), _FEWEST_LINES)),
            }
            before = process_seconds(emulator.pid)
            taken = _command(stores, home, environment, () if prefect else ("--no-prefect",))
            spent = process_seconds(emulator.pid) - before
        return Run(taken, _floor(stores, sorted(home.glob("spool/*/answers/*.jsonl"))), spent)
    finally:
        shutil.rmtree(home)


@contextmanager
def _database(stores: BenchmarkStores, home: Path) -> Iterator[str]:
    if stores.server_url is None:
        yield f"sqlite:///{home / 'batchkit.db'}"
        return
    server = PostgresServer(make_url(stores.server_url))
    name = server.create()
    try:
        yield server.url_of(name)
    finally:
        server.drop(name)
        server.close()


@contextmanager
def _emulator(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start an emulator without faults; yield its process and its base URL."""
    command = ("emulator", "--port", "0", "--speed", str(_SPEED), "--directory", str(folder))
    process = subprocess.Popen(
        [sys.executable, "-m", "batchkit", *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.terminate()
        process.communicate()


def _command(stores: BenchmarkStores, home: Path, environment: dict[str, str], flags: Sequence[str]) -> Sample:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    output = ("--name", "bench", "--output", str(home / "out.jsonl"))
    process = subprocess.Popen(
        [sys.executable, "-m", "batchkit", "run", str(stores.source), *output, *flags],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    peaks = [0]
    watcher = threading.Thread(target=_watch, args=(process, peaks))
    watcher.start()
    _, err = process.communicate()
    seconds = time.perf_counter() - began
    watcher.join()
    if process.returncode != 0:
        raise RuntimeError(f"the run ended with {process.returncode}: {err[-2_000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime
    return Sample(seconds, cpu_seconds, max(peaks), 0)


def _watch(process: subprocess.Popen[str], peaks: list[int]) -> None:
    pause = threading.Event()
    # The process may end between the two calls.
    with suppress(OSError, psutil.NoSuchProcess):
        while process.poll() is None:
            peaks.append(peak_bytes(process.pid))
            pause.wait(_SAMPLE_SECONDS)


def _floor(stores: BenchmarkStores, answers: Sequence[Path]) -> Sample:
    """Parse the input, then parse and insert the answers that this run has merged."""
    with measurements.bare_database(stores) as database:

        def least() -> None:
            measurements.parse([stores.source])
            measurements.insert(answers, database)

        return timed(least)
