"""Whether Prefect or the plain loop does the work, and what Ctrl-C leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import batchkit as package
from batchkit.api import serving
from batchkit.api.driving import drive
from batchkit.cli import prefect
from batchkit.emulator.faults import batches
from batchkit.engine.observer import Observer
from batchkit.engine.waves import DriveUntil
from batchkit.errors import ConfigurationError
from batchkit.models import WorkloadId

RUN = ("--shard-lines", "10")


@pytest.fixture
def entry(monkeypatch):
    """Replace the Prefect side: it shows nothing, and records its calls and events."""
    asked: list[tuple[Any, ...]] = []

    class Shown(Observer):
        def began(self, workload):
            asked.append(("began", workload.name))

        def finished(self, progress):
            asked.append(("finished", progress.counts.succeeded))

    def open_mirror(_settings, *, on_note, until=None, verbose=False, interval_seconds=None, read=None):
        asked.append(("mirror", until, verbose, interval_seconds))
        assert read is None or read(WorkloadId(404)) is None
        on_note("a note of Prefect's")
        return Shown()

    def leave(exit_code):
        asked.append(("leave", exit_code))
        raise SystemExit(exit_code)

    module = types.SimpleNamespace(open_mirror=open_mirror, leads=lambda _settings: False, leave=leave, asked=asked)
    monkeypatch.setitem(sys.modules, "batchkit.flows.entry", module)
    return module


def test_a_run_is_shown_in_prefect_by_default(batchkit, open_emulator, source, entry):
    """The Prefect side gets the start and the end of the drive, and the user gets its notes."""
    open_emulator()
    ended = batchkit("run", source, *RUN)
    assert ended.code == 0
    shown = [("mirror", DriveUntil.FINISHED, False, None), ("began", "input"), ("finished", 30)]
    assert entry.asked == shown
    assert "a note of Prefect's" in ended.err
    assert batchkit("run", source, *RUN, "--name", "plain", "--no-prefect").code == 0
    assert entry.asked == shown


def test_a_flow_leads_when_the_settings_name_a_cluster(batchkit, open_emulator, source, entry):
    """It gets the terminal and shows itself: no mirror is opened beside it; --no-prefect disables it."""
    open_emulator()
    entry.leads = lambda _settings: True

    def lead(runner, workload, *, until, stop_at, observer, on_note, verbose):
        entry.asked.append(("lead", workload.name, until, stop_at, verbose))
        on_note("a note of the flow's")
        return drive(runner, workload, until=until, stop_at=stop_at, observer=observer)

    entry.lead = lead
    ended = batchkit("run", source, *RUN, "-v")
    assert ended.code == 0
    assert entry.asked == [("lead", "input", DriveUntil.FINISHED, None, True)]
    assert "a note of the flow's" in ended.err
    assert "submit: " in ended.err
    assert batchkit("run", source, *RUN, "--name", "plain", "--no-prefect").code == 0
    assert len(entry.asked) == 1


def test_several_workloads_are_refused_without_the_task_runner_of_the_settings(batchkit, open_emulator, source, entry):
    """The refusal comes before anything is driven; with the package, they are driven in plain loops and shown in Prefect."""
    emulator = open_emulator()
    for name in ("one", "two"):
        assert batchkit("submit", source, *RUN, "--name", name, "--no-prefect").code == 0
    before = emulator.ledger().calls

    def check_task_runner(_settings):
        raise ConfigurationError("what Dask needs is not installed")

    entry.leads, entry.check_task_runner = lambda _settings: True, check_task_runner
    ended = batchkit("watch")
    assert ended.code == 2
    assert "what Dask needs" in ended.err
    assert emulator.ledger().calls == before
    entry.check_task_runner = lambda _settings: None
    assert batchkit("watch").code == 0
    assert sorted(entry.asked[1:]) == [("began", "one"), ("began", "two"), ("finished", 30), ("finished", 30)]


def test_a_finished_workload_needs_no_flow(batchkit, open_emulator, source, entry):
    """Reporting a finished workload does not start Prefect."""
    open_emulator()
    batchkit("run", source, *RUN, "--no-prefect")
    assert batchkit("run", source, *RUN).code == 0
    assert batchkit("watch", "input").code == 0
    assert entry.asked == []


def test_a_single_pass_is_no_flow(batchkit, open_emulator, source, entry):
    """A cancellation returns at once; only --wait makes it a flow."""
    open_emulator(batches.StuckBatches())
    assert batchkit("submit", source, *RUN, "-v").code == 0
    assert entry.asked[0] == ("mirror", DriveUntil.SUBMITTED, True, None)
    count = len(entry.asked)
    batchkit("cancel", "input")
    assert len(entry.asked) == count


def test_serve_shows_every_pass_in_prefect(batchkit, entry, monkeypatch):
    """The schedule gets its settings and an observer; its notes have a time of day."""
    asked = []

    def serve(settings, *, interval_seconds, on_note, observer):
        asked.append((settings.home, interval_seconds, type(observer).__name__))
        on_note("a tick")

    monkeypatch.setattr(serving, "serve", serve)
    ended = batchkit("serve", "--interval", "5", "--home", "here")
    assert ended.code == 0
    assert asked == [(Path("here"), 5.0, "Shown")]
    assert entry.asked == [("mirror", None, False, 5.0)]
    assert "a tick" in ended.err
    assert "the batches continue" in ended.err


def test_the_exit_involves_prefect_only_if_it_was_used(entry, monkeypatch):
    """Prefect must not delay the exit, and is not loaded for it."""
    with pytest.raises(SystemExit) as left:
        prefect.leave(3)
    assert (left.value.code, entry.asked) == (3, [("leave", 3)])
    monkeypatch.delitem(sys.modules, "batchkit.flows.entry")
    with pytest.raises(SystemExit) as left:
        prefect.leave(4)
    assert left.value.code == 4
    assert "batchkit.flows.entry" not in sys.modules


def start(*words, **environment):
    """Start the real command in its own process, and with working signals."""
    root = str(Path(package.__file__).parent.parent)
    return subprocess.Popen(
        [sys.executable, "-m", "batchkit", *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root, **environment},
    )


def interrupt_when(process, sign):
    """Send Ctrl-C as soon as a line of stderr contains ``sign``; return the exit code and all of stderr."""
    seen = []
    for line in process.stderr:
        seen.append(line)
        if sign in line:
            process.send_signal(signal.SIGINT)
            break
    out, rest = process.communicate(timeout=60)
    return process.returncode, out, "".join(seen) + rest


def test_ctrl_c_reports_what_continues_and_how_to_resume(open_emulator, batchkit, source):
    """Exit code 130, and the exact command; after it nothing is bought twice."""
    emulator = open_emulator(batches.StuckBatches())
    batchkit("submit", source, "--no-prefect", *RUN)
    process = start("run", source, "--no-prefect", *RUN)
    code, out, err = interrupt_when(process, "input: 0 of 30 answered")
    assert code == 130, err
    assert out == ""
    assert "4 batches keep running at the provider; nothing is lost" in err
    assert f"resume:    {sys.executable} -m batchkit run {source} --no-prefect --shard-lines 10" in err
    assert "batchkit cancel input" in err
    assert "Traceback" not in err
    emulator.set_scenario("clean")
    assert batchkit("run", source, "--no-prefect", *RUN).code == 0
    assert emulator.ledger().totals.bought_twice == 0


def test_ctrl_c_while_the_input_is_read_leaves_no_files(open_emulator, tmp_path):
    """The data read so far from a pipe is dropped; nothing was sent."""
    open_emulator()
    process = start("run", "-", "--no-prefect", BATCHKIT_HOME=str(tmp_path / "home"))
    folder = tmp_path / "home"
    while not list(folder.glob("stdin-*/*.part")):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted before anything was sent" in err
    assert not list(folder.glob("stdin-*"))


@pytest.mark.slow
def test_a_run_with_the_real_prefect_ends_as_without(open_emulator, source):
    """With the mirror, which starts no server for so short a run, the result and the exit code are the same."""
    open_emulator()
    process = start("run", source, *RUN)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert "all 30 requests succeeded" in out
    assert "Prefect" not in err
