"""``python -m tests.benchmarks.workers``: compare how fast one and two worker processes merge a workload on Postgres.

All share the machine with the Postgres server, so its CPU seconds are measured too: if the server takes a third of the
CPU time, two workers on two cores cannot be twice as fast.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import psutil
import typer
from rich.console import Console
from sqlalchemy import text

from batchkit.engine.runtime import Runner
from batchkit.models import ShardState
from tests.benchmarks.benchmark_stores import NAME, BenchmarkStores
from tests.benchmarks.timing import process_seconds
from tests.postgres import running_server
from tests.properties.scripted import ScriptedProvider

if TYPE_CHECKING:
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Barrier

    from batchkit.settings import Settings


@dataclass(frozen=True)
class Merged:
    """The result of one worker: merged shards, and its CPU seconds."""

    shards: int
    cpu_seconds: float


@dataclass(frozen=True)
class Round:
    """One merge of the whole workload: wall seconds, and CPU seconds of the workers and of the server."""

    seconds: float
    workers: tuple[Merged, ...]
    server_cpu_seconds: float


def main(
    lines: Annotated[int, typer.Option(help="The number of requests.")] = 400_000,
    rounds: Annotated[int, typer.Option(help="How often each number of workers is measured, alternately.")] = 3,
    workers: Annotated[int, typer.Option(help="The number of workers to compare with one.")] = 2,
    folder: Annotated[Path | None, typer.Option(help="The folder of the data, to be used again.")] = None,
) -> None:
    """Compare the time of several workers with the time of one."""
    out = Console(width=200)
    with ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="batchkit-bench-")))
        stores = BenchmarkStores(place, lines, stack.enter_context(running_server()).server_url)
        stores.prepare(["ended"])
        stack.callback(stores.clear)
        alone, together = [], []
        for _ in range(rounds):
            alone.append(merge_with(stores, 1))
            together.append(merge_with(stores, workers))
            for taken in (alone[-1], together[-1]):
                out.print(_row(taken, lines), markup=False)
    ratios = [one.seconds / several.seconds for one, several in zip(alone, together, strict=True)]
    out.print(
        f"{workers} workers are {statistics.median(ratios):.2f} times as fast [{min(ratios):.2f}-{max(ratios):.2f}]"
    )
    cpu = statistics.median(_all_cpu(several) for several in together)
    cores = os.cpu_count() or 1
    out.print(f"the work takes {cpu:.1f} CPU seconds, {cpu / cores:.1f} s on {cores} idle cores")


def merge_with(stores: BenchmarkStores, workers: int) -> Round:
    """Merge everything that has ended with this number of processes, which begin at the same time."""
    spawn = multiprocessing.get_context("spawn")
    with stores.fresh("workers", copy_of="ended") as runner:
        begin = spawn.Barrier(workers + 1)
        ends: Queue[Merged] = spawn.Queue()
        processes = [
            spawn.Process(target=_merge, args=(runner.settings, begin, ends), daemon=True) for _ in range(workers)
        ]
        for process in processes:
            process.start()
        server = _server_of(runner)
        begin.wait()
        began, server_before = time.perf_counter(), _cpu_seconds_of_tree(server)
        done = tuple(ends.get() for _ in processes)
        seconds, server_after = time.perf_counter() - began, _cpu_seconds_of_tree(server)
        for process in processes:
            process.join()
        _check(runner)
    return Round(seconds, done, server_after - server_before)


def _merge(settings: Settings, begin: Barrier, ends: Queue[Merged]) -> None:
    with Runner(settings, provider=ScriptedProvider()) as runner:
        workload = runner.find(NAME)
        runner._leases.hold()
        begin.wait()
        before = time.process_time()
        merged = 0
        while waves := runner._pending_work().merges(workload.id):
            for report in runner.run_waves(waves):
                if isinstance(report, Exception):
                    raise report
                merged += report.counts["merged"]
        ends.put(Merged(merged, time.process_time() - before))


def _check(runner: Runner) -> None:
    states = runner.progress(runner.find(NAME).id).shards
    assert set(states) == {ShardState.MERGED}, states


def _server_of(runner: Runner) -> int:
    """Return the id of the Postgres server's main process."""
    with runner.store.read() as connection:
        backend = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    return int(psutil.Process(backend).ppid())


def _cpu_seconds_of_tree(server: int) -> float:
    """Return the CPU seconds of a process, its children, and the children that have ended."""
    process = psutil.Process(server)
    taken = process.cpu_times()
    seconds = taken.user + taken.system + taken.children_user + taken.children_system
    for child in process.children():
        # A child may end meanwhile; its parent has its seconds then.
        with suppress(psutil.NoSuchProcess):
            seconds += process_seconds(child.pid)
    return float(seconds)


def _all_cpu(taken: Round) -> float:
    return sum(worker.cpu_seconds for worker in taken.workers) + taken.server_cpu_seconds


def _row(taken: Round, lines: int) -> str:
    shares = ", ".join(f"{worker.shards} shards with {worker.cpu_seconds:.1f} s" for worker in taken.workers)
    busy = _all_cpu(taken) / taken.seconds
    return (
        f"{len(taken.workers)} worker(s): {taken.seconds:.1f} s, {lines / taken.seconds:,.0f} rows/s; CPU: {shares};"
        f" Postgres {taken.server_cpu_seconds:.1f} s; {busy:.2f} cores busy"
    )


if __name__ == "__main__":
    typer.run(main)
