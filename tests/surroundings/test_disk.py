"""The disk is full, or a folder is not writable: the command reports it with exit code 4, and resumes after the repair."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from batchkit.errors import SpoolError
from tests.surroundings.proofs import Meddled, assert_bought_once, assert_complete
from tests.workloads import read_lines, write_mixed

ROOT = Path(__file__).parents[2]
#: Requests and lines of a shard: a shard file has about 35 kB, a file of answers 80 kB, an export 500 kB.
REQUESTS, LINES = 600, 150
RUN = ("run", "input.jsonl", "--no-prefect", "--shard-lines", str(LINES), "--output", "out.jsonl")


def run_limited(command, most_bytes):
    """Run the command on a disk where no file may have more bytes than this."""
    return subprocess.run(
        [sys.executable, "-m", "tests.surroundings.limited", str(most_bytes), *RUN],
        cwd=command.folder,
        env={**command.environment, "PYTHONPATH": str(ROOT), "BATCHKIT_OUTAGE_SECONDS": "0.3"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def assert_told(ended, *words):
    """Check that the command ended with exit code 4, without the word bug, and printed these words and how to resume."""
    assert ended.returncode == 4, ended.stderr
    for word in (*words, "same command"):
        assert word in ended.stderr.replace("\n", " "), ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_disk_that_is_full_at_each_stage(start_command):
    """The disk is full while splitting, then while fetching answers, then while exporting: each time the same command resumes."""
    command = start_command()
    write_mixed(command.folder / "input.jsonl", REQUESTS)
    spool = command.folder / ".batchkit" / "spool"

    splitting = run_limited(command, 10_000)
    assert_told(splitting, "cannot write", "shards", "File too large")
    assert command.emulator.ledger().calls == {}
    assert not [path for path in spool.rglob("*") if path.is_file()]

    fetching = run_limited(command, 60_000)
    assert_told(fetching, "answers", "File too large")
    assert not list(spool.rglob("*.part"))

    exporting = run_limited(command, 200_000)
    assert_told(exporting, "cannot write out.jsonl", "File too large")
    assert not (command.folder / "out.jsonl").exists()

    done = command.run(*RUN)
    assert done.returncode == 0, done.stderr
    assert_bought_once(command.emulator, REQUESTS)
    assert_complete(read_lines(command.folder / "out.jsonl"), REQUESTS)


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_disk_that_is_full_under_the_database(start_command):
    """When SQLite has no space left while answers are merged, the merge is rolled back, and the same command resumes."""
    command = start_command()
    write_mixed(command.folder / "input.jsonl", REQUESTS)
    file = Path(str(command.database_url).removeprefix("sqlite:///"))
    command.run("submit", *RUN[1:-2])
    room = file.stat().st_size

    merging = run_limited(command, room + 100_000)
    assert_told(merging, "the database sqlite:///", "cannot be used")
    assert command.count("SELECT count(*) FROM shards WHERE state = 'merged'") < 5

    done = command.run(*RUN)
    assert done.returncode == 0, done.stderr
    assert_bought_once(command.emulator, REQUESTS)
    assert_complete(read_lines(command.folder / "out.jsonl"), REQUESTS)


@pytest.mark.parametrize("folder", ["shards", "answers"])
def test_a_folder_that_is_not_writable(open_harness, folder, tmp_path):
    """When one of our folders is not a folder, the run reports which one and why; after the repair the same run resumes."""
    harness = open_harness()
    source = write_mixed(tmp_path / "input.jsonl", 30)
    workload = harness.split(source, shard_lines=10)
    home = harness.runner.spool.root / workload.directory
    if folder == "shards":
        shutil.move(home / folder, tmp_path / "aside")
    (home / folder).write_text("not a folder")

    with pytest.raises(SpoolError, match=folder) as caught:
        harness.runner.process(workload.id)

    assert caught.value.exit_code == 4
    assert "same command" in str(caught.value.hint)
    (home / folder).unlink()
    if folder == "shards":
        shutil.move(tmp_path / "aside", home / folder)
    assert harness.runner.process(workload.id).all_succeeded
    assert_bought_once(harness.emulator, 30)
    assert_complete(harness.export(), 30)


def test_an_export_that_cannot_be_written_keeps_the_last_one(open_harness, tmp_path):
    """An export to a place that is not writable leaves the earlier file there, and the results can be exported elsewhere."""
    harness = open_harness()
    harness.run(30)
    (tmp_path / "full").write_text("in the way")

    with pytest.raises(SpoolError, match="full") as caught:
        harness.runner.export("work", tmp_path / "full" / "out.jsonl")

    assert caught.value.exit_code == 4
    assert_complete(harness.export(), 30)


def test_answers_deleted_from_the_spool_are_fetched_again(open_harness, tmp_path):
    """When answers are deleted before their merge, the run ends; the next one fetches them again, and sends nothing."""
    harness = open_harness()
    once = threading.Lock()

    def delete_answers(moment):
        if moment == "<download_file" and once.acquire(blocking=False):
            for path in harness.runner.spool.root.glob("*/answers/*.jsonl"):
                path.unlink()

    runner = harness.runner
    runner._given_provider = Meddled(runner.provider, delete_answers)
    workload = harness.split(write_mixed(tmp_path / "input.jsonl", 60), shard_lines=60)

    with pytest.raises(SpoolError, match="No such file") as caught:
        runner.process(workload.id)

    assert caught.value.exit_code == 4
    assert runner.process(workload.id).all_succeeded
    assert_bought_once(harness.emulator, 60)
