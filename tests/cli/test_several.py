"""Several workloads in one command are independent, whatever happens to the clock or to one of them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from batchkit.api import several
from batchkit.engine.observer import Observer
from batchkit.engine.waits import Countdown, Retries, Slots
from batchkit.engine.waves import Wait
from batchkit.errors import AccountRefused, ConfigurationError, StoreUnavailable
from tests.clock import FakeClock
from tests.flows.support import NOW, make_progress, make_workload
from tests.observing import ScriptedDrive

A, B = make_workload(1, "a"), make_workload(2, "b")


class Notes(Observer):
    """Records the notes."""

    def __init__(self):
        self.notes: list[str] = []

    def note(self, text):
        """Record a note."""
        self.notes.append(text)


class Scripted:
    """A runner with scripted drives; any test may set its ``clock``."""

    def __init__(self, clock, drives):
        self.clock = clock
        self._drives = drives
        self.begun = dict.fromkeys(drives, 0)

    def drive(self, workload_id, *, stop_at=None):  # noqa: ARG002 - the runner's words
        """Return the next drive of a workload."""
        self.begun[workload_id] += 1
        return ScriptedDrive(workload_id, self._drives[workload_id])

    def work(self, drive, observer):
        """No-op: there are no waves."""
        action = drive.next()
        if isinstance(action, Wait):
            observer.waiting(drive.workload_id, action)
        return action


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that the test sets."""
    return FakeClock(NOW)


def drive_all(clock, drives, *, on_wait=lambda _count: None, stop_at=None):
    """Drive A and B; return their final states, the notes, the waits, and the runner."""
    observer = Notes()
    runner: Any = Scripted(clock, drives)
    waits: list[float] = []

    def wait(seconds):
        waits.append(seconds)
        clock.advance(seconds)
        on_wait(len(waits))

    ends: list[Any] = several.drive_all(runner, [A, B], observer=observer, stop_at=stop_at, wait=wait)
    return ends, observer.notes, waits, runner


def waiting(clock, workload, seconds, times):
    """Return a drive that waits ``times`` times for ``seconds`` and is then finished."""

    def drive():
        for _ in range(times):
            yield Wait(clock() + seconds, None, ())
        return make_progress(workload)

    return drive


@pytest.mark.parametrize("days", [-400, -1, 0, 1, 400])
def test_no_wait_gets_longer_when_the_clock_changes(clock, days):
    """While one workload waits 10 s and the other 15 s, the clock is set by days: both finish within the intended time."""

    def on_wait(count):
        if count == 1:
            clock.now += days * 86_400

    ends, _notes, waits, _runner = drive_all(
        clock, {A.id: waiting(clock, A, 10, 2), B.id: waiting(clock, B, 15, 2)}, on_wait=on_wait
    )

    assert [end.workload.name for end in ends] == ["a", "b"]
    assert sum(waits) <= 30.1
    assert max(waits) <= 10.1


def failing(*errors, then=None):
    """Return a drive that raises one error per start, and repeats the last one unless ``then`` follows."""
    left = list(errors)

    def drive():
        yield from ()
        if len(left) > 1 or (left and then is not None):
            raise left.pop(0)
        if left:
            raise left[0]
        return then

    return drive


@pytest.mark.parametrize(
    "error",
    [RuntimeError("a bug"), AccountRefused("no money", status=402), ConfigurationError("another key"), KeyError("row")],
    ids=lambda error: type(error).__name__,
)
def test_any_error_of_one_workload_does_not_stop_the_other(clock, error):
    """It is reported once with the name, retried with growing waits while the other works, and returned at the end."""
    ends, notes, _waits, runner = drive_all(clock, {A.id: failing(error), B.id: waiting(clock, B, 600, 6)})

    assert ends[0] is error
    assert ends[1].is_finished
    assert len([note for note in notes if note.startswith("a: ")]) == 1
    # Tries come after 30, 90, 210, 450, 930 and 1,890 s; an hour has no more of them.
    assert runner.begun[A.id] == 7


def test_a_workload_that_recovers_is_finished_with_the_others(clock):
    """An error that disappears at the next try has no effect on the result."""
    gone = StoreUnavailable("away")
    drives = {A.id: failing(gone, then=make_progress(A)), B.id: waiting(clock, B, 100, 1)}

    ends, notes, _waits, _runner = drive_all(clock, drives)

    assert all(end.is_finished for end in ends)
    assert notes == ["a: away"]


def test_a_command_that_only_fails_ends_immediately(clock):
    """When no workload makes progress, the command ends, as it does for one workload."""
    one, other = RuntimeError("one"), RuntimeError("other")

    ends, _notes, waits, _runner = drive_all(clock, {A.id: failing(one), B.id: failing(other)})

    assert ends == [one, other]
    assert waits == []


def test_no_workload_is_retried_after_the_deadline(clock):
    """The user's deadline applies to retries too."""
    error = RuntimeError("a bug")

    ends, _notes, waits, runner = drive_all(
        clock, {A.id: failing(error), B.id: waiting(clock, B, 100, 1)}, stop_at=NOW + 60
    )

    assert ends[0] is error
    assert runner.begun[A.id] == 2
    assert sum(waits) <= 100.1


def test_a_slow_step_of_one_workload_does_not_delay_the_other(clock):
    """The other workload finishes while the first one is in the middle of a wave."""
    is_done = threading.Event()

    def slow():
        yield from ()
        assert is_done.wait(20)
        return make_progress(A)

    def quick():
        for _ in range(3):
            yield Wait(clock(), None, ())
        is_done.set()
        return make_progress(B)

    ends, _notes, _waits, _runner = drive_all(clock, {A.id: slow, B.id: quick})

    assert all(end.is_finished for end in ends)


def test_an_interrupt_does_not_wait_for_a_step_that_does_not_end(clock, monkeypatch):
    """Ctrl-C takes effect at once; running work is asked to stop and abandoned after a moment."""
    monkeypatch.setattr("batchkit.api.several._STOP_SECONDS", 0.1)
    never = threading.Event()
    runner: Any = Scripted(clock, {A.id: lambda: (yield from _stuck(never)), B.id: waiting(clock, B, 5, 9)})
    runner.threads = type("ThreadGroup", (), {"stopping": threading.Event()})

    def interrupted(*_arguments):
        raise KeyboardInterrupt

    runner.clock = interrupted
    with pytest.raises(KeyboardInterrupt):
        several.drive_all(runner, [A, B], observer=Notes(), stop_at=None, wait=interrupted)

    assert runner.threads.stopping.is_set()
    never.set()


def _stuck(never):
    yield from ()
    never.wait(20)
    return make_progress(A)


def test_a_countdown_ends_by_either_clock(clock):
    """It ends at the intended clock time, or after the seconds that have passed."""
    timer = FakeClock(0)
    countdown = Countdown(clock() + 10, clock, timer)
    clock.advance(4)
    assert countdown.left_seconds == 6
    clock.now -= 86_400
    timer.advance(7)
    assert countdown.left_seconds == 3
    clock.advance(100_000)
    assert countdown.left_seconds == 0


def test_retry_waits_double_up_to_an_hour(clock):
    """A success resets them, and each workload has its own."""
    retries: Retries[str] = Retries(60, clock)
    assert [retries.failed("a") for _ in range(8)] == [60, 120, 240, 480, 960, 1_920, 3_600, 3_600]
    assert retries.left_seconds("b") == 0
    clock.advance(3_599)
    assert retries.left_seconds("a") == 1
    retries.succeeded("a")
    assert retries.left_seconds("a") == 0
    assert retries.failed("a") == 60


def test_a_slow_workload_gives_its_slot_to_the_others(clock):
    """Eight workloads run at the same time, and more when some of them do not finish."""
    slots: Slots[int] = Slots(clock)
    assert [slots.take(number) for number in range(9)] == [True] * 8 + [False]
    clock.advance(6)
    assert slots.wait_seconds() == 4
    slots.give_back(3)
    assert slots.take(8)
    assert not slots.take(9)
    clock.advance(4)
    assert slots.take(9)
