"""The spool folder: no path leaves it, no file is partial, and a full disk has a hint."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit.errors import SpoolError
from batchkit.files import spool as spool_module
from batchkit.files.spool import Spool, directory_name, disk_errors, part_of, sha256_of, whole_file

OUTSIDE = ["..", "../x", "a/../../x", "a/..", "/", "/etc", "", ".", "./"]


@pytest.fixture
def spool(tmp_path) -> Spool:
    """Return a spool whose folder does not exist yet."""
    return Spool(tmp_path / "home")


@pytest.fixture
def neighbour(tmp_path) -> Path:
    """Return a file beside the spool that must survive everything."""
    path: Path = tmp_path / "home" / "batchkit.db"
    path.parent.mkdir()
    path.write_text("precious")
    return path


@given(
    st.text(max_size=60) | st.sampled_from(["..", "../../etc", "/etc/passwd", "a/b", "\x00", "-rf", "C:\\x", ".hidden"])
)
def test_folder_name_is_one_harmless_part(name):
    """Whatever a workload's name is, its folder is one visible, short, plain path part that ends in the key."""
    folder = directory_name(name, "0123abcd")
    assert PurePosixPath(folder).parts == (folder,)
    assert folder.endswith("-0123abcd")
    assert not folder.startswith((".", "-"))
    assert folder.isascii()
    assert folder.isprintable()
    assert not set(folder) & set(" /\\:*?\"'<>|$~\x00")
    assert len(folder) <= 60


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("nightly eval 7", "nightly-eval-7-k"),
        ("a/../b", "a-..-b-k"),
        ("..", "workload-k"),
        ("", "workload-k"),
        ("漢字", "workload-k"),
        ("x" * 99, "x" * 40 + "-k"),
    ],
)
def test_folder_name_stays_readable(name, folder):
    """Harmless characters of the name are kept."""
    assert directory_name(name, "k") == folder


def test_path_is_below_the_spool_and_its_folder_is_created(spool):
    """The folder is created on demand, for its owner only."""
    path = spool.path("evals-1/shards/a.jsonl")
    assert path == spool.root / "evals-1" / "shards" / "a.jsonl"
    assert path.parent.is_dir()
    assert not path.exists()
    for folder in (spool.root, path.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_relative_home_stays_where_it_was(tmp_path, monkeypatch):
    """The spool does not move when the working directory changes."""
    monkeypatch.chdir(tmp_path)
    spool = Spool(Path(".batchkit"))
    monkeypatch.chdir("/")
    assert spool.path("a/b") == tmp_path / ".batchkit" / "spool" / "a" / "b"


@pytest.mark.parametrize("relative", OUTSIDE)
def test_path_outside_the_spool_is_refused(spool, relative):
    """A manipulated row of the database leads nowhere."""
    with pytest.raises(SpoolError, match="does not lie in") as caught:
        spool.path(relative)
    assert caught.value.hint
    assert not spool.root.exists()


@pytest.mark.parametrize("directory", OUTSIDE)
def test_only_a_workloads_folder_is_deleted(spool, neighbour, directory):
    """Cleaning deletes one workload's folder, never the spool, its neighbours or the disk."""
    kept = spool.path("other-1/shards/a.jsonl")
    kept.write_text("kept")
    with pytest.raises(SpoolError):
        spool.remove_tree(directory)
    assert kept.read_text() == "kept"
    assert neighbour.read_text() == "precious"


def test_removing_a_folder_returns_its_bytes(spool, neighbour):
    """Only the workload's folder is deleted, its size is returned, and removing it again frees nothing."""
    for name, size in (("evals-1/shards/a.jsonl", 100), ("evals-1/answers/a.jsonl", 23), ("other-1/shards/b.jsonl", 7)):
        spool.path(name).write_bytes(b"x" * size)
    assert spool.remove_tree("evals-1") == 123
    assert sorted(path.name for path in spool.root.iterdir()) == ["other-1"]
    assert spool.remove_tree("evals-1") == 0
    assert neighbour.read_text() == "precious"


def test_link_to_another_place_is_not_followed(spool, tmp_path):
    """A folder that is a link does not delete its target."""
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / "file").write_text("kept")
    spool.path("other-1/x")
    (spool.root / "evals-1").symlink_to(target)
    with pytest.raises(SpoolError):
        spool.remove_tree("evals-1")
    assert (target / "file").read_text() == "kept"


def test_published_file_is_complete(spool):
    """Until it is published a file has another name; then it atomically replaces the old one, readable by its owner only."""
    final = spool.path("evals-1/shards/a.jsonl")
    final.write_bytes(b"before")
    with spool.open_part(final) as handle:
        handle.write(b"after")
        handle.flush()
        assert final.read_bytes() == b"before"
    spool.publish(part_of(final), final)
    assert final.read_bytes() == b"after"
    assert not part_of(final).exists()
    assert stat.S_IMODE(final.stat().st_mode) == 0o600


def test_partial_file_of_an_earlier_try_is_overwritten(spool):
    """The remains of a crash are not continued."""
    final = spool.path("evals-1/shards/a.jsonl")
    part_of(final).write_bytes(b"torn, and longer than what follows")
    with spool.open_part(final) as handle:
        handle.write(b"whole")
    assert part_of(final).read_bytes() == b"whole"


def test_partial_file_is_beside_its_target():
    """Renaming works within one folder; the whole name is kept."""
    assert part_of(Path("a/b.output.jsonl")) == Path("a/b.output.jsonl.part")


def test_publishing_syncs_the_folder(spool, monkeypatch):
    """The rename itself must survive a power cut: the folder is synced after it."""
    final = spool.path("evals-1/shards/a.jsonl")
    with spool.open_part(final) as handle:
        handle.write(b"x")
    synced: list[tuple[Path, bool]] = []
    monkeypatch.setattr(spool_module, "sync_directory", lambda path: synced.append((path, final.exists())))
    spool.publish(part_of(final), final)
    assert synced == [(final.parent, True)]


def test_synced_folder_leaves_no_descriptor_open(spool, monkeypatch):
    """Thousands of syncs exhaust no descriptors, not even when they fail."""
    folder = spool.path("evals-1/x").parent
    closed: list[int] = []
    monkeypatch.setattr(os, "open", lambda *_arguments: 4_711)
    monkeypatch.setattr(os, "close", closed.append)

    def refuse(descriptor: int) -> None:
        raise OSError(errno.EIO, str(descriptor))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="4711"):
        spool_module.sync_directory(folder)
    assert closed == [4_711]


def test_digest_is_that_of_the_bytes(spool):
    """The digest of a file is its SHA-256 in hex."""
    path = spool.path("evals-1/x")
    path.write_bytes(b"line\n" * 1_000)
    assert sha256_of(path) == hashlib.sha256(b"line\n" * 1_000).hexdigest()


def blocked(spool: Spool) -> None:
    """Put a file in place of a folder."""
    spool.root.parent.mkdir(exist_ok=True)
    spool.root.write_text("in the way")


@pytest.mark.parametrize(
    "use",
    [
        lambda spool: spool.path("evals-1/a"),
        lambda spool: spool.open_part(spool.root / "evals-1" / "a"),
        lambda spool: spool.publish(spool.root / "a.part", spool.root / "a"),
        lambda spool: sha256_of(spool.root / "a"),
    ],
    ids=["path", "open_part", "publish", "sha256_of"],
)
def test_disk_errors_have_a_hint(spool, use):
    """Every file operation turns the system's error into one of ours, with the path and a hint."""
    blocked(spool)
    with pytest.raises(SpoolError) as caught:
        use(spool)
    assert str(spool.root) in str(caught.value)
    assert "BATCHKIT_HOME" in (caught.value.hint or "")
    assert isinstance(caught.value.__cause__, OSError)


def test_missing_partial_file_cannot_be_published(spool):
    """Publishing a file that was never written is an error and keeps the old file."""
    final = spool.path("evals-1/a")
    final.write_text("old")
    with pytest.raises(SpoolError):
        spool.publish(part_of(final), final)
    assert final.read_text() == "old"


def test_folder_that_cannot_be_deleted_is_an_error(spool, monkeypatch):
    """A failed deletion is reported with the system's message."""
    spool.path("evals-1/a").write_text("x")

    def refuse(_path: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("shutil.rmtree", refuse)
    with pytest.raises(SpoolError, match="Read-only") as caught:
        spool.remove_tree("evals-1")
    assert caught.value.hint


def test_full_disk_is_reported_with_the_systems_message(tmp_path):
    """The message has the operation, the path, and the reason."""
    path = tmp_path / "a"
    with pytest.raises(SpoolError) as caught, disk_errors("write", path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(caught.value) == f"cannot write {path}: No space left on device"
    assert "make room" in (caught.value.hint or "")
    assert caught.value.exit_code == 4


def test_error_without_a_number_is_quoted(tmp_path):
    """An error without a number is quoted as it is."""
    with pytest.raises(SpoolError, match="torn cable"), disk_errors("read", tmp_path):
        raise OSError("torn cable")


def test_other_errors_propagate(tmp_path):
    """An internal bug is not reported as a full disk."""
    with pytest.raises(ZeroDivisionError), disk_errors("read", tmp_path):
        raise ZeroDivisionError


def names_in(folder):
    """Return the names in a folder."""
    return sorted(path.name for path in folder.iterdir())


def break_off(target):
    """Begin to write a file, and stop in the middle."""
    with whole_file(target) as handle:
        handle.write(b"third\n")
        raise KeyboardInterrupt


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    """However they overlap, each publishes its own complete file; the last one to finish decides."""
    target = tmp_path / "out.jsonl"
    with whole_file(target) as first:
        first.write(b"first\n" * 1_000)
        with whole_file(target) as second:
            second.write(b"second\n")
            with pytest.raises(KeyboardInterrupt):
                break_off(target)
            first.write(b"first\n" * 1_000)
        assert target.read_bytes() == b"second\n"
    assert target.read_bytes() == b"first\n" * 2_000
    assert names_in(tmp_path) == ["out.jsonl"]


def test_users_file_beside_the_target_is_not_touched(tmp_path):
    """This holds for any name."""
    names = ["out.jsonl.part", ".out.jsonl.part", ".out.jsonl.0123456789ab_1_1_01234567.part", ".out.jsonl.mine.part"]
    for name in names:
        (tmp_path / name).write_bytes(b"the user's own")
    with whole_file(tmp_path / "out.jsonl") as handle:
        handle.write(b"x")
    assert names_in(tmp_path) == sorted([*names, "out.jsonl"])
    assert {(tmp_path / name).read_bytes() for name in names} == {b"the user's own"}


def test_file_with_the_longest_name_can_be_written(tmp_path):
    """The name of the partial file is cut, even in the middle of a character."""
    for name in ("x" * 255, "é" * 127):
        with whole_file(tmp_path / name) as handle:
            handle.write(b"x")
    assert names_in(tmp_path) == ["x" * 255, "é" * 127]


_WRITER = """
import sys
from pathlib import Path
from batchkit.files.spool import whole_file
with whole_file(Path(sys.argv[1])) as handle:
    handle.write(sys.argv[2].encode() * 100_000)
    handle.flush()
    print("written", flush=True)
    sys.stdin.readline()
"""


def test_partial_file_of_a_killed_process_is_removed_and_that_of_a_live_one_is_not(tmp_path):
    """Two processes write one file: one is killed, the other one finishes, after a third has finished before it."""
    target = tmp_path / "out.jsonl"
    target.write_bytes(b"as it was")
    with ExitStack() as stack:
        killed, living = (
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", _WRITER, str(target), letter],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for letter in "kl"
        )
        for process in (killed, living):
            assert process.stdout is not None
            assert process.stdout.readline() == "written\n"
        killed.kill()
        killed.wait()
        assert target.read_bytes() == b"as it was"
        assert len(names_in(tmp_path)) == 3
        with whole_file(target) as handle:
            handle.write(b"mine")
        assert target.read_bytes() == b"mine"
        assert len(names_in(tmp_path)) == 2
        living.communicate("\n")
        assert living.returncode == 0
    assert target.read_bytes() == b"l" * 100_000
    assert names_in(tmp_path) == ["out.jsonl"]
