"""Another program locks SQLite's file: a run waits for it, and if that takes too long the next run resumes."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from batchkit.errors import RowsHeld
from batchkit.store import engine
from tests.surroundings.proofs import Meddled, assert_bought_once, assert_complete
from tests.workloads import write_mixed

_HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.readline()
"""

#: The moments at which the file is locked: while uploading, creating, polling and fetching.
MOMENTS = ("<upload_file", "<create_batch", "<get_batches", "<download_file")


class Holder:
    """Another program that locks the file, in its own process, from ``take`` to ``give_back``."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._process: subprocess.Popen[str] | None = None

    def take(self) -> None:
        """Lock the file."""
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", _HOLDER, self._path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "locked\n"

    def give_back(self) -> None:
        """Unlock the file."""
        if self._process is not None:
            self._process.communicate("\n")
            self._process = None


@pytest.fixture
def database_url(sqlite_url):
    """Use SQLite only, because it has one file that any process can lock."""
    return sqlite_url


@pytest.fixture
def holder(database_url):
    """Return a program that can lock the file."""
    holding = Holder(database_url.removeprefix("sqlite:///"))
    yield holding
    holding.give_back()


@contextmanager
def short_busy_timeout(monkeypatch, seconds):
    """Set the time that connections opened from now on wait for the file."""
    monkeypatch.setattr(engine, "_BUSY_TIMEOUT_MILLISECONDS", int(seconds * 1_000))
    yield


@pytest.mark.slow
@pytest.mark.parametrize("busy_seconds", [20, 0.1], ids=["shorter than the busy timeout", "longer"])
def test_a_file_that_is_locked_for_a_while_is_waited_for(open_harness, holder, monkeypatch, busy_seconds):
    """A run survives another program's lock on its file, whether a statement or the run itself waits for it."""
    with short_busy_timeout(monkeypatch, busy_seconds):
        harness = open_harness()
        left = list(MOMENTS)
        lock = threading.Lock()
        timers: list[threading.Timer] = []

        def hold_for_a_while(moment):
            with lock:
                if moment not in left or any(timer.is_alive() for timer in timers):
                    return
                left.remove(moment)
                holder.take()
                timers.append(threading.Timer(0.3, holder.give_back))
                timers[-1].start()

        harness.runner._given_provider = Meddled(harness.runner.provider, hold_for_a_while)
        progress = harness.run(60)
        for timer in timers:
            timer.join()

    assert left == []
    assert progress.all_succeeded
    assert_bought_once(harness.emulator, 60)
    assert_complete(harness.export(), 60)


def test_a_file_that_stays_locked_ends_the_run(open_harness, holder, monkeypatch, tmp_path):
    """After ``outage_seconds`` the run reports that the file is locked; when the file is free again, the same run resumes."""
    with short_busy_timeout(monkeypatch, 0.1):
        harness = open_harness()
        runner = harness.runner = harness.open_runner(outage_seconds=0.3)
        once = threading.Lock()

        def hold(moment):
            if moment == "<create_batch" and once.acquire(blocking=False):
                holder.take()

        runner._given_provider = Meddled(runner.provider, hold)
        workload = harness.split(write_mixed(tmp_path / "input.jsonl", 60), shard_lines=20)

        with pytest.raises(RowsHeld, match="locked") as caught:
            runner.process(workload.id)

        holder.give_back()
        assert caught.value.exit_code == 4
        assert "end the other program" in str(caught.value.hint)
        assert "run the same command again" in str(caught.value.hint)
        assert runner.process(workload.id).all_succeeded
    assert_bought_once(harness.emulator, 60)
    assert_complete(harness.export(), 60)
