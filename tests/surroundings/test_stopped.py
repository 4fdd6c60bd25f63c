"""A process stopped past the end of its lease resumes after another one has done its work: it does no harm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from batchkit.emulator.faults import calls, lines
from tests.surroundings.proofs import assert_bought_once, assert_complete
from tests.workloads import read_lines, write_mixed

# Processes are slow; ``test_late_writers`` shows the same results within one process, in every run of the suite.
pytestmark = pytest.mark.slow

REQUESTS = 60
RUN = ("run", "input.jsonl", "--no-prefect", "--shard-lines", "10", "--output", "out.jsonl")
ROOT = Path(__file__).parents[2]


@contextmanager
def stopped(command, moment):
    """Start the command, and yield it once it has stopped itself at a moment; it never outlives the test."""
    command.environment |= {"BATCHKIT_LEASE_SECONDS": "0.6", "PYTHONPATH": str(ROOT)}
    # One transfer at a time, so that no thread is stopped inside a transaction: that would block all other processes.
    environment = {**command.environment, "BATCHKIT_TRANSFERS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.surroundings.stopping", moment, *RUN[:-1], "late.jsonl"],
        cwd=command.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), process.communicate()
        yield process
    finally:
        process.kill()
        process.communicate()


def resume(process):
    """Resume a stopped process and wait until it ends; return its stderr."""
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return err


@pytest.mark.parametrize("moment", ["before an upload", "before the last check", "after the answer", "before a merge"])
def test_a_late_writer_does_no_harm(start_command, moment):
    """Another process finishes the shards of a stopped one; the stopped one notices when it resumes, and buys nothing again."""
    command = start_command([lines.ExpireLines(fraction=0.3, attempts=1)])
    write_mixed(command.folder / "input.jsonl", REQUESTS)

    with stopped(command, moment) as late:
        done = command.run(*RUN)
        before = command.emulator.ledger().totals.batches
        resume(late)

    assert done.returncode == 0, done.stderr
    assert command.emulator.ledger().totals.batches == before
    assert_bought_once(command.emulator, REQUESTS)
    assert_complete(read_lines(command.folder / "out.jsonl"), REQUESTS)
    assert_complete(read_lines(command.folder / "late.jsonl"), REQUESTS)


@pytest.mark.parametrize("refusal", [[], [calls.UnknownFileRefused()]], ids=["fails later", "refused at once"])
def test_a_creation_that_is_sent_too_late_buys_nothing(start_command, refusal):
    """The creation of a process stopped between its last check and its sending fails: the file that it names is deleted."""
    command = start_command(refusal)
    write_mixed(command.folder / "input.jsonl", REQUESTS)

    with stopped(command, "after the last check") as late:
        done = command.run(*RUN)
        before = command.emulator.ledger().totals
        err = resume(late)

    after = command.emulator.ledger().totals
    assert done.returncode == 0, done.stderr
    assert after.requests_executed == before.requests_executed == REQUESTS
    assert after.bought_twice == 0
    assert_complete(read_lines(command.folder / "out.jsonl"), REQUESTS)
    assert_complete(read_lines(command.folder / "late.jsonl"), REQUESTS)
    assert after.batches == before.batches + (not refusal), err
    if not refusal:
        assert "is one too many" in err
        assert command.count("SELECT count(*) FROM events WHERE kind = 'surplus batch'") == 1
