"""Two machines share a database and a bucket, but no disk. On Postgres only, because a SQLite file is on one machine."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from fsspec import filesystem

from batchkit.emulator import Emulator, Scenario
from batchkit.emulator.faults import batches, lines
from tests.commands import Command
from tests.surroundings.proofs import assert_bought_once, assert_complete
from tests.workloads import read_lines, write_mixed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REQUESTS = 1_000
#: The shards of the first split: a batch has one endpoint, and a tenth of the lines use a second one.
SHARDS = 10
RUN = ("run", "input.jsonl", "--name", "work", "--no-prefect", "--shard-lines", "100", "--output", "out.jsonl")

MOMENTS = {
    "while splitting": lambda machine: machine.count("SELECT count(*) FROM shards") >= 2,
    "while uploading": lambda machine: machine.emulator.ledger().calls.get("files.create", 0) >= 3,
    "while creating batches": lambda machine: machine.emulator.ledger().totals.batches >= 3,
    "while merging": lambda machine: machine.count("SELECT count(*) FROM shards WHERE state = 'merged'") >= 3,
    "after resubmitting": lambda machine: machine.count("SELECT count(*) FROM shards") > SHARDS,
}


@pytest.fixture
def machines(postgres_url, s3_url, tmp_path) -> Iterator[Any]:
    """Return two commands in their own folders, on one database, one bucket and one emulator."""
    faults = (lines.ExpireLines(fraction=0.3, attempts=1), batches.ShuffleOutput())
    with ExitStack() as stack:
        emulator = stack.enter_context(Emulator(tmp_path / "emulator", Scenario(faults=faults), speed=432_000))
        both = []
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            machine = Command(emulator, postgres_url, tmp_path / name)
            machine.environment["BATCHKIT_SPOOL_URL"] = s3_url
            both.append(machine)
        yield both


def kept(machine: Command) -> list[Path]:
    """Return the files on a machine's disk, without inputs and exports."""
    return [path for path in (machine.folder / ".batchkit").rglob("*") if path.is_file()]


@pytest.mark.slow
def test_one_machine_dies_and_the_other_finishes(machines, s3_url):
    """Shards that only the dead machine wrote are uploaded, merged and, where they expired, cut again by the other one."""
    first, second = machines
    write_mixed(first.folder / "input.jsonl", REQUESTS)
    first.kill_when(lambda: first.count("SELECT count(*) FROM workloads WHERE request_count > 0") > 0, *RUN)
    assert first.count("SELECT count(*) FROM shards WHERE state = 'planned'") > 0, "nothing was left to the other one"
    bucket = filesystem("s3", skip_instance_cache=True, use_listings_cache=False)
    assert len(bucket.find(s3_url)) == SHARDS

    watched = second.run("watch", "work", "--no-prefect")
    exported = second.run("export", "work", "out.jsonl")

    assert (watched.returncode, exported.returncode) == (0, 0), watched.stderr + exported.stderr
    assert_complete(read_lines(second.folder / "out.jsonl"), REQUESTS)
    assert_bought_once(second.emulator, REQUESTS)
    assert second.emulator.ledger().totals.batches > SHARDS, "nothing was cut anew"
    assert kept(second) == []

    cleaned = second.run("clean", "work", "--yes")

    assert cleaned.returncode == 0, cleaned.stderr
    assert bucket.find(s3_url) == []


@pytest.mark.slow
def test_two_machines_are_killed_in_turn(machines):
    """Killed in turn at every moment of one workload, they finish it together; each finds the other's shards."""
    for machine in machines:
        write_mixed(machine.folder / "input.jsonl", REQUESTS)
    for number, moment in enumerate(MOMENTS.values()):
        machine = machines[number % 2]
        machine.kill_when(lambda moment=moment, machine=machine: moment(machine), *RUN)

    for machine in machines:
        done = machine.run(*RUN)
        assert done.returncode == 0, done.stderr
        assert_complete(read_lines(machine.folder / "out.jsonl"), REQUESTS)
    assert_bought_once(machines[0].emulator, REQUESTS)


@pytest.mark.slow
def test_two_machines_work_at_the_same_time(machines):
    """Both commands print the same result in the end, nothing is bought twice, and no file stays on either disk."""
    for machine in machines:
        write_mixed(machine.folder / "input.jsonl", REQUESTS)
    processes = [machine.start(*RUN) for machine in machines]
    for process in processes:
        _, err = process.communicate(timeout=100)
        assert process.returncode == 0, err
    for machine in machines:
        assert_complete(read_lines(machine.folder / "out.jsonl"), REQUESTS)
        assert kept(machine) == []
    assert_bought_once(machines[0].emulator, REQUESTS)
