"""No name in the command line, the database or the spool leads out of batchkit's folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

import batchkit as package
from batchkit.errors import SpoolError, UsageError
from tests.workloads import chat_line, write_lines

NAMES = {
    "../../x": "..-..-x.results.jsonl",
    "/etc/passwd": "-etc-passwd.results.jsonl",
    "..": "...results.jsonl",
    "~root/$HOME;rm": "~root-$HOME;rm.results.jsonl",
    "漢" * 66: "漢" * 66 + ".results.jsonl",
}


def files_below(folder):
    """Return all files below a folder."""
    return {path for path in folder.rglob("*") if path.is_file()}


def test_a_workloads_name_stays_in_the_home_and_the_working_directory(batchkit, open_emulator, tmp_path):
    """Whatever its name, a workload writes to the home and one file of results beside it, and is cleaned completely."""
    open_emulator()
    work, before = tmp_path / "work", files_below(tmp_path)
    for number, (name, results) in enumerate(NAMES.items()):
        source = write_lines(tmp_path / "input.jsonl", [chat_line(f"row-{number}")])
        before.add(source)
        done = batchkit("run", source, "--no-prefect", "--name", name)
        assert done.code == 0, done.err
        outside = files_below(tmp_path) - before - files_below(work / ".batchkit") - files_below(tmp_path / "emulator")
        assert outside == {work / results}
        (work / results).unlink()
        assert batchkit("clean", name, "--yes").code == 0
        assert list((work / ".batchkit" / "spool").iterdir()) == []


@pytest.mark.parametrize("name", ["a\x00b", "x" * 201, "漢" * 67, "two\nlines", "\x1b[2J", "\udcff", " ", "a\u202eb"])
def test_an_impossible_name_is_refused_before_anything_happens(open_emulator, source, name):
    """This includes calls from Python with NUL, names that no file can have, and terminal control characters."""
    emulator = open_emulator()
    with pytest.raises(UsageError):
        package.run(source, name=name)
    assert package.status() == []
    assert emulator.ledger().calls == {}


def test_an_impossible_output_is_refused_before_anything_is_sent(batchkit, open_emulator, source):
    """A name that is too long, or a file in place of a folder, is detected before anything is paid for."""
    emulator = open_emulator()
    Path("plain").touch()
    for output in ("o" * 300 + ".jsonl", "plain/out.jsonl", "../" * 2_000 + "out.jsonl"):
        ended = batchkit("run", source, "--no-prefect", "--output", output)
        assert ended.code == 2, ended.err
        assert "cannot be written" in ended.err
    assert emulator.ledger().calls == {}


TAMPERED = ["../../secret.jsonl", "{home}/../secret.jsonl", "/etc/hostname", "work/../../../secret.jsonl"]


@pytest.mark.parametrize("path", TAMPERED)
def test_a_tampered_shard_is_not_sent(open_harness, source, path):
    """A path in the database that leads to another file of this machine does not upload that file."""
    harness = open_harness()
    workload = harness.split(source)
    (harness.home.parent / "secret.jsonl").write_bytes(b"{}")
    with harness.runner.store.write() as connection:
        connection.execute(text("UPDATE shards SET path = :path"), {"path": path.format(home=harness.home)})
    with pytest.raises(SpoolError, match="does not lie in"):
        harness.runner.process(workload.id)
    assert harness.emulator.ledger().totals.batches == 0
    assert "files.create" not in harness.emulator.ledger().calls


@pytest.mark.parametrize("directory", ["..", ".", "../../precious", "/"])
def test_a_tampered_workload_is_not_cleaned(open_harness, directory):
    """A folder in the database that is not the workload's is not deleted, and neither is anything else."""
    harness = open_harness()
    assert harness.run(20).is_finished
    precious = harness.home.parent / "precious" / "file"
    precious.parent.mkdir()
    precious.write_text("kept")
    with harness.runner.store.write() as connection:
        connection.execute(text("UPDATE workloads SET directory = :directory"), {"directory": directory})
    before = files_below(harness.home)
    with pytest.raises(SpoolError, match="nothing was touched"):
        harness.runner.clean("work", keep_results=False)
    assert files_below(harness.home) == before
    assert precious.read_text() == "kept"
    assert "files.delete" not in harness.emulator.ledger().calls


def test_clean_does_not_follow_links(open_harness):
    """Links in the spool are deleted as links; their targets stay, and are not counted."""
    harness = open_harness()
    assert harness.run(20).is_finished
    outside = harness.home.parent / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"x" * 10_000_000)
    (folder,) = (harness.home / "spool").iterdir()
    (folder / "shards" / "folder").symlink_to(outside)
    (folder / "shards" / "file").symlink_to(outside / "file")
    (folder / "answers" / "loop").symlink_to(folder)
    report = harness.runner.clean("work", keep_results=False)
    assert not folder.exists()
    assert (outside / "file").stat().st_size == 10_000_000
    assert report.counts["bytes freed"] < 1_000_000
