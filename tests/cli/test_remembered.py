"""An output that was named at the start of a workload is written by the command that finishes it."""

from __future__ import annotations

import csv
import socket
from pathlib import Path

import batchkit as package
from batchkit.emulator.faults import batches, lines
from tests.workloads import read_lines

RUN = ("--no-prefect", "--shard-lines", "10")


def test_the_output_of_submit_is_written_by_watch(batchkit, open_emulator, source, tmp_path, monkeypatch):
    """``watch`` runs in another working directory, and the last lines of both commands name the file."""
    open_emulator()
    target = Path("results.csv").absolute()
    ended = batchkit("submit", source, *RUN, "--output", "results.csv")
    assert ended.code == 0
    assert f"writes the results to {target}" in ended.out
    assert not target.exists()
    home = Path(".batchkit").absolute()
    monkeypatch.chdir(tmp_path)
    ended = batchkit("watch", "input", "--no-prefect", "--home", home)
    assert ended.code == 0
    assert f"results:   {target}" in ended.out
    with target.open() as handle:
        assert sum(1 for _ in csv.reader(handle)) == 31


def test_watch_of_all_and_python_write_the_output_too(batchkit, open_emulator, source):
    """Whatever finishes the workload writes it."""
    open_emulator()
    for name in ("one", "two"):
        batchkit("submit", source, *RUN, "--name", name, "-o", f"{name}.jsonl")
    ended = batchkit("watch", "--no-prefect")
    assert ended.code == 0
    assert len(read_lines(Path("one.jsonl"))) == len(read_lines(Path("two.jsonl"))) == 30
    Path("one.jsonl").unlink()
    package.watch("one")
    assert len(read_lines(Path("one.jsonl"))) == 30


def test_python_submits_with_an_output(batchkit, open_emulator, source):
    """The command line finishes the workload and writes the output."""
    open_emulator()
    package.submit(source, name="work", output="python.jsonl")
    assert batchkit("watch", "work", "--no-prefect").code == 0
    assert len(read_lines(Path("python.jsonl"))) == 30


def test_the_output_is_written_again_after_resubmit(batchkit, open_emulator, source):
    """The file then has the results of the requests that were sent again."""
    emulator = open_emulator(lines.FailLines(custom_ids=frozenset({"row-0000001"}), code="bad_thing"))
    batchkit("submit", source, *RUN, "-o", "out.jsonl")
    assert batchkit("watch", "input", "--no-prefect").code == 3
    assert [line["status"] for line in read_lines(Path("out.jsonl"))].count("failed") == 1
    emulator.set_scenario("clean")
    assert batchkit("resubmit", "input", "--failed", "--no-prefect").code == 0
    assert {line["status"] for line in read_lines(Path("out.jsonl"))} == {"succeeded"}


def test_the_same_command_with_another_output_changes_it(batchkit, open_emulator, source):
    """The last output counts; a command without one changes nothing."""
    open_emulator()
    batchkit("submit", source, *RUN, "-o", "first.jsonl")
    batchkit("submit", source, *RUN, "-o", "second.jsonl")
    batchkit("submit", source, *RUN)
    batchkit("watch", "input", "--no-prefect")
    assert not Path("first.jsonl").exists()
    assert Path("second.jsonl").exists()


def test_run_remembers_its_output_as_well(batchkit, open_emulator, source):
    """A run that was stopped is finished by watch, with the run's own output."""
    emulator = open_emulator(batches.StuckBatches())
    assert batchkit("run", source, *RUN, "-o", "run.jsonl", "--timeout", "0.1").code == 4
    emulator.set_scenario("clean")
    assert batchkit("watch", "input", "--no-prefect").code in {0, 4}
    batchkit("cancel", "input", "--wait", "--no-prefect")
    assert len(read_lines(Path("run.jsonl"))) == 30


def test_an_unwritable_output_is_refused_before_anything_is_sent(batchkit, open_emulator, source):
    """A wrong suffix, a missing folder, and the input itself are exit code 2, and no call is made."""
    emulator = open_emulator()
    for target in ("out.txt", "nowhere/out.csv", source):
        assert batchkit("submit", source, *RUN, "-o", target).code == 2
    assert emulator.ledger().totals.batches == 0


def test_another_machine_names_the_host_that_can_write_the_output(
    batchkit, open_emulator, source, monkeypatch, tmp_path
):
    """The message says that no file was written and has a command to paste; in a shared folder any machine writes."""
    open_emulator()
    batchkit("submit", source, *RUN, "-o", "far.jsonl")
    host = socket.gethostname()
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    ended = batchkit("watch", "input", "--no-prefect")
    assert ended.code == 0
    assert not Path("far.jsonl").exists()
    assert f"not written: {Path('far.jsonl').absolute()}. `batchkit watch input` on {host} writes it" in ended.out
    assert "batchkit export input input.results.jsonl" in ended.out
    monkeypatch.setenv("BATCHKIT_SHARED_FOLDER", str(tmp_path))
    assert batchkit("watch", "input", "--no-prefect").code == 0
    assert len(read_lines(Path("far.jsonl"))) == 30


def test_without_an_output_the_summary_says_that_nothing_was_written(batchkit, open_emulator, source):
    """The summary also names the command that writes the results."""
    open_emulator()
    batchkit("submit", source, *RUN)
    ended = batchkit("watch", "input", "--no-prefect")
    assert "no file was written" in ended.out
    assert "batchkit export input input.results.jsonl" in ended.out


def test_a_file_that_is_newer_than_the_answers_is_left_alone(batchkit, open_emulator, source):
    """Watching a finished workload again does not write the file again."""
    open_emulator()
    batchkit("submit", source, *RUN, "-o", "out.jsonl")
    batchkit("watch", "input", "--no-prefect")
    before = Path("out.jsonl").stat()
    assert batchkit("watch", "input", "--no-prefect").code == 0
    assert Path("out.jsonl").stat().st_ino == before.st_ino


def test_an_annotated_table_is_written_by_the_command_that_finishes_it(batchkit, open_emulator):
    """The file is the table with its answers, and not the requests."""
    open_emulator()
    Path("rows.csv").write_text("text\n" + "".join(f"line {number}\n" for number in range(5)))
    asked = (
        "annotate",
        "rows.csv",
        "--prompt",
        "Is {{ text }} kind?",
        "-m",
        "openai/gpt-oss-20b",
    )
    ended = batchkit(*asked, "--name", "kind", "--submit-only", "-o", "kind.csv", "--no-prefect")
    assert ended.code == 0
    assert batchkit("watch", "kind", "--no-prefect").code == 0
    with Path("kind.csv").open() as handle:
        written = list(csv.DictReader(handle))
    assert [row["text"] for row in written] == [f"line {number}" for number in range(5)]
    assert {row["status"] for row in written} == {"succeeded"}


def test_the_default_file_of_a_run_is_written_by_the_command_that_finishes_it(
    batchkit, open_emulator, source, monkeypatch, tmp_path
):
    """The file is in the working directory of the run, not in that of the command that finishes it."""
    open_emulator(batches.StuckBatches())
    assert batchkit("run", source, *RUN, "--timeout", "0.1").code == 4
    target, home = Path("input.results.jsonl").absolute(), Path(".batchkit").absolute()
    monkeypatch.chdir(tmp_path)
    ended = batchkit("cancel", "input", "--wait", "--no-prefect", "--home", home)
    assert f"results:   {target}" in ended.out
    assert len(read_lines(target)) == 30
    assert not Path("input.results.jsonl").exists()


def test_cancel_of_a_finished_run_names_the_existing_file(batchkit, open_emulator, source):
    """The file was written, so no message says that it was not; it stays unchanged."""
    open_emulator()
    batchkit("run", source, *RUN)
    before = Path("input.results.jsonl").stat()
    ended = batchkit("cancel", "input")
    assert "not written" not in ended.out
    assert f"results:   {Path('input.results.jsonl').absolute()}" in ended.out
    assert Path("input.results.jsonl").stat().st_ino == before.st_ino


def test_the_default_file_does_not_replace_a_named_output(batchkit, open_emulator, source):
    """Both are written, and the second one is reported."""
    open_emulator()
    named = Path("named.csv").absolute()
    batchkit("submit", source, *RUN, "-o", "named.csv")
    ended = batchkit("run", source, *RUN)
    assert ended.code == 0
    assert "results:   input.results.jsonl" in ended.out
    assert f"results also written to {named}" in ended.err
    assert len(read_lines(Path("input.results.jsonl"))) == 30
    assert named.exists()


def test_an_unwritable_named_output_does_not_affect_the_default_file(batchkit, open_emulator, source):
    """The error is reported, and the exit code is that of the workload."""
    open_emulator()
    folder = Path("gone")
    folder.mkdir()
    batchkit("submit", source, *RUN, "-o", folder / "named.csv")
    folder.rmdir()
    folder.write_text("a file where the folder was")
    ended = batchkit("run", source, *RUN)
    assert ended.code == 0
    assert f"warning: {folder.absolute() / 'named.csv'}, which an earlier command named, is not written" in ended.err
    assert len(read_lines(Path("input.results.jsonl"))) == 30


def test_the_default_table_does_not_replace_a_named_output(batchkit, open_emulator):
    """Tables follow the same rule as requests."""
    open_emulator()
    Path("rows.csv").write_text("text\nfine\nbad\n")
    asked = (
        "annotate",
        "rows.csv",
        "--prompt",
        "Is {{ text }} kind?",
        "-m",
        "openai/gpt-oss-20b",
        "--name",
        "kind",
        "--no-prefect",
    )
    assert batchkit(*asked, "--submit-only", "-o", "named.csv").code == 0
    ended = batchkit(*asked)
    assert ended.code == 0
    assert Path("kind.annotated.parquet").exists()
    assert f"results also written to {Path('named.csv').absolute()}" in ended.err
    assert Path("named.csv").exists()
