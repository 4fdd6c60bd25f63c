"""A workload on machines that share a database and a spool URL, but no disk."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from batchkit.emulator.faults import batches, lines
from batchkit.engine.runtime import Runner
from batchkit.engine.waves import DriveUntil
from batchkit.errors import SpoolError
from batchkit.files.remote import RemoteFiles
from batchkit.models import ShardState
from batchkit.settings import load_settings
from batchkit.steps.shard_file import ShardFile
from batchkit.steps.split import SplitOptions
from batchkit.store import shards, workloads
from tests.steps.conftest import QUICK, Harness
from tests.surroundings.proofs import assert_bought_once, assert_complete
from tests.workloads import read_lines, write_mixed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REQUESTS = 60
#: The shards of the split, 20 lines each: a batch has one endpoint, and a tenth of the lines use a second one.
SHARDS = 4


class Machines:
    """Any number of machines, each with its own home, on one emulator, database and URL."""

    def __init__(self, harness: Harness, url: str, folder: Path, stack: ExitStack) -> None:
        self.harness = harness
        self.url = url
        self.folder = folder
        self._stack = stack

    def open(self, name: str, **overrides: Any) -> Runner:
        """Open a runner on a machine; it is closed at the end of the test."""
        emulator = self.harness.emulator
        given = {
            **QUICK,
            "api_key": emulator.api_key,
            "base_url": emulator.base_url,
            "spool_url": self.url,
            **overrides,
        }
        settings = load_settings(home=self.home(name), database_url=self.harness.database_url, **given)
        return self._stack.enter_context(Runner(settings))

    def home(self, name: str) -> Path:
        """Return the home of a machine."""
        return self.folder / name

    def files(self, name: str) -> list[Path]:
        """Return the files on a machine's disk."""
        return [path for path in self.home(name).rglob("*") if path.is_file()]


@pytest.fixture
def open_machines(open_harness, tmp_path) -> Iterator[Any]:
    """Return a function that starts an emulator with faults and returns the machines on it."""
    with ExitStack() as stack:
        yield lambda *faults, url=None: Machines(
            open_harness(*faults), url or f"file://{tmp_path}/url", tmp_path, stack
        )


def split(runner: Runner, folder: Path, count: int = REQUESTS) -> Any:
    """Split a mixed workload into shards of 20 lines."""
    source = write_mixed(folder / "input.jsonl", count)
    return runner.split([source], name="work", options=SplitOptions(shard_lines=20))


def share_the_work(machines: Machines) -> None:
    """Split on one machine, submit on another, finish and export on a third; their disks end as they began."""
    workload = split(machines.open("first"), machines.folder)
    assert machines.files("first") == []
    machines.open("second").process(workload.id, until=DriveUntil.SUBMITTED)
    third = machines.open("third")
    assert third.process(workload.id).is_finished
    target = machines.folder / "out.jsonl"
    third.export("work", target)
    assert_complete(read_lines(target), REQUESTS)
    assert_bought_once(machines.harness.emulator, REQUESTS)
    assert machines.harness.emulator.ledger().totals.batches > SHARDS, "nothing was cut anew"
    assert [machines.files(name) for name in ("first", "second", "third")] == [[], [], []]
    cleaned = third.clean("work", keep_results=False)
    assert cleaned.counts["bytes freed"] > (machines.folder / "input.jsonl").stat().st_size


def test_machines_share_a_workload(open_machines):
    """One machine cuts, another uploads, and a third cuts the expired requests again: nothing is bought twice."""
    machines = open_machines(lines.ExpireLines(fraction=0.4, attempts=1), batches.ShuffleOutput())
    share_the_work(machines)
    assert list((machines.folder / "url").rglob("*.jsonl")) == []


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)  # once is enough
def test_machines_share_a_workload_on_s3(open_machines, s3_url):
    """The same with shards in an S3 bucket."""
    share_the_work(open_machines(lines.ExpireLines(fraction=0.4, attempts=1), url=s3_url))


def test_a_machine_without_the_url_names_the_setting(open_machines):
    """The machine finds no file, buys nothing, and names the setting; a machine with the setting finishes the work."""
    machines = open_machines()
    workload = split(machines.open("first"), machines.folder)
    ignorant = load_settings(
        home=machines.home("second"),
        database_url=machines.harness.database_url,
        **machines.open("x").settings.model_dump(include={"api_key", "base_url"}),
    )
    with Runner(ignorant) as runner, pytest.raises(SpoolError, match="is missing") as caught:
        runner.process(workload.id)
    assert "BATCHKIT_SPOOL_URL" in (caught.value.hint or "")
    assert machines.harness.emulator.ledger().totals.batches == 0
    assert machines.open("second").process(workload.id).is_finished


def test_a_url_may_be_set_in_the_middle_of_the_work(open_machines):
    """Shards cut without the URL are read from their disk; those cut later are at the URL."""
    machines = open_machines(lines.ExpireLines(fraction=0.4, attempts=1))
    workload = split(machines.harness.runner, machines.folder)
    with_url = machines.open(machines.harness.home.name)
    assert with_url.process(workload.id).is_finished
    assert_bought_once(machines.harness.emulator, REQUESTS)
    assert list((machines.folder / "url").rglob("*.jsonl")) != []
    with_url.clean("work", keep_results=True)
    assert list((machines.folder / "url").rglob("*.jsonl")) == []
    assert machines.files(machines.harness.home.name) == []


def test_a_shard_is_put_before_its_row_is_committed(open_machines, monkeypatch):
    """A shard's row is committed after its upload, so a process that finds the row finds the file."""
    machines = open_machines(lines.ExpireLines(fraction=0.4, attempts=1))
    runner = machines.open("first")
    put = RemoteFiles.put
    known: list[bool] = []

    def watched_put(remote: RemoteFiles, source: Path, name: str) -> None:
        put(remote, source, name)
        with runner.store.read() as connection:
            ours = (workloads.find(connection, "work") or pytest.fail("no workload")).id
            known.extend(shard.path == name for shard in shards.in_states(connection, ours, tuple(ShardState)))

    monkeypatch.setattr(RemoteFiles, "put", watched_put)
    assert runner.process(split(runner, machines.folder).id).is_finished
    assert len(known) > SHARDS
    assert not any(known)


def test_a_death_between_put_and_commit_leaves_a_stray_file(open_machines, monkeypatch):
    """The stray file is never read; the requests are cut again and bought once, and `clean` deletes the file."""
    machines = open_machines(lines.ExpireLines(fraction=0.4, attempts=1))
    first = machines.open("first")
    workload = split(first, machines.folder)

    def die(*_arguments: object, **_more: object) -> None:
        # Not an error that is waited out; it acts like a kill.
        raise SystemExit("died")

    monkeypatch.setattr(ShardFile, "commit", die)
    with pytest.raises(SystemExit, match="died"):
        first.process(workload.id)
    first.close()
    monkeypatch.undo()
    second = machines.open("second")
    assert second.process(workload.id).is_finished
    assert_bought_once(machines.harness.emulator, REQUESTS)
    with second.store.read() as connection:
        known = {shard.path for shard in shards.in_states(connection, workload.id, tuple(ShardState))}
    there = {str(path.relative_to(machines.folder / "url")) for path in (machines.folder / "url").rglob("*.jsonl")}
    assert known < there
    assert len(there) == len(known) + 1
    second.clean("work", keep_results=False)
    assert list((machines.folder / "url").rglob("*.jsonl")) == []


def test_a_split_whose_files_cannot_be_put_leaves_nothing(open_machines):
    """No workload is created and no call is made; after the repair, the same command resumes."""
    machines = open_machines()
    runner = machines.open("first")
    (machines.folder / "url").write_text("in the way")
    with pytest.raises(SpoolError, match="cannot write"):
        split(runner, machines.folder)
    assert machines.harness.emulator.ledger().calls == {}
    (machines.folder / "url").unlink()
    assert runner.process(split(runner, machines.folder).id).is_finished


def test_a_split_that_cannot_be_cleaned_up_is_not_forgotten(open_machines, monkeypatch):
    """While the URL is unreachable, nothing there can be deleted; the row that names the folder stays until then."""
    machines = open_machines()
    runner = machines.open("first")
    put = RemoteFiles.put

    def away(*_arguments: object) -> None:
        raise SpoolError("cannot reach it")

    def put_and_go(remote: RemoteFiles, source: Path, name: str) -> None:
        put(remote, source, name)
        monkeypatch.setattr(RemoteFiles, "put", away)
        monkeypatch.setattr(RemoteFiles, "remove_tree", away)

    monkeypatch.setattr(RemoteFiles, "put", put_and_go)
    for _ in range(2):
        with pytest.raises(SpoolError, match="cannot reach it"):
            split(runner, machines.folder)
    assert len(list((machines.folder / "url").rglob("*.jsonl"))) == 1
    monkeypatch.undo()
    split(machines.open("second"), machines.folder)
    assert len(list((machines.folder / "url").iterdir())) == 1
    assert len(list((machines.folder / "url").rglob("*.jsonl"))) == SHARDS
