"""A workload whose split is unfinished: only its splitter works on it, and nothing of it is sent."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import batchkit as package
from batchkit.emulator import Emulator
from batchkit.engine.progress import WorkloadState
from batchkit.engine.runtime import Runner
from batchkit.engine.waves import DriveUntil
from batchkit.errors import SplitUnfinished
from batchkit.models import ShardState
from batchkit.settings import load_settings
from batchkit.steps import cutting, split
from batchkit.store import shard_leases
from batchkit.store import shards as shard_rows
from batchkit.store import workloads as workload_rows
from tests.forked import CONTEXT, ForkedCommand
from tests.steps.conftest import SPEED, Harness
from tests.workloads import write_mixed

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerProcess

LINES = 120
#: Before the first commit of shards, between two, before the last, and before the commit that completes the split.
STOPS = (1, 4, 7, 8)


@pytest.fixture
def sqlite_harness(sqlite_url, tmp_path) -> Iterator[Harness]:
    """Start an emulator and a harness on SQLite, for tests that do not depend on the kind of database."""
    with ExitStack() as stack:
        emulator = stack.enter_context(Emulator(tmp_path / "emulator", speed=SPEED))
        yield Harness(emulator, sqlite_url, tmp_path / "home", stack)


def _split_in_small_commits(environment: Mapping[str, str], source: Path, stop_at: int, test: Connection) -> None:
    """Split a workload in its own process, which stops before the commit that ``stop_at`` counts until the test answers."""
    os.environ.clear()
    os.environ.update(environment)
    cutting._ROWS_PER_COMMIT = 20
    passed = count(1)

    def before(effect: Callable[..., Any]) -> Callable[..., Any]:
        def stopped(*arguments: Any, **values: Any) -> Any:
            if next(passed) == stop_at:
                test.send("stopped")
                test.recv()
            return effect(*arguments, **values)

        return stopped

    cutting._FullShards.commit = before(cutting._FullShards.commit)  # type: ignore[method-assign] # stops the process there
    workload_rows.finish_split = before(workload_rows.finish_split)
    with Runner(load_settings()) as runner:
        test.send(runner.split([source], name="work", options=split.SplitOptions(shard_lines=10)).request_count)


@dataclass
class Splitter:
    """A process that is in the middle of a split."""

    process: ForkServerProcess
    connection: Connection

    @property
    def pid(self) -> int:
        """Return the process's id."""
        assert self.process.pid is not None
        return self.process.pid

    def resume(self) -> int:
        """Resume the split and wait until it is finished; return the number of requests."""
        self.connection.send("resume")
        assert self.connection.poll(60)
        requests: int = self.connection.recv()
        self.process.join(60)
        assert self.process.exitcode == 0
        return requests

    def kill(self) -> None:
        """Kill it as a power cut would."""
        self.process.kill()
        self.process.join(60)


@contextmanager
def splitting(harness: Harness, folder: Path, stop_at: int) -> Iterator[Splitter]:
    """Start a split of the workload ``work`` in another process, which stops in the middle."""
    source = write_mixed(folder / "input.jsonl", LINES)
    ours, its = CONTEXT.Pipe()
    process = CONTEXT.Process(
        target=_split_in_small_commits, args=(environment(harness), source, stop_at, its), daemon=True
    )
    process.start()
    try:
        assert ours.poll(60)
        assert ours.recv() == "stopped"
        yield Splitter(process, ours)
    finally:
        process.kill()
        process.join()
        for end in (ours, its):
            end.close()


def environment(harness: Harness) -> dict[str, str]:
    """Return the environment of a command that works on the harness's database and emulator."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BATCHKIT_")}
    return {
        **kept,
        "PYTHONPATH": str(Path(package.__file__).parent.parent),
        "GROQ_API_KEY": harness.emulator.api_key,
        "BATCHKIT_BASE_URL": harness.emulator.base_url,
        "BATCHKIT_DATABASE_URL": harness.database_url,
        "BATCHKIT_HOME": str(harness.home),
        "BATCHKIT_POLL_INTERVAL_SECONDS": "0.05",
    }


def command(harness: Harness, *words: str) -> subprocess.CompletedProcess[str]:
    """Run one command as a user does."""
    printed = harness.home.parent / "printed" / uuid.uuid4().hex
    return ForkedCommand(words, Path.cwd(), environment(harness), printed).completed(60)


def calls(harness: Harness) -> Any:
    """Return the calls that the provider received so far."""
    return harness.emulator.ledger().calls


@pytest.mark.parametrize("stop_at", [2, 7])
def test_a_workload_that_is_being_split_is_not_driven(open_harness, tmp_path, stop_at):
    """The Python functions refuse and name the splitter, nothing reaches the provider, and the split completes."""
    harness = open_harness()
    settings = harness.runner.settings

    with splitting(harness, tmp_path, stop_at) as splitter:
        who = rf"is being split by .* \(process {splitter.pid}\)"
        assert package.status("work", settings=settings)[0].state is WorkloadState.SPLITTING
        for verb in (package.watch, package.cancel, package.resubmit, package.clean):
            with pytest.raises(SplitUnfinished, match=who):
                verb("work", settings=settings)
        assert harness.runner.open_workloads() == []
        assert calls(harness) == {}
        assert splitter.resume() == LINES

    assert package.watch("work", settings=settings).counts.total == LINES
    assert harness.emulator.ledger().totals.bought_twice == 0


def test_commands_beside_a_split_send_nothing(sqlite_harness, tmp_path):
    """``watch``, ``cancel`` and ``resubmit`` end with exit code 4 and name the splitter; the split then completes."""
    harness = sqlite_harness
    with splitting(harness, tmp_path, 3) as splitter:
        for words in (("watch", "work", "--no-prefect"), ("cancel", "work"), ("resubmit", "work", "--no-prefect")):
            ended = command(harness, *words)
            assert ended.returncode == 4, ended.stderr
            assert f"(process {splitter.pid})" in ended.stderr
        everything = command(harness, "watch", "--no-prefect")
        assert (everything.returncode, everything.stdout) == (0, "no workload is open\n")
        assert calls(harness) == {}
        assert splitter.resume() == LINES
    assert command(harness, "watch", "work", "--no-prefect").returncode == 0


@pytest.mark.parametrize("stop_at", STOPS)
def test_a_killed_split_stays_interrupted_until_the_same_run_repeats_it(sqlite_harness, tmp_path, stop_at):
    """After ``kill -9`` the shards are not driven, a cancel has nothing to stop, and splitting again gives the whole input."""
    harness = sqlite_harness
    settings = harness.runner.settings
    with splitting(harness, tmp_path, stop_at) as splitter:
        splitter.kill()

    assert package.status("work", settings=settings)[0].state is WorkloadState.INTERRUPTED
    with pytest.raises(SplitUnfinished, match="its split was interrupted"):
        package.watch("work", settings=settings)
    assert package.cancel("work", settings=settings).state is WorkloadState.INTERRUPTED
    assert calls(harness) == {}

    assert harness.split(tmp_path / "input.jsonl").request_count == LINES
    assert package.watch("work", settings=settings).counts.total == LINES
    assert harness.emulator.ledger().totals.bought_twice == 0


def test_the_remains_of_a_killed_split_can_be_cancelled_and_cleaned(sqlite_harness, tmp_path):
    """The commands say that nothing was sent; afterwards the name is free."""
    harness = sqlite_harness
    with splitting(harness, tmp_path, 4) as splitter:
        splitter.kill()

    watched = command(harness, "watch", "work", "--no-prefect")
    assert watched.returncode == 4
    assert "its split was interrupted" in watched.stderr
    assert "batchkit clean work" in watched.stderr
    cancelled = command(harness, "cancel", "work")
    assert cancelled.returncode == 0, cancelled.stderr
    assert "nothing of it was sent" in cancelled.stdout
    assert command(harness, "clean", "work", "--yes", "--keep-results").returncode == 0
    assert harness.runner.all_workloads() == []
    assert set(calls(harness)) <= {"files.list"}


def test_a_frozen_splitter_whose_lease_is_over_is_replaced_and_changes_nothing_when_it_wakes(sqlite_harness, tmp_path):
    """A watch does not drive its shards; the same input is split again, and the frozen splitter leaves nothing behind."""
    harness = sqlite_harness
    with splitting(harness, tmp_path, 3) as splitter:
        os.kill(splitter.pid, signal.SIGSTOP)
        with harness.runner.store.write() as connection:
            workload_rows.renew_leases(connection, _owner(harness), time.time() - 1)
        with pytest.raises(SplitUnfinished, match="its split was interrupted"):
            package.watch("work", settings=harness.runner.settings)
        workload = harness.split(tmp_path / "input.jsonl")
        os.kill(splitter.pid, signal.SIGCONT)
        assert splitter.resume() == LINES

    assert harness.runner.find("work").id == workload.id
    assert package.watch("work", settings=harness.runner.settings).counts.total == LINES
    assert harness.emulator.ledger().totals.bought_twice == 0


def _owner(harness: Harness) -> str:
    with harness.runner.store.read() as connection:
        (owner,) = workload_rows.lease_owners(connection)
    return owner


def test_a_shard_of_an_unfinished_split_cannot_be_claimed(open_harness, tmp_path):
    """The claim itself has the guard: neither the splitter's process nor another gets a shard before the split is complete."""
    harness = open_harness()
    with splitting(harness, tmp_path, 4) as splitter:
        workload = harness.runner.find("work")
        with harness.runner.store.write() as connection:
            planned = shard_rows.in_states(connection, workload.id, (ShardState.PLANNED,))
            claimable = shard_leases.count_claimable(
                connection, workload.id, (ShardState.PLANNED,), owner="somebody", now=time.time(), at_most=10
            )
            claimed = shard_leases.claim(
                connection,
                workload.id,
                ShardState.PLANNED,
                owner="somebody",
                now=time.time(),
                lease_seconds=60,
                limit=10,
            )
        assert planned
        assert (claimable, claimed) == (0, [])
        splitter.resume()
    with harness.runner.store.write() as connection:
        assert shard_leases.count_claimable(
            connection, workload.id, (ShardState.PLANNED,), owner="somebody", now=time.time(), at_most=5
        )


def test_a_flow_of_a_workload_that_is_being_split_fails_with_the_message(sqlite_harness, tmp_path):
    """A leading flow raises the message for the user before any wave runs."""
    from tests.flows.support import lead_on  # noqa: PLC0415 - imports Prefect

    harness = sqlite_harness
    with splitting(harness, tmp_path, 2):
        runner = harness.runner
        with pytest.raises(SplitUnfinished, match="is being split by"):
            asyncio.run(lead_on(runner).drive(runner.find("work"), DriveUntil.FINISHED))
    assert calls(harness) == {}
