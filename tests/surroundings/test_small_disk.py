"""A real file system is too small, or read-only: the command reports it at every stage and resumes later."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests.surroundings.proofs import assert_bought_once, assert_complete
from tests.workloads import read_lines, write_mixed

pytestmark = pytest.mark.slow

REQUESTS = 600
RUN = ("run", "input.jsonl", "--no-prefect", "--shard-lines", "100", "--output", ".batchkit/out.jsonl")


class SmallDisk:
    """A separate file system under ``folder/.batchkit``, visible only to the commands that run in it."""

    def __init__(self, command, pid: int, enter: list[str]) -> None:
        self._command = command
        self._enter = ["nsenter", f"--target={pid}", "--mount", *enter]

    def shell(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script that sees the file system."""
        place = f"cd {shlex.quote(str(self._command.folder))} && "
        return subprocess.run(
            [*self._enter, "sh", "-c", place + script],
            env={**self._command.environment, **environment},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def remount(self, options: str) -> None:
        """Change its size, or make it read-only or writable."""
        done = self.shell(f'mount -o remount,{options} "$PWD/.batchkit"')
        assert done.returncode == 0, done.stderr

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command."""
        return self.shell(shlex.join([sys.executable, "-m", "batchkit", *words]), BATCHKIT_OUTAGE_SECONDS="0.3")


@contextmanager
def small_disk(command, size):
    """Mount a file system of some size; where that is not allowed, only ``test_disk`` covers full disks."""
    (command.folder / ".batchkit").mkdir()
    # Root mounts as root; other users become root in their own namespace first.
    is_root = os.geteuid() == 0
    mount = f'mount -t tmpfs -o size={size} tmpfs "$PWD/.batchkit" && echo mounted && read _'
    with subprocess.Popen(
        ["unshare", "--mount", *([] if is_root else ["--map-root-user"]), "sh", "-c", mount],
        cwd=command.folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        try:
            assert holder.stdout is not None
            if holder.stdout.readline() != "mounted\n":
                pytest.skip(
                    "no file system may be mounted here; test_disk shows the same with a limit on the size of files"
                )
            yield SmallDisk(command, holder.pid, [] if is_root else ["--user", "--preserve-credentials"])
        finally:
            holder.kill()


@pytest.fixture
def command(start_command):
    """Return the command with its database and its files in one folder."""
    started = start_command()
    del started.environment["BATCHKIT_DATABASE_URL"]
    write_mixed(started.folder / "input.jsonl", REQUESTS)
    return started


@pytest.fixture
def database_url(sqlite_url) -> str:
    """Use SQLite only, because its file is in the folder."""
    return str(sqlite_url)


def test_a_disk_that_is_too_small_at_every_stage(command):
    """The command ends with exit code 4 and the reason at whatever stage the disk is full, and resumes with more space."""
    with small_disk(command, "300k") as disk:
        for size in (300, 600, 900, 1_200, 1_600, 2_000, 2_400, 2_800, 3_500, 4_500):
            disk.remount(f"size={size}k")
            ended = disk.run(*RUN)
            assert ended.returncode in {0, 4}, (size, ended.stderr)
            if ended.returncode:
                assert "make room" in ended.stderr, (size, ended.stderr)
                assert "same command again" in ended.stderr.replace("\n", " "), (size, ended.stderr)
        disk.remount("size=50m")
        done = disk.run(*RUN)
        disk.shell("cp .batchkit/out.jsonl out.jsonl")

    assert done.returncode == 0, done.stderr
    assert_bought_once(command.emulator, REQUESTS)
    assert_complete(read_lines(command.folder / "out.jsonl"), REQUESTS)


def test_a_disk_that_becomes_read_only(command):
    """The command sends nothing that it cannot record while files and database are read-only, and resumes afterwards."""
    with small_disk(command, "50m") as disk:
        submitted = disk.run("submit", *RUN[1:-2])
        assert submitted.returncode == 0, submitted.stderr
        disk.remount("ro")
        before = command.emulator.ledger().totals.batches
        refused = disk.run(*RUN)
        disk.remount("rw")
        done = disk.run(*RUN)
        disk.shell("cp .batchkit/out.jsonl out.jsonl")

    assert refused.returncode == 4, refused.stderr
    assert "permissions" in refused.stderr
    assert command.emulator.ledger().totals.batches == before
    assert done.returncode == 0, done.stderr
    assert_bought_once(command.emulator, REQUESTS)
    assert_complete(read_lines(command.folder / "out.jsonl"), REQUESTS)
