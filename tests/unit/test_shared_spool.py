"""A spool at a URL: shards are uploaded before their rows are committed, and stay on a disk only while they are in use."""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING

import pytest

from batchkit.errors import SpoolError
from batchkit.files.remote import RemoteFiles
from batchkit.files.shared_spool import SharedSpool
from batchkit.files.spool import Spool, part_of
from batchkit.models import Shard, ShardId, ShardState, WorkloadId
from batchkit.owners import is_certainly_dead, new_owner

if TYPE_CHECKING:
    from pathlib import Path

LINES = b"a line\n" * 100
OUTSIDE = ["..", "../x", "a/../../x", "a/..", "/", "/etc", "", ".", "./", "*", "evals-?"]


@pytest.fixture(params=["file", "memory"])
def url(request, tmp_path) -> str:
    """Return the URL of an empty folder that all machines see."""
    return f"file://{tmp_path}/shared" if request.param == "file" else f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def machine(url, tmp_path):
    """Return a function that opens the spool on a machine with some name, for a new process."""

    def open_spool(name: str, owner: str | None = None) -> SharedSpool:
        return SharedSpool(tmp_path / name, RemoteFiles(url, attempts=1), owner=owner or new_owner())

    return open_spool


def shard(path: str = "evals-1/shards/a.jsonl", data: bytes = LINES) -> Shard:
    """Return the row of a shard with a file of these bytes."""
    return Shard(
        id=ShardId(1),
        workload_id=WorkloadId(1),
        number=7,
        state=ShardState.PLANNED,
        endpoint="/v1/chat/completions",
        window="24h",
        key="a",
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        line_count=100,
        byte_count=len(data),
        first_seq=0,
        last_seq=99,
        input_file_id=None,
        batch_id=None,
        submitting_since=None,
        not_before=0,
        refusals=0,
        waits=0,
        next_lines=100,
        next_window="24h",
        list_scans=0,
    )


def write(spool: Spool, relative: str = "evals-1/shards/a.jsonl", data: bytes = LINES) -> None:
    """Write and publish a file as a split does."""
    final = spool.path(relative)
    with spool.open_part(final) as handle:
        handle.write(data)
    spool.publish(part_of(final), final)


def files_below(folder: Path) -> list[str]:
    """Return the files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_published_shard_is_read_on_another_machine(machine, tmp_path):
    """No disk keeps it: the writer's has it until it is published, the reader's while it is read."""
    here, there = machine("here"), machine("there")
    write(here)
    assert files_below(tmp_path / "here") == []
    with there.reading(shard()) as path:
        assert path.read_bytes() == LINES
        assert path.is_relative_to(tmp_path / "there")
    assert files_below(tmp_path / "there") == []


def test_an_open_shard_has_no_name_on_the_disk(machine, tmp_path):
    """It can be read until it is closed, and a killed process leaves nothing of it."""
    here, there = machine("here"), machine("there")
    write(here)
    with there.open_shard(shard()) as handle:
        assert files_below(tmp_path / "there") == []
        handle.seek(7)
        assert handle.read() == LINES[7:]


def test_two_readers_do_not_disturb_each_other(machine):
    """The first to finish does not delete the other's file."""
    here = machine("here")
    write(here)
    with here.reading(shard()) as first:
        with here.reading(shard()) as second:
            assert second.read_bytes() == LINES
        assert first.read_bytes() == LINES


def test_a_file_that_cannot_be_uploaded_is_not_published(machine, monkeypatch):
    """The writer gets the error, so no row is committed, and the shard is never looked up."""
    here = machine("here")

    def refuse(*_arguments):
        raise SpoolError("cannot write")

    monkeypatch.setattr(RemoteFiles, "put", refuse)
    with pytest.raises(SpoolError):
        write(here)
    monkeypatch.undo()
    with pytest.raises(SpoolError, match="missing"), machine("there").reading(shard()):
        pass


@pytest.mark.parametrize("damage", ["lost", "shorter", "others"])
def test_a_shard_that_is_lost_or_changed_is_not_read(machine, damage, tmp_path):
    """The error names its number and place, and no file is left on the disk."""
    here = machine("here")
    if damage != "lost":
        write(here, data=LINES[:-1] if damage == "shorter" else LINES.swapcase())
    with pytest.raises(SpoolError) as caught, here.reading(shard()):
        pass
    assert "evals-1/shards/a.jsonl" in caught.value.message
    assert caught.value.hint
    assert files_below(tmp_path / "here") == []


def test_shards_from_before_the_url_are_still_read(machine, tmp_path):
    """A workload that was cut without a URL continues on its machine."""
    write(Spool(tmp_path / "here"))
    with machine("here").reading(shard()) as path:
        assert path.read_bytes() == LINES
    with machine("here").open_shard(shard()) as handle:
        assert handle.read() == LINES
    assert files_below(tmp_path / "here") == ["spool/evals-1/shards/a.jsonl"]


def test_a_local_file_of_another_length_is_ignored(machine, tmp_path):
    """The uploaded file counts."""
    write(machine("there"))
    write(Spool(tmp_path / "here"), data=LINES[:-1])
    with machine("here").reading(shard()) as path:
        assert path.read_bytes() == LINES


def test_a_workload_is_deleted_everywhere(machine, tmp_path):
    """The files at the URL and on this disk, including older ones, are deleted and their bytes counted; other workloads stay."""
    here = machine("here")
    write(here)
    write(here, "evals-2/shards/a.jsonl")
    write(Spool(tmp_path / "here"), "evals-1/shards/old.jsonl", b"x" * 10)
    here.path("evals-1/answers/a.jsonl").write_bytes(b"x" * 3)
    assert machine("here", owner="another|b|1|2|3").remove_tree("evals-1") == len(LINES) + 10
    assert here.remove_tree("evals-1") == 3
    with pytest.raises(SpoolError), here.reading(shard()):
        pass
    with here.reading(shard("evals-2/shards/a.jsonl")) as path:
        assert path.read_bytes() == LINES


@pytest.mark.parametrize("relative", OUTSIDE)
def test_paths_that_leave_the_spool_are_refused(machine, relative, tmp_path):
    """A manipulated row reads nothing and deletes nothing, on the disk or at the URL."""
    here = machine("here")
    write(here)
    write(Spool(tmp_path / "here"), "other-1/a")
    for use in (lambda: here.reading(shard(relative)).__enter__(), lambda: here.remove_tree(relative)):
        with pytest.raises(SpoolError):
            use()
    with here.reading(shard()) as path:
        assert path.read_bytes() == LINES
    assert files_below(tmp_path / "here") == ["spool/other-1/a"]


def test_merged_answers_are_deleted_at_once(machine, tmp_path):
    """They are in the database by then; a second deletion does no harm."""
    here = machine("here")
    path = here.path("evals-1/answers/a.output.jsonl")
    path.write_bytes(LINES)
    here.done_with(path)
    here.done_with(path)
    assert files_below(tmp_path / "here") == []


def test_answers_of_a_local_spool_stay(tmp_path):
    """They can be inspected until the workload is cleaned."""
    spool = Spool(tmp_path)
    path = spool.path("evals-1/answers/a.output.jsonl")
    path.write_bytes(LINES)
    spool.done_with(path)
    spool.sweep(lambda _owner: True)
    spool.close()
    assert path.read_bytes() == LINES


def test_files_of_a_killed_process_are_swept(machine, tmp_path):
    """The next process on the same machine deletes them; the files of a live process stay."""
    dead = "|".join([*new_owner().split("|")[:2], "999999999", "1", "made-up"])
    for owner in (dead, None):
        machine("here", owner).path("evals-1/shards/a.jsonl.part").write_bytes(LINES)
    sweeper = machine("here")
    sweeper.sweep(is_certainly_dead)
    assert len(files_below(tmp_path / "here")) == 1
    sweeper.sweep(lambda _owner: True)
    assert files_below(tmp_path / "here") == []


def test_a_process_that_ends_leaves_no_files(machine, tmp_path):
    """It deletes its own working folder, and only that."""
    one, other = machine("here"), machine("here")
    for spool in (one, other):
        spool.path("evals-1/shards/a.jsonl.part").write_bytes(LINES)
    one.close()
    one.close()
    assert len(files_below(tmp_path / "here")) == 1


def test_a_file_of_one_machine_is_kept_for_all(machine):
    """An answer that one machine received and kept is read on another one, and cleaned there."""
    here, there = machine("here"), machine("there")
    here.local("audio/lines-1/abc/x.wav").write_bytes(b"RIFF")
    here.keep_local("audio/lines-1/abc/x.wav")
    assert there.kept("audio/lines-1/abc/x.wav").read_bytes() == b"RIFF"
    there.remove_tree("audio/lines-1")
    with pytest.raises(SpoolError, match="is missing"):
        machine("third").kept("audio/lines-1/abc/x.wav")
