from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from batchkit.flows import passing
from batchkit.flows.adapter import HandsWithdrawn, Job, WorkerThreads, follow

from batchkit.engine.driver import WaveKind
from batchkit.engine.runtime import Runner
from batchkit.errors import StoreUnavailable
from batchkit.models import WorkloadId
from tests.flows.support import ScriptedRunner, SilentWatcher, make_progress, make_wait, make_wave, make_workload

SCRIPT: list[Any] = [
    make_wave(WaveKind.SUBMIT),
    make_wait(2.5),
    (make_wave(WaveKind.MERGE, 3), make_wave(WaveKind.SUBMIT, 1)),
    make_wave(WaveKind.MERGE),
    make_wave(WaveKind.RESUBMIT, 0),
]


def job_on(runner: Any, drive: Any = None, **callbacks: Any) -> Job[Any]:
    """Make a job of a runner's drive."""
    return Job(runner, drive or runner.drive(WorkloadId(1)), names={WorkloadId(1): "work"}, **callbacks)


class Withdrawn:
    """Hands that do three calls and are withdrawn."""

    def __init__(self):
        self.left = 3

    @property
    def withdrawn(self):
        """Whether the three calls are done."""
        return self.left == 0

    async def do(self, call, *, beside=False):  # noqa: ARG002 - the words of the protocol
        """Do a call here and now."""
        if self.withdrawn:
            raise HandsWithdrawn
        self.left -= 1
        return call()

    def flow_ended(self):
        """Take no note."""


def follow_here(job, clock, *, hands=None, run_wave=None, watcher=None):
    """Follow a job to its end; its naps move the clock, and are returned with the result."""
    naps: list[float] = []
    hands = hands or WorkerThreads()

    async def nap(seconds):
        naps.append(seconds)
        clock.advance(seconds)

    async def run_in_hands(wave):
        return await hands.do(partial(job.run, wave))

    result = asyncio.run(
        follow(job, hands, run_wave=run_wave or run_in_hands, watcher=watcher or SilentWatcher(), sleep=nap)
    )
    return result, naps


def test_a_flow_does_what_the_plain_loop_does(clock):
    """A followed drive does the same things in the same order, tells the same callbacks and gives the same as the plain loop."""
    told: dict[str, list[object]] = {"flow": [], "plain": []}
    flow_runner, plain_runner = ScriptedRunner(clock, SCRIPT), ScriptedRunner(clock, SCRIPT)
    plain_runner._wait = clock.advance  # type: ignore[attr-defined]

    def callbacks(which: str) -> dict[str, Any]:
        return {
            "on_wave": lambda wave, report: told[which].append((wave, report)),
            "on_wait": told[which].append,
        }

    by_flow, _naps = follow_here(job_on(flow_runner, **callbacks("flow")), clock)
    clock.now = 1_750_000_000.0
    by_loop = Runner.process(
        plain_runner,  # type: ignore[arg-type]
        WorkloadId(1),
        **callbacks("plain"),
    )

    assert by_flow == by_loop
    assert told["flow"] == told["plain"]
    answers = [entry for entry in plain_runner.diary if entry[0] == "answer"]  # type: ignore[index]
    assert [entry for entry in flow_runner.diary if entry[0] == "answer"] == answers  # type: ignore[index]
    # Those of a group may begin in any order.
    waves = sorted(str(entry) for entry in plain_runner.diary if entry[0] == "wave")  # type: ignore[index]
    assert sorted(str(entry) for entry in flow_runner.diary if entry[0] == "wave") == waves  # type: ignore[index]


def test_waits_are_slept_in_short_steps(clock):
    """A wait is slept in steps of at most a second, so that a flow notices soon that it is not needed any more."""
    _result, naps = follow_here(job_on(ScriptedRunner(clock, [make_wait(2.5)])), clock)

    assert naps == [1.0, 1.0, 0.5]


def test_an_error_of_a_wave_goes_to_the_drive(clock):
    """A wave that fails for good ends the drive with that very error."""
    trouble = StoreUnavailable("the database is gone")
    runner = ScriptedRunner(clock, SCRIPT, outcomes=[trouble])

    with pytest.raises(StoreUnavailable) as caught:
        follow_here(job_on(runner), clock)

    assert caught.value is trouble


def test_an_error_of_one_wave_waits_for_the_others(clock):
    """While one wave of a group fails, the others are done and told; then the drive gets the error."""
    trouble = StoreUnavailable("the database is gone")
    group = (make_wave(WaveKind.MERGE), make_wave(WaveKind.SUBMIT))
    runner = ScriptedRunner(clock, [group], outcomes=[trouble])
    told = []

    with pytest.raises(StoreUnavailable):
        follow_here(job_on(runner, on_wave=lambda wave, _report: told.append(wave)), clock)

    assert len(told) == 1
    assert told[0] in group


def test_an_error_of_the_engine_leaves_the_drive_as_it_was(clock):
    """When the engine fails around a wave, the job is not over and still asks for that wave."""
    job = job_on(ScriptedRunner(clock, SCRIPT))

    async def engine_fails(_wave):
        raise RuntimeError("an engine's own")

    with pytest.raises(RuntimeError, match="an engine's own"):
        follow_here(job, clock, run_wave=engine_fails)

    assert not job.is_over
    assert job.action() == (SCRIPT[0],)


def test_withdrawn_hands_end_a_flow_but_not_its_job(clock):
    """A flow whose work nobody does any more ends, in the middle of a wait too, and the job goes on from there."""
    job = job_on(ScriptedRunner(clock, [make_wait(60)]))
    hands = Withdrawn()
    hands.left = 1

    with pytest.raises(HandsWithdrawn):
        follow_here(job, clock, hands=hands)

    assert job.action() == make_wait(60)


def test_a_flow_that_comes_late_finds_the_result(clock):
    """A flow that begins when the work is done asks nobody for anything and has the result."""
    job = job_on(ScriptedRunner(clock, []))
    job.action()
    hands = Withdrawn()
    hands.left = 0

    result, _naps = follow_here(job, clock, hands=hands)

    assert result.is_finished


def test_a_picture_is_read_after_a_wave_when_it_is_wanted(clock):
    """While waves follow each other without a wait, where the workload stands is still shown."""
    watcher = SilentWatcher()
    watcher.wants = True

    follow_here(job_on(ScriptedRunner(clock, [make_wave(), make_wave()])), clock, watcher=watcher)

    assert [picture.counts.succeeded for picture in watcher.pictures] == [5, 5]


def test_a_pass_with_nothing_to_do_runs_no_wave(clock):
    """A pass over a workload that has nothing due does not run a single wave."""
    runner: Any = ScriptedRunner(clock, [])

    advanced, _naps = follow_here(passing.job_of(runner, make_workload()), clock)

    assert [entry for entry in runner.diary if entry[0] == "wave"] == []
    assert advanced.notes == ("work: finished, 10 succeeded",)


def test_what_is_not_finished_after_a_pass_is_not_handled_as_such(clock, monkeypatch):
    """Only a workload that has its last result is handled as finished."""
    runner: Any = ScriptedRunner(clock, [make_wave()])
    monkeypatch.setattr("tests.flows.support.make_progress", partial(make_progress, succeeded=3))

    advanced, _naps = follow_here(passing.job_of(runner, make_workload()), clock)

    assert advanced.notes == ()
