"""The package as a library: its public names, and the verbs as functions."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pyarrow import ipc

import batchkit
from batchkit.emulator import Emulator
from batchkit.errors import UnknownWorkload, UsageError
from tests.evaluation.support import reviews_suite
from tests.workloads import read_lines, write_mixed


@pytest.fixture
def settings(database_url, tmp_path):
    """Return settings for the test's own emulator."""
    with Emulator(tmp_path / "emulator", "expire-30", speed=432_000) as emulator:
        yield batchkit.load_settings(
            api_key=emulator.api_key,
            base_url=emulator.base_url,
            database_url=database_url,
            home=tmp_path / "home",
            poll_interval_seconds=0.05,
            resubmit_linger_seconds=0,
        )


def test_the_verbs_run_a_workload_from_file_to_results(settings, tmp_path):
    """Run, status, export and clean do what the command line does, and return typed reports."""
    source = write_mixed(tmp_path / "input.jsonl", 40)

    progress = batchkit.run(source, output=tmp_path / "out.jsonl", settings=settings)

    assert progress.all_succeeded
    assert repr(progress) == "<Progress input: finished, 40 of 40 succeeded>"
    assert len(read_lines(tmp_path / "out.jsonl")) == 40
    assert [progress.workload.name for progress in batchkit.status(settings=settings)] == ["input"]
    assert batchkit.export("input", tmp_path / "out.csv", settings=settings) == 40
    assert batchkit.resubmit("input", failed=True, settings=settings) == 0
    batchkit.clean("input", settings=settings)
    assert batchkit.status(settings=settings) == []


def test_submitting_and_watching_are_two_halves_of_a_run(settings, tmp_path):
    """A workload that was submitted earlier can be watched later."""
    source = write_mixed(tmp_path / "input.jsonl", 40)

    batchkit.submit([source], name="later", settings=settings)

    assert batchkit.watch("later", settings=settings).all_succeeded


def test_a_cancelled_workload_is_finished(settings, tmp_path):
    """Cancelling waits until no batch runs any more."""
    source = write_mixed(tmp_path / "input.jsonl", 40)
    batchkit.submit(str(source), settings=settings)

    assert batchkit.cancel("input", settings=settings).is_finished


def test_an_unknown_name_is_an_error(settings):
    """The error of a verb with an unknown name has the name and says how to list the names."""
    with pytest.raises(UnknownWorkload, match="nowhere") as raised:
        batchkit.watch("nowhere", settings=settings)
    assert "batchkit status" in str(raised.value.hint)


def test_every_public_name_exists():
    """Each exported name exists, and nothing else is exported."""
    for name in batchkit.__all__:
        assert getattr(batchkit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        batchkit.nothing  # noqa: B018 - the access is the point


def test_importing_the_package_is_fast():
    """Importing batchkit loads neither Prefect nor the database nor the HTTP client."""
    code = (
        "import sys, batchkit;"
        "print([name for name in ('prefect', 'sqlalchemy', 'httpx', 'alembic', 'uvicorn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_suite_is_evaluated_from_python(settings, tmp_path):
    """The first call runs, scores and compares; with no time it is unfinished, and the observer gets the verdict once."""
    file = reviews_suite(tmp_path, 4)
    heard: list[str] = []

    class Heard(batchkit.Observer):
        def evaluated(self, summary, report):
            heard.append(f"{summary.verdict} {report}")

    unfinished = batchkit.evaluate(file.path, settings=settings, timeout_seconds=0, observer=Heard())
    assert (unfinished.verdict, unfinished.summary) == ("unfinished", None)
    assert repr(unfinished) == "<EvaluationReport reviews-1: unfinished>"
    page = tmp_path / "page.html"

    found = batchkit.evaluate(file.path, report=page, settings=settings, observer=Heard())

    assert (found.run, found.verdict, found.page) == ("reviews-1", "first", page)
    assert page.exists()
    assert heard == [f"first {page}"]
    assert repr(found.summary).startswith("<EvaluationSummary reviews-1: first, ")
    with pytest.raises(UsageError):
        batchkit.evaluate(file.path, report=file.path, settings=settings)


def test_evaluations_are_looked_back_at_from_python(settings, tmp_path):
    """The rows with their scores are those of the file, and the runs of a suite are listed and compared."""
    file = reviews_suite(tmp_path, 4)
    unfinished = batchkit.evaluate(file.path, settings=settings, timeout_seconds=0)
    with pytest.raises(UsageError, match="is not finished"):
        unfinished.table()
    report = batchkit.evaluate(file.path, settings=settings)
    batchkit.evaluate(file.path, settings=settings)

    table = report.table()

    assert table.num_rows == 8
    assert batchkit.export("reviews-1", tmp_path / "scored.arrow", scored=True, settings=settings) == 8
    with ipc.open_file(tmp_path / "scored.arrow") as written:
        assert written.read_all().to_pylist() == table.to_pylist()
    assert repr(batchkit.runs(settings=settings)) == "[<PastRun reviews-1: first>, <PastRun reviews-2: passed>]"
    assert batchkit.runs(file.path, limit=1, settings=settings) == batchkit.runs("reviews", settings=settings)[1:]
    found = batchkit.compare_runs("reviews-1", "reviews-2", settings=settings)
    assert repr(found) == "<RunsCompared reviews-1, reviews-2: 6 metrics>"


def test_an_observer_gets_the_events(settings, tmp_path):
    """A drive begins, its waves begin and end, and it finishes; an observer that raises changes nothing."""
    told: list[str] = []

    class Told(batchkit.Observer):
        def began(self, workload):
            told.append(f"began {workload.name}")

        def wave_started(self, wave):
            told.append(f"{wave.kind} started")

        def wave_ended(self, wave, outcome):  # noqa: ARG002 - the observer's words
            told.append(f"{wave.kind} ended")
            raise RuntimeError("a bug of the user's")

        def finished(self, progress):
            told.append(repr(progress))

    source = write_mixed(tmp_path / "input.jsonl", 20)
    progress = batchkit.run(source, settings=settings, observer=Told())

    assert progress.all_succeeded
    assert told[:3] == ["began input", "submit started", "submit ended"]
    assert told[-1] == "<Progress input: finished, 20 of 20 succeeded>"


@pytest.mark.parametrize(
    "first",
    ["batchkit.api", "batchkit.api.running", "batchkit.api.evaluations", "batchkit.api.looking_back", "batchkit"],
)
def test_a_verb_is_a_function_whatever_was_imported_first(first):
    """No module of the package replaces a function of the same name."""
    script = (
        f"import {first}, batchkit, batchkit.api\n"
        "import batchkit.api.running, batchkit.api.managing, batchkit.api.reading, batchkit.api.tables, batchkit.api.looking_back\n"
        "from batchkit.api import run\n"
        "for name in batchkit.api.__all__:\n"
        "    assert callable(getattr(batchkit.api, name)) and getattr(batchkit, name) is getattr(batchkit.api, name), name\n"
        "assert set(batchkit.api.__all__) <= set(dir(batchkit)), dir(batchkit)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
