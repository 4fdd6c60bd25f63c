"""``serve`` and ``watch`` in their own processes, beside a transfer that does not end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import batchkit as package
from batchkit.engine.waves import DriveUntil
from batchkit.steps.split import SplitOptions
from batchkit.store import shard_leases, workloads
from tests.flows.support import wait_until
from tests.trickle import trickling
from tests.workloads import chat_line, write_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.steps.conftest import Harness
    from tests.trickle import Trickle


@pytest.fixture
def database_url(sqlite_url):
    """Use SQLite only: the test does not depend on the kind of database."""
    return sqlite_url


@contextmanager
def started(harness: Harness, trickle: Trickle, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command in the harness's environment, through the slow server, with a Prefect server that does not answer."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BATCHKIT_")}
    environment = {
        **kept,
        "PYTHONPATH": str(Path(package.__file__).parent.parent),
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
        "GROQ_API_KEY": harness.emulator.api_key,
        "BATCHKIT_BASE_URL": trickle.base_url,
        "BATCHKIT_DATABASE_URL": harness.database_url,
        "BATCHKIT_HOME": str(harness.home),
        "BATCHKIT_POLL_INTERVAL_SECONDS": "0.1",
        "BATCHKIT_MAX_POLL_INTERVAL_SECONDS": "0.3",
        "BATCHKIT_ACCEPT_OTHER_KEY": "true",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "batchkit", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def is_finished(harness: Harness, name: str) -> bool:
    """Return whether a workload has all its results."""
    return harness.runner.progress(harness.runner.find(name).id).is_finished


def lease_owners(harness: Harness) -> set[str]:
    """Return the owners of all leases."""
    with harness.runner.store.read() as connection:
        return shard_leases.lease_owners(connection) | workloads.lease_owners(connection)


@pytest.mark.patient
@pytest.mark.parametrize(
    ("words", "number", "code"),
    [
        (("serve", "--interval", "1"), signal.SIGTERM, 0),
        (("watch", "--no-prefect"), signal.SIGINT, 130),
    ],
    ids=["serve", "watch"],
)
def test_an_endless_transfer_delays_neither_another_workload_nor_the_exit(open_harness, tmp_path, words, number, code):
    """A later workload is finished beside it; a signal ends the process within seconds, and no lease is left."""
    harness = open_harness()
    slow = write_lines(tmp_path / "slow.jsonl", [chat_line(f"slow-{line}") for line in range(40)])
    quick = write_lines(tmp_path / "quick.jsonl", [chat_line(f"quick-{line}") for line in range(4)])
    harness.split(slow, name="slow", shard_lines=10)
    harness.runner.process(harness.runner.find("slow").id, until=DriveUntil.SUBMITTED)
    with trickling(harness.emulator.base_url) as trickle:
        # The process sees it during the other's transfer, or at the same time.
        harness.runner.split([quick], name="quick", options=SplitOptions())
        with started(harness, trickle, *words) as process:
            assert trickle.began.wait(40)
            assert wait_until(lambda: is_finished(harness, "quick"), 40)
            assert not is_finished(harness, "slow")
            pressed_at = time.monotonic()
            process.send_signal(number)
            out, _ = process.communicate(timeout=30)
            assert time.monotonic() - pressed_at < 10
            assert process.returncode == code, out
        assert lease_owners(harness) == set()
    last = harness.open_runner(accept_other_key=True)
    assert last.process(last.find("slow").id).all_succeeded
    assert harness.emulator.ledger().totals.bought_twice == 0
