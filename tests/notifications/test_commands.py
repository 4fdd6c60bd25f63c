"""Notifications of commands as a user runs them."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from batchkit.api.serving import Schedule
from batchkit.emulator.faults import batches, calls
from batchkit.emulator.faults.lines import FailLines
from batchkit.files import jsonl
from batchkit.settings import load_settings
from tests.cli.conftest import _own_folder, batchkit, open_emulator, source
from tests.evaluation.support import write_reviews, write_suite

__all__ = ["_own_folder", "batchkit", "open_emulator", "source"]

APPEND = "import sys\nopen(OUT, 'a').write(sys.stdin.read())\n"


def told(out):
    """Return the reports that the script received."""
    return [jsonl.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def test_a_run_reports_its_end_to_the_command_and_to_the_hook(
    batchkit, open_emulator, source, script, hook, monkeypatch
):
    """Both get the same event with the location of the results; a second run of a finished workload reports nothing."""
    open_emulator(FailLines(count=1, status=400))
    monkeypatch.setenv("BATCHKIT_NOTIFY_URL", hook.url)
    command, out = script(APPEND)
    ended = batchkit("run", source, "--no-prefect", "-o", "out.jsonl", "--on-finish", command)
    assert ended.code == 3, ended.err
    (report,) = told(out)
    assert hook.reports == [report]
    assert (report["kind"], report["exit_code"], report["workload"]) == ("failed", 3, "input")
    assert Path(report["output"]) == Path("out.jsonl").resolve()
    assert batchkit("run", source, "--no-prefect", "-o", "out.jsonl", "--on-finish", command).code == 3
    assert len(told(out)) == len(hook.bodies) == 1


def test_failed_notifications_are_one_note_and_keep_the_exit_code(batchkit, open_emulator, source, hook, monkeypatch):
    """The results are complete; the next command, whatever it is, delivers the event."""
    open_emulator()
    monkeypatch.setenv("BATCHKIT_NOTIFY_URL", hook.url)
    hook.replies = [403]
    ended = batchkit("run", source, "--no-prefect", "-o", "out.jsonl")
    assert ended.code == 0
    assert ended.err.count("a notification was not delivered: 127.0.0.1: HTTP 403") == 1
    assert "secret-part" not in ended.out + ended.err
    assert batchkit("export", "input", "again.jsonl").code == 0
    assert hook.kinds == ["finished", "finished"]
    assert hook.reports[0]["id"] == hook.reports[1]["id"]


def test_watch_reports_a_workload_that_another_command_submitted(batchkit, open_emulator, source, script, monkeypatch):
    """``submit`` reports nothing; BATCHKIT_ON_FINISH works like the flag."""
    open_emulator()
    command, out = script(APPEND)
    monkeypatch.setenv("BATCHKIT_ON_FINISH", command)
    assert batchkit("submit", source, "--no-prefect").code == 0
    assert told(out) == []
    assert batchkit("watch", "input", "--no-prefect").code == 0
    assert [report["kind"] for report in told(out)] == ["finished"]


def test_an_outage_is_reported_when_the_command_gives_up(batchkit, open_emulator, source, script):
    """The exit code stays 4."""
    open_emulator(calls.DropConnection(on=("*",)))
    command, out = script(APPEND)
    assert batchkit("run", source, "--no-prefect", "--on-finish", command).code == 4
    assert [(report["kind"], report["exit_code"]) for report in told(out)] == [("stopped", 4)]


def test_the_users_timeout_is_no_outage(batchkit, open_emulator, source, script):
    """--timeout ends the command as requested: that is no event."""
    open_emulator(batches.StuckBatches())
    command, out = script(APPEND)
    assert batchkit("run", source, "--no-prefect", "--timeout", "0.5", "--on-finish", command).code == 4
    assert told(out) == []


def test_an_evaluation_reports_its_verdict(batchkit, open_emulator, script, tmp_path):
    """There is one event for the run, and none for its workload."""
    open_emulator()
    write_reviews(tmp_path / "work", 6)
    suite = write_suite(tmp_path / "work")
    command, out = script(APPEND)
    assert batchkit("eval", suite, "--no-prefect", "--on-finish", command).code == 0
    (report,) = told(out)
    assert (report["kind"], report["run"], report["evaluation"]["verdict"]) == ("finished", "reviews-1", "first")


def test_serve_reports_what_it_finishes(batchkit, open_emulator, source, hook, monkeypatch):
    """The delivery runs beside the passes; a hook that hangs delays no pass."""
    open_emulator()
    assert batchkit("submit", source, "--no-prefect").code == 0
    monkeypatch.setenv("BATCHKIT_NOTIFY_URL", hook.url)
    hook.is_hanging.set()
    schedule = Schedule(load_settings(), interval_seconds=0.1, on_note=lambda _note: None)
    thread = threading.Thread(target=schedule.run, args=(40,), daemon=True)
    thread.start()
    give_up_at = time.monotonic() + 60
    while not hook.bodies:
        assert time.monotonic() < give_up_at
        thread.join(0.02)
    hook.is_hanging.clear()
    hook.released.set()
    thread.join(60)
    assert not thread.is_alive()
    assert set(hook.kinds) == {"finished"}
    assert len({report["id"] for report in hook.reports}) == 1


@pytest.mark.parametrize("command", ["", "mail 'unclosed"])
def test_an_invalid_command_is_an_error_before_anything_is_sent(batchkit, open_emulator, source, command):
    """The command ends with exit code 2."""
    emulator = open_emulator()
    ended = batchkit("run", source, "--no-prefect", "--on-finish", command)
    assert ended.code == 2
    assert "on_finish: not a command" in ended.err
    assert emulator.ledger().calls == {}
