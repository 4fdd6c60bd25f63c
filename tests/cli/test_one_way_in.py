"""Commands and Python functions share one way in: the same refusals, the same outputs, the same observer events."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import batchkit as library
from batchkit.emulator.faults import batches, lines
from batchkit.errors import UsageError
from tests.workloads import read_lines

MODEL = "openai/gpt-oss-20b"
RUN = ("--no-prefect", "--shard-lines", "10")


class _Told(library.Observer):
    """Records its events by name; at the event ``stop_at`` the user presses Ctrl-C."""

    def __init__(self, stop_at=None):
        self.events = []
        self.notes = []
        self.stood = []
        self._stop_at = stop_at
        self._opened = None

    def _take(self, event):
        self.events.append(event)
        if event == self._stop_at:
            self._stop_at = None
            raise KeyboardInterrupt

    def note(self, text):
        self.notes.append(text)

    def counting(self, label, total):
        self._take(f"counting {label} of {total}")

    def advanced(self, label, more):
        assert more > 0
        assert label in self.events[-1]

    def counted(self, label):
        self._take(f"counted {label}")

    def opened(self, workloads, reader):
        self._opened = workloads, reader
        self._take(f"opened {', '.join(workload.name for workload in workloads)}")

    def driving(self):
        self._take("driving")

    def began(self, workload):
        self._take(f"began {workload.name}")

    def finished(self, progress):
        self._take(f"finished {progress.workload.name}")

    def driven(self, error):
        self._take(f"driven {type(error).__name__}")

    def interrupted(self):
        if self._opened is not None:
            workloads, reader = self._opened
            self.stood.append(reader.progress(workloads[0].id).counts.total)
        self._take("interrupted")


def table(name="rows.csv", rows=3):
    """Write a table."""
    Path(name).write_text("text\n" + "".join(f"line {number}\n" for number in range(rows)))
    return name


@pytest.mark.parametrize("name", ["", "  ", "two\nlines"])
def test_python_refuses_a_name_that_commands_refuse(open_emulator, source, name):
    """The refusal comes before anything is sent; an empty name is not the default one."""
    emulator = open_emulator()
    for verb in (library.run, library.submit):
        with pytest.raises(UsageError):
            verb(source, name=name)
    assert emulator.ledger().calls == {}


@pytest.mark.parametrize("output", ["out.txt", "nowhere/out.jsonl", "input"])
def test_submit_refuses_an_output_in_a_dry_run_too(batchkit, open_emulator, source, output):
    """The dry run refuses what the command itself would refuse."""
    open_emulator()
    target = source if output == "input" else output
    assert batchkit("submit", source, *RUN, "-o", target, "--dry-run").code == 2
    with pytest.raises(UsageError):
        library.submit(source, output=target)


def test_python_refuses_a_default_report_over_a_folder(batchkit, open_emulator, source):
    """The default page is in the working directory."""
    open_emulator()
    assert batchkit("run", source, *RUN).code == 0
    Path("input.report.html").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        library.report("input")
    assert "is a folder" in batchkit("report", "input").err


def test_python_writes_the_output_that_an_earlier_command_named(batchkit, open_emulator, source):
    """``run`` without its own output writes it once: a file that is newer than the answers stays."""
    open_emulator()
    assert batchkit("submit", source, *RUN, "-o", "named.jsonl").code == 0

    library.run(source)

    before = Path("named.jsonl").stat()
    assert len(read_lines(Path("named.jsonl"))) == 30
    library.run(source)
    assert Path("named.jsonl").stat().st_ino == before.st_ino


def test_python_writes_the_table_that_an_earlier_command_named(batchkit, open_emulator):
    """``annotate`` without its own output writes it."""
    open_emulator()
    asked = ("annotate", table(), "--prompt", "{{ text }}", "-m", MODEL, "--name", "asked", "--no-prefect")
    assert batchkit(*asked, "--submit-only", "-o", "named.csv").code == 0

    library.annotate("rows.csv", "{{ text }}", models=MODEL, name="asked")

    with Path("named.csv").open() as handle:
        assert [row["status"] for row in csv.DictReader(handle)] == ["succeeded"] * 3
    assert not Path("asked.annotated.parquet").exists()


def test_an_unfinished_run_writes_nothing(batchkit, open_emulator, source):
    """This holds in Python and on the command line; the call that finishes the workload writes the output."""
    emulator = open_emulator(batches.StuckBatches())
    assert not library.run(source, output="out.jsonl", timeout_seconds=0.1).is_finished
    assert batchkit("run", source, "--no-prefect", "-o", "out.jsonl", "--timeout", "0.1").code == 4
    assert not Path("out.jsonl").exists()
    emulator.set_scenario("clean")
    assert batchkit("cancel", "input", "--wait", "--no-prefect").code == 0
    assert len(read_lines(Path("out.jsonl"))) == 30


def test_cancelling_a_finished_workload_changes_nothing(batchkit, open_emulator, source):
    """This holds in Python and on the command line: failed requests can be sent again afterwards."""
    emulator = open_emulator(lines.FailLines(custom_ids=frozenset({"row-0000001"}), code="bad_thing"))
    assert batchkit("run", source, *RUN).code == 3
    before = library.status("input")[0]

    assert library.cancel("input").counts == before.counts

    assert library.status("input")[0].workload == before.workload
    assert batchkit("cancel", "input").code == 0
    assert library.status("input")[0].workload == before.workload
    emulator.set_scenario("clean")
    assert batchkit("resubmit", "input", "--failed", "--no-prefect").code == 0


def test_an_observer_gets_the_events_of_a_run(open_emulator, source):
    """The input is checked, the workload opened and driven, the output written; a finished one is not driven again."""
    open_emulator()
    checked = ["counting checking the input of None", "counted checking the input", "opened input"]
    written = ["counting writing out.csv of 30", "counted writing out.csv"]
    for driven in (["driving", "began input", "finished input", "driven NoneType"], []):
        observer = _Told()
        library.run(source, output="out.csv", observer=observer)
        assert observer.events == [*checked, *driven, *written]
        assert observer.notes == []


def test_an_observer_gets_the_events_of_a_table(open_emulator):
    """The rows are rendered, then the requests are checked, then both counts end."""
    open_emulator()
    observer = _Told()
    library.annotate(table(), "{{ text }}", models=MODEL, name="asked", output="out.csv", observer=observer)
    begun = ["counting rendering the rows of None", "counting checking the requests of None"]
    assert observer.events[:2] == begun
    assert sorted(observer.events[2:4]) == ["counted checking the requests", "counted rendering the rows"]
    assert observer.events[4:] == [
        "opened asked",
        "driving",
        "began asked",
        "finished asked",
        "driven NoneType",
        "counting writing out.csv of 3",
        "counted writing out.csv",
    ]


def test_an_observer_that_raises_at_every_event_changes_nothing(open_emulator, source):
    """Its errors are only logged."""
    open_emulator()

    class Broken(library.Observer):
        def __getattribute__(self, name):
            if name.startswith("_"):
                return super().__getattribute__(name)
            raise RuntimeError(f"a bug in {name}")

    assert library.run(source, output="out.jsonl", observer=Broken()).all_succeeded
    assert len(read_lines(Path("out.jsonl"))) == 30


@pytest.mark.parametrize(
    ("event", "stood"),
    [
        ("counted checking the input", []),
        ("driving", [30]),
        ("began input", [30]),
        ("counting writing out.csv of 30", [30]),
    ],
)
def test_an_interrupt_is_reported_while_the_workload_can_be_read(open_emulator, source, event, stood):
    """It is reported once, whenever it comes; displays have ended by then, and the same call resumes."""
    emulator = open_emulator()
    observer = _Told(stop_at=event)
    with pytest.raises(KeyboardInterrupt):
        library.run(source, output="out.csv", observer=observer)
    assert observer.events[-1] == "interrupted"
    assert observer.events.count("interrupted") == 1
    assert observer.stood == stood
    assert ("driven KeyboardInterrupt" in observer.events) == (event in {"driving", "began input"})
    assert library.run(source, output="out.csv").all_succeeded
    assert emulator.ledger().totals.bought_twice == 0
