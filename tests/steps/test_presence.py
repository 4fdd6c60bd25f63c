"""The runner of a workload is recorded while it works, and the reason for a stop when it stops."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from batchkit.emulator.faults import batches, calls
from batchkit.engine.presence import Presence
from batchkit.engine.runtime import Runner
from batchkit.engine.waves import DriveUntil, Wait
from batchkit.errors import ProviderUnreachable
from batchkit.models import Trouble
from batchkit.store import events, runners
from batchkit.store.runners import RunnerRow
from tests.workloads import write_mixed


def rows_of(runner):
    """Return the owners of all rows."""
    with runner.store.read() as connection:
        return runners.owners(connection)


def wait_for(condition):
    """Wait until the writing thread has made the condition true."""
    import threading  # noqa: PLC0415 - only here

    pause = threading.Event()
    for _ in range(500):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not happen")


def submitted(harness, tmp_path):
    """Submit every shard of a workload, and do no more."""
    workload = harness.split(write_mixed(tmp_path / "input.jsonl", 60), shard_lines=20)
    harness.runner.process(workload.id, until=DriveUntil.SUBMITTED)
    return workload


def test_the_runner_is_shown_while_it_drives_and_not_after_an_orderly_end(open_harness, tmp_path):
    """While it waits, other processes see its row; after the drive the row is gone."""
    harness = open_harness(batches.StuckBatches())
    workload = submitted(harness, tmp_path)
    other = harness.open_runner()
    assert other.progress(workload.id).workload.stopped_reason == "everything was submitted"
    drive = harness.runner.drive(workload.id)
    step = drive.next()
    while not isinstance(step, Wait):
        step = drive.send(harness.runner.run_waves(step)[0])
    wait_for(lambda: other.progress(workload.id).runners)

    (row,) = other.progress(workload.id).runners
    assert (row.owner, row.verb, row.workload_id) == (harness.runner.owner, "python", workload.id)
    assert row.waiting_for is not None
    assert "batches at the provider" in row.waiting_for
    assert other.progress(workload.id).workload.stopped_at is None

    harness.runner.close("its time was up")
    progress = other.progress(workload.id)
    assert (progress.runners, progress.lost_runner, rows_of(other)) == ((), None, set())
    assert progress.workload.stopped_reason == "its time was up"
    assert progress.workload.stopped_at == pytest.approx(progress.read_at, abs=60)


def test_the_runner_is_shown_as_soon_as_it_begins(open_harness, tmp_path, monkeypatch):
    """This holds even when the thread that updates the row starts late."""
    harness = open_harness(batches.StuckBatches())
    workload = submitted(harness, tmp_path)
    wait_for(lambda: not rows_of(harness.runner))
    monkeypatch.setattr(Presence, "_run", lambda _self: None)
    presence = Presence(
        harness.runner.store, owner="me", verb="watch", clock=harness.runner.clock, trouble=lambda _workload_id: None
    )
    presence.began(workload.id, is_one_pass=False)
    (row,) = harness.runner.progress(workload.id).runners
    assert (row.owner, row.verb, row.workload_id) == ("me", "watch", workload.id)
    presence.close("over")
    assert rows_of(harness.runner) == set()


def test_trouble_is_written_at_once_when_it_begins_and_when_it_ends(open_harness, tmp_path):
    """Other processes need not wait half a minute to see an outage, or its end."""
    harness = open_harness(batches.StuckBatches())
    workload = submitted(harness, tmp_path)
    troubles: list[Trouble] = []
    presence = Presence(
        harness.runner.store,
        owner="me",
        verb="watch",
        clock=harness.runner.clock,
        trouble=lambda _workload_id: troubles[0] if troubles else None,
    )

    def told():
        with harness.runner.store.read() as connection:
            return [row.waiting_for or "" for row in runners.of_workload(connection, workload.id, seen_after=0.0)]

    presence.began(workload.id, is_one_pass=False)
    wait_for(lambda: any("at the provider" in text for text in told()))
    troubles.append(Trouble("the provider cannot be reached", since=1.0, tries=2, gives_up_at=900.0))
    wait_for(lambda: told() == ["the provider cannot be reached; tried 2 times"])
    troubles.clear()
    wait_for(lambda: any("at the provider" in text for text in told()))
    presence.close("over")


def test_why_a_command_stopped_is_kept_and_cleared_by_the_next(open_harness, tmp_path):
    """An outage stays the stop reason until the next drive; a finished workload has none."""
    harness = open_harness(calls.DropConnection(on=("*",)))
    harness.runner = harness.open_runner(outage_seconds=0.3, http_attempts=1)
    workload = harness.split(write_mixed(tmp_path / "input.jsonl", 60), shard_lines=20)
    with pytest.raises(ProviderUnreachable):
        harness.runner.process(workload.id)
    stopped = harness.runner.progress(workload.id).workload
    assert stopped.stopped_reason is not None
    assert stopped.stopped_reason.startswith("the provider did not answer as it should")

    harness.emulator.set_scenario("clean")
    finished = harness.runner.process(workload.id)
    assert finished.all_succeeded
    assert (finished.workload.stopped_at, finished.workload.stopped_reason) == (None, None)
    with harness.runner.store.read() as connection:
        kinds = [event.kind for event in reversed(events.newest(connection, workload.id, limit=1_000))]
    assert [kind for kind in kinds if kind in {"driven", "stopped"}] == ["driven", "stopped"] * 2


def test_an_interrupted_command_is_recorded(open_harness, tmp_path):
    """Ctrl-C interrupts the wait, and the runner is closed while the exception propagates."""
    harness = open_harness(batches.StuckBatches())
    workload = submitted(harness, tmp_path)

    def interrupt(_seconds):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Runner(harness.runner.settings, wait=interrupt, verb="watch") as watching:
        watching.process(workload.id)
    assert harness.runner.progress(workload.id).workload.stopped_reason == "interrupted"


def test_a_single_pass_writes_no_row_unless_it_serves(open_harness, tmp_path):
    """The schedule keeps a row between its passes for every open workload; the pass of another command is too short for one."""
    harness = open_harness(batches.StuckBatches())
    workload = submitted(harness, tmp_path)
    harness.runner.process(workload.id, until=DriveUntil.ONE_PASS)
    wait_for(lambda: not rows_of(harness.runner))

    with Runner(harness.runner.settings, verb="serve") as serving:
        serving.process(workload.id, until=DriveUntil.ONE_PASS)
        wait_for(lambda: rows_of(harness.runner))
        (row,) = harness.runner.progress(workload.id).runners
        assert (row.verb, row.workload_id) == ("serve", None)
        assert harness.runner.progress(workload.id).workload.stopped_at is None
    assert rows_of(harness.runner) == set()


def test_an_idle_pass_writes_no_other_row(open_harness, tmp_path):
    """No event and no workload changes between two passes of the schedule."""
    harness = open_harness(batches.StuckBatches())
    workload = submitted(harness, tmp_path)
    # Provider days pass: no batch may become overdue meanwhile.
    settings = harness.runner.settings.model_copy(update={"stuck_seconds": 1e12})
    with Runner(settings, verb="serve") as serving:
        serving.process(workload.id, until=DriveUntil.ONE_PASS)
        with serving.store.read() as connection:
            before = events.newest(connection, workload.id, limit=1)
        was = serving.find("work")
        for _ in range(3):
            serving.process(workload.id, until=DriveUntil.ONE_PASS)
        with serving.store.read() as connection:
            assert events.newest(connection, workload.id, limit=1) == before
        assert replace(serving.find("work"), lease_owner=None, lease_until=None) == replace(
            was, lease_owner=None, lease_until=None
        )


def dead_owner(owner):
    """Replace the process in an owner's name with one of this machine that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    parts = owner.split("|")
    return "|".join([*parts[:2], str(child.pid), "1", "dead"])


def test_a_process_that_died_is_shown_until_the_next_one_starts(open_harness, tmp_path):
    """On this machine it shows at once; on another machine, after two minutes without an update."""
    harness = open_harness(batches.StuckBatches())
    workload = submitted(harness, tmp_path)
    now = harness.runner.clock() + 1
    dead = RunnerRow(dead_owner(harness.runner.owner), "run", "here", workload.id, now)
    elsewhere = RunnerRow("far|x|1|1|a", "watch", "far", workload.id, now)
    with harness.runner.store.write() as connection:
        runners.put(connection, dead)
    assert harness.runner.progress(workload.id).lost_runner == dead
    with harness.runner.store.write() as connection:
        runners.put(connection, elsewhere)
    assert harness.runner.progress(workload.id).runners == (elsewhere,)

    harness.runner.clock = lambda: now + 121
    progress = harness.runner.progress(workload.id)
    assert progress.runners == ()
    assert progress.lost_runner in {dead, elsewhere}

    presence = Presence(
        harness.runner.store, owner="me", verb="run", clock=lambda: now + 121, trouble=lambda _workload_id: None
    )
    presence.began(workload.id, is_one_pass=False)
    wait_for(lambda: rows_of(harness.runner) == {"me", elsewhere.owner})
    presence.close("over")
    assert rows_of(harness.runner) == {elsewhere.owner}
