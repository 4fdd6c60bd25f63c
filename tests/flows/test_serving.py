from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import pytest

from batchkit.api import serving
from batchkit.api.serving import Schedule
from batchkit.errors import ConfigurationError, StoreUnavailable
from batchkit.models import Trouble
from batchkit.steps.context import StepReport
from tests.flows.support import ScriptedRunner, Watched, make_progress, make_wave, make_workload, wait_until
from tests.observing import ScriptedDrive


class OpenRunner(ScriptedRunner):
    """A scripted runner that can be opened, and whose database fails on request."""

    database_troubles: list[Exception]

    def close(self):
        """Record that it was closed."""
        self.diary.append("closed")

    def open_workloads(self):
        """Return the open workloads, or fail."""
        if self.database_troubles:
            raise self.database_troubles.pop(0)
        return super().open_workloads()


@pytest.fixture
def open_schedule(clock, monkeypatch):
    """Return a function that makes a schedule on a scripted runner, with its observer and its notes."""

    def make(*, troubles=(), **runner):
        opened: Any = OpenRunner(clock, **{"script": [make_wave()], **runner})
        opened.database_troubles = list(troubles)
        monkeypatch.setattr(serving, "Runner", lambda _settings, **_given: opened)
        monkeypatch.setattr(serving, "is_due", lambda _runner, _retries: False)
        notes: list[str] = []
        observer = Watched()
        settings: Any = opened.settings
        schedule = Schedule(settings, interval_seconds=0, on_note=notes.append, observer=observer)
        return schedule, opened, observer, notes

    return make


def waves(runner):
    """Return the number of waves that ran."""
    return len([entry for entry in runner.diary if entry[0] == "wave"])


def test_a_tick_without_open_workloads_is_no_pass(open_schedule):
    """A tick that finds no open workload is not reported to the observer."""
    schedule, _runner, observer, notes = open_schedule()

    schedule.run(3)

    assert observer.told == []
    assert notes == []


def test_an_observer_gets_the_events_of_each_pass(open_schedule):
    """The observer gets the start with its workloads, each wave, the progress of the workload, and the end."""
    schedule, runner, observer, _notes = open_schedule(workloads=[make_workload()])

    schedule.run(2)

    told = ["pass_began", "began", "wave_started", "wave_ended", "finished", "pass_ended"]
    assert [entry[0] for entry in observer.told] == told * 2
    assert observer.told[0] == ("pass_began", "work")
    assert waves(runner) == 2


def test_an_observer_that_raises_delays_nothing(open_schedule, caplog):
    """Its error is logged, and the work is done."""
    schedule, runner, observer, notes = open_schedule(workloads=[make_workload()])

    def broken(*_arguments):
        raise RuntimeError("an observer's bug")

    for method in ("pass_began", "began", "wave_started", "wave_ended", "finished", "pass_ended"):
        setattr(observer, method, broken)
    schedule.run(2)

    assert waves(runner) == 2
    assert not any("bug" in note for note in notes)
    assert "an observer failed" in caplog.text


def test_an_unreachable_database_is_reported_once_and_waited_for(open_schedule):
    """Ticks without a database are reported once; the first tick with one does the work, and a later outage is reported again."""
    gone = StoreUnavailable("the database is gone")
    schedule, runner, _observer, notes = open_schedule(workloads=[make_workload()], troubles=[gone, gone])
    schedule.run(3)
    runner.database_troubles = [gone]
    schedule.run(1)

    assert waves(runner) == 1
    assert notes.count("this pass could not be finished: the database is gone") == 2


def test_a_workload_that_cannot_be_advanced_is_named(open_schedule):
    """A problem with one workload is reported with its name and a hint."""
    trouble = ConfigurationError("another key", hint="use the first one")
    schedule, _runner, _observer, notes = open_schedule(
        workloads=[make_workload(name="mine")], outcomes=[trouble, trouble]
    )

    schedule.run(2)

    assert notes.count("mine: another key (use the first one)") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_current_wave_end(open_schedule, number):
    """Ctrl-C or SIGTERM during a wave ends the schedule after that wave, and the signal handlers are restored."""
    before = signal.getsignal(number)
    schedule, runner, _observer, _notes = open_schedule(workloads=[make_workload()], script=[make_wave(), make_wave()])
    do_wave = runner.run_wave

    def interrupted(wave):
        os.kill(os.getpid(), number)
        assert wait_until(lambda: schedule._stopping)
        return do_wave(wave)

    runner.run_wave = interrupted
    schedule.run(None)

    assert waves(runner) == 1
    assert signal.getsignal(number) is before


def test_a_second_signal_ends_at_once(open_schedule):
    """A second Ctrl-C does not wait for the wave."""
    schedule, runner, _observer, _notes = open_schedule(workloads=[make_workload()])
    never = threading.Event()

    def interrupted(_wave):
        os.kill(os.getpid(), signal.SIGINT)
        assert wait_until(lambda: schedule._stopping)
        os.kill(os.getpid(), signal.SIGINT)
        never.wait(20)

    runner.run_wave = interrupted
    with pytest.raises(KeyboardInterrupt):
        schedule.run(None)
    never.set()


def test_a_signal_does_not_wait_for_a_wave_that_does_not_end(open_schedule):
    """Running work gets two seconds; then the runner is closed, its leases are given up, and the schedule ends."""
    schedule, runner, _observer, _notes = open_schedule(workloads=[make_workload()])
    never = threading.Event()

    def stuck(_wave):
        os.kill(os.getpid(), signal.SIGTERM)
        never.wait(20)

    runner.run_wave = stuck
    began = time.monotonic()
    schedule.run(None)
    never.set()

    assert time.monotonic() - began < 8
    assert runner.diary[-1] == "closed"
    assert runner.threads.stopping.is_set()


def test_a_stuck_wave_of_one_workload_delays_no_other(open_schedule):
    """The next passes skip the workload until the wave has ended; then it is advanced again."""
    first, second = make_workload(1, "slow"), make_workload(2, "quick")
    schedule, runner, _observer, _notes = open_schedule(workloads=[first, second], script=[])
    waves = {first.id: make_wave(workload=1), second.id: make_wave(workload=2)}
    done = {first.id: 0, second.id: 0}
    enough = threading.Event()

    def actions(workload_id):
        yield (waves[workload_id],)
        return make_progress(first if workload_id == 1 else second, succeeded=3)

    def drive(workload_id, *, until=None, stop_at=None):  # noqa: ARG001 - the runner's words
        return ScriptedDrive(workload_id, actions(workload_id))

    def run_wave(wave):
        if wave.workload_id == 1:
            assert enough.wait(20)
        done[wave.workload_id] += 1
        if done[second.id] == 3:
            enough.set()
        return StepReport({})

    runner.drive, runner.run_wave = drive, run_wave
    schedule._pass_seconds = 0.2
    schedule.run(4)

    assert done[first.id] >= 1
    assert done[second.id] == 4


def test_an_error_of_one_workload_affects_only_it_and_is_reported_once(open_schedule, caplog):
    """An unexpected error is logged with its traceback, is not retried at every tick, and the other workloads are advanced."""
    first, second = make_workload(1, "broken"), make_workload(2, "sound")
    schedule, runner, _observer, notes = open_schedule(workloads=[first, second], script=[])
    tries = []

    def actions(workload_id):
        yield from ()
        tries.append(int(workload_id))
        if workload_id == 1:
            raise RuntimeError("a bug")
        return make_progress(second, succeeded=3)

    def drive(workload_id, *, until=None, stop_at=None):  # noqa: ARG001 - the runner's words
        return ScriptedDrive(workload_id, actions(workload_id))

    runner.drive = drive
    schedule.run(4)

    assert tries.count(2) == 4
    assert tries.count(1) == 1
    assert notes.count("broken: RuntimeError: a bug") == 1
    (record,) = [record for record in caplog.records if record.exc_info]
    assert isinstance(record.exc_info[1], RuntimeError)


def test_an_unreachable_database_delays_no_workload(open_schedule):
    """It is no problem of one workload: the next pass tries each as usual."""
    gone = StoreUnavailable("the database is gone")
    schedule, runner, _observer, notes = open_schedule(workloads=[make_workload(name="mine")], outcomes=[gone, gone])

    schedule.run(3)

    assert waves(runner) == 3
    assert notes.count("mine: the database is gone") == 1


def test_an_outage_during_a_pass_is_reported_once_and_the_next_pass_comes_as_usual(open_schedule):
    """An unreachable provider is no failure of the workload; another problem is reported again."""
    schedule, runner, _observer, notes = open_schedule(workloads=[make_workload()])
    runner.away = Trouble("the provider cannot be reached", since=0.0, tries=1)

    schedule.run(3)

    assert waves(runner) == 3
    assert notes.count("work: the provider cannot be reached") == 1
