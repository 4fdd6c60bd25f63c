"""batchkit's files are readable by their owner only, whatever the umask and existing folders; an export is the user's own file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from batchkit.flows.temporary_server import TemporaryServer

from batchkit.emulator import Emulator
from batchkit.emulator.faults.lines import ExpireLines

RUN = ("--no-prefect", "--shard-lines", "20")


@pytest.fixture
def umask():
    """Return a function that sets the umask until the end of the test."""
    before = os.umask(0o022)

    def put(value: int) -> None:
        os.umask(value)

    yield put
    os.umask(before)


def mode(path):
    """Return a file's permission bits."""
    return stat.S_IMODE(path.lstat().st_mode)


def open_to_others(folder):
    """Return everything below a folder to which other users have any access."""
    return [f"{mode(path):o} {path.relative_to(folder)}" for path in folder.rglob("*") if mode(path) & 0o077]


@pytest.mark.parametrize("home_exists", [False, True], ids=["new home", "home open to all"])
def test_home_is_private_under_any_umask(batchkit, open_emulator, source, umask, home_exists):
    """This covers shards, answers, the database and its log, with an umask of zero and a home that is open to all."""
    open_emulator(ExpireLines(count=2, attempts=1))
    Path(".batchkit/batchkit.db").unlink()
    Path(".batchkit").rmdir()
    umask(0)
    if home_exists:
        Path(".batchkit").mkdir(mode=0o777)
    assert batchkit("run", source, *RUN).code == 0
    assert open_to_others(Path(".batchkit")) == []
    assert mode(Path(".batchkit")) == (0o777 if home_exists else 0o700)
    names = {path.name.partition(".")[2] for path in Path(".batchkit").rglob("*") if path.is_file()}
    assert names >= {"db", "jsonl", "output.jsonl", "error.jsonl"}


def test_home_is_private_beside_postgres(batchkit, open_emulator, source, umask, postgres_url):
    """The folder, and folders above it, are created for the owner although no database is in it."""
    open_emulator()
    umask(0)
    assert batchkit("run", source, *RUN, "--home", "a/b", "--database-url", postgres_url).code == 0
    assert mode(Path("a")) == mode(Path("a/b")) == 0o700
    assert open_to_others(Path("a")) == []


def test_record_of_a_temporary_prefect_server_is_private(tmp_path, umask):
    """The record names a process; no other user needs to know it."""
    umask(0)
    home = tmp_path / "home"
    server = TemporaryServer.start(home)
    try:
        assert len(list(home.rglob("*"))) == 2
        assert mode(home) == 0o700
        assert open_to_others(home) == []
    finally:
        server.stop(0)


@pytest.mark.parametrize("exists", [False, True], ids=["new directory", "directory open to all"])
def test_an_emulators_directory_is_private(batchkit, open_emulator, source, tmp_path, umask, exists):
    """Uploads, results and the database of an emulator contain its users' data."""
    umask(0)
    if exists:
        (tmp_path / "emulator").mkdir(mode=0o777)
    open_emulator()
    assert batchkit("run", source, *RUN).code == 0
    assert len(list((tmp_path / "emulator").rglob("*"))) > 5
    outside = [line for line in open_to_others(tmp_path / "emulator") if "/" not in line]
    assert outside == []
    for folder in ("files", "parts"):
        assert mode(tmp_path / "emulator" / folder) == 0o700


def test_a_temporary_emulators_directory_is_private(umask):
    """Without a directory option it uses a new one that only the owner may enter."""
    umask(0)
    with Emulator() as emulator:
        assert mode(emulator.directory) == 0o700


@pytest.mark.parametrize(("given", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_export_gets_the_permissions_of_any_new_file(batchkit, open_emulator, source, umask, given, expected):
    """It is the user's own file: the umask decides who may read it."""
    open_emulator()
    umask(given)
    assert batchkit("run", source, *RUN, "--output", "out.csv").code == 0
    assert mode(Path("out.csv")) == expected


def test_an_export_keeps_the_permissions_of_the_file_that_it_replaces(batchkit, open_emulator, source, umask):
    """A user who has restricted a file need not do it again after every export."""
    open_emulator()
    umask(0o022)
    Path("out.jsonl").touch(mode=0o600)
    assert batchkit("run", source, *RUN, "--output", "out.jsonl").code == 0
    assert Path("out.jsonl").stat().st_size > 0
    assert mode(Path("out.jsonl")) == 0o600
    Path("out.jsonl").chmod(0o640)
    assert batchkit("export", "input", "out.jsonl").code == 0
    assert mode(Path("out.jsonl")) == 0o640
