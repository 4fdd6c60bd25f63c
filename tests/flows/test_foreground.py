from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest
from batchkit.flows import foreground as foreground_module
from batchkit.flows.adapter import HandsWithdrawn, Job, follow
from batchkit.flows.foreground import Foreground

from batchkit.engine.driver import WaveKind
from batchkit.models import WorkloadId
from batchkit.steps.context import StepReport
from tests.flows.support import ScriptedRunner, SilentWatcher, make_wait, make_wave

LONG = 30.0


@pytest.fixture
def notes() -> list[str]:
    """Keep what the user is told."""
    return []


@pytest.fixture
def start_flow():
    """Give a function that runs something in a flow's thread; every such thread has ended when the test has."""
    threads: list[threading.Thread] = []

    def start(what, *arguments):
        thread = threading.Thread(target=what, args=arguments, daemon=True)
        threads.append(thread)
        thread.start()
        return thread

    yield start
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()


def job_on(runner: Any, **callbacks: Any) -> Job[Any]:
    """Make a job of a runner's drive."""
    return Job(runner, runner.drive(WorkloadId(1)), names={}, **callbacks)


def flow(job, hands, endings):
    """Follow a job as a flow does, in a thread of its own."""

    async def run_wave(wave):
        return await hands.do(partial(job.run, wave), beside=job.is_beside(wave))

    try:
        endings.append(asyncio.run(follow(job, hands, run_wave=run_wave, watcher=SilentWatcher())))
    except HandsWithdrawn as ending:
        endings.append(ending)
    finally:
        hands.flow_ended()


def test_the_work_is_done_in_the_calling_thread(clock, notes, start_flow):
    """A flow asks from its own thread; waves and callbacks happen in the one that called."""
    threads: list[str] = []
    runner = ScriptedRunner(clock, [make_wave(), make_wave()])
    job = job_on(runner, on_wave=lambda _wave, _report: threads.append(threading.current_thread().name))
    hands = Foreground(notes.append, job.runner.crew, patience_seconds=LONG)
    endings: list[Any] = []
    start_flow(flow, job, hands, endings)

    result = hands.work(job)

    assert result is not None
    assert result.is_finished
    assert threads == [threading.current_thread().name] * 2


@pytest.mark.parametrize("with_flow", [True, False])
def test_waves_of_a_group_are_done_at_the_same_time(clock, notes, start_flow, with_flow):
    """Each wave of a group is under way while the other is; their callbacks come in the thread that called."""
    group = (make_wave(WaveKind.MERGE), make_wave(WaveKind.SUBMIT))
    runner = ScriptedRunner(clock, [group])
    both = threading.Barrier(2, timeout=LONG)
    do_wave = runner.run_wave
    threads = []

    def together(wave):
        both.wait()
        return do_wave(wave)

    runner.run_wave = together  # type: ignore[method-assign]
    job = job_on(runner, on_wave=lambda _wave, _report: threads.append(threading.current_thread()))
    hands = Foreground(notes.append, runner.crew, patience_seconds=LONG if with_flow else 0)
    if with_flow:
        start_flow(flow, job, hands, [])

    assert hands.work(job) is not None
    assert threads == [threading.current_thread()] * 2
    assert ("answer", {"merged": 4}) in runner.diary


def test_without_a_flow_the_work_begins_by_itself(clock, notes):
    """When no flow begins within the patience, the work is done all the same."""
    runner = ScriptedRunner(clock, [make_wave(), make_wait(0), make_wave()])

    Foreground(notes.append, runner.crew, patience_seconds=0).work(job_on(runner))

    assert len([entry for entry in runner.diary if entry[0] == "wave"]) == 2  # type: ignore[index]


def test_a_flow_takes_over_in_the_middle(clock, notes, start_flow):
    """Work that began without a flow goes on through it once it is there, without doing anything twice."""
    runner = ScriptedRunner(clock, [make_wave(shards=1), make_wait(LONG), make_wave(shards=2)])
    hands = Foreground(notes.append, runner.crew, patience_seconds=0)
    endings: list[Any] = []

    def begin_flow(_wait):
        clock.advance(LONG)
        start_flow(flow, job, hands, endings)

    job = job_on(runner, on_wait=begin_flow)
    hands.work(job)

    assert [entry[1] for entry in runner.diary if entry[0] == "wave"] == [make_wave(shards=1), make_wave(shards=2)]  # type: ignore[index]


def test_a_flow_that_ends_early_is_replaced_by_the_plain_loop(clock, notes, start_flow):
    """When Prefect fails in the middle, the same drive is finished without it."""
    runner = ScriptedRunner(clock, [make_wave(shards=1), make_wave(shards=2)])
    job = job_on(runner)
    hands = Foreground(notes.append, job.runner.crew, patience_seconds=LONG)

    async def half_a_flow():
        (wave,) = await hands.do(job.action)
        report = await hands.do(partial(job.run, wave))
        await hands.do(partial(job.answer, [report]))

    def engine():
        asyncio.run(half_a_flow())
        hands.note("Prefect failed")
        hands.flow_ended()

    start_flow(engine)
    hands.work(job)

    assert [entry[1] for entry in runner.diary if entry[0] == "wave"] == [make_wave(shards=1), make_wave(shards=2)]  # type: ignore[index]
    assert notes == ["Prefect failed"]


def test_a_flow_that_stalls_is_replaced_by_the_plain_loop(clock, notes, start_flow, monkeypatch):
    """A flow that asks for nothing for too long loses the work, and the user is told."""
    monkeypatch.setattr(foreground_module, "STALL_SECONDS", 0.05)
    runner = ScriptedRunner(clock, [make_wave()])
    job = job_on(runner)
    hands = Foreground(notes.append, job.runner.crew, patience_seconds=LONG)
    worked = threading.Event()
    seen: list[bool] = []

    async def stalls():
        await hands.do(job.action)
        worked.wait(LONG)
        seen.append(hands.withdrawn)

    start_flow(lambda: asyncio.run(stalls()))
    result = hands.work(job)
    worked.set()

    assert result is not None
    assert notes == ["Prefect has stalled; the work goes on without it"]


def test_a_long_wave_beside_is_no_stall(clock, notes, start_flow, monkeypatch):
    """A flow is silent for as long as a wave takes that is done for it in another thread."""
    monkeypatch.setattr(foreground_module, "STALL_SECONDS", 1.0)
    runner = ScriptedRunner(clock, [(make_wave(WaveKind.MERGE), make_wave(WaveKind.SUBMIT))])
    do_wave = runner.run_wave

    def takes_its_time(wave):
        if wave.kind is WaveKind.SUBMIT:
            threading.Event().wait(1.8)
        return do_wave(wave)

    runner.run_wave = takes_its_time  # type: ignore[method-assign]
    job = job_on(runner)
    hands = Foreground(notes.append, runner.crew, patience_seconds=LONG)
    start_flow(flow, job, hands, [])

    assert hands.work(job) is not None
    assert notes == []
    assert len([entry for entry in runner.diary if entry[0] == "wave"]) == 2  # type: ignore[index]


def test_an_interrupt_ends_what_is_done_beside(clock, notes, start_flow):
    """Ctrl-C during one wave asks the other to end, and is raised when it has."""
    runner = ScriptedRunner(clock, [(make_wave(WaveKind.MERGE), make_wave(WaveKind.SUBMIT))])
    begun = threading.Event()
    ended = []

    def interrupted(wave):
        if wave.kind is WaveKind.MERGE:
            assert begun.wait(LONG)
            raise KeyboardInterrupt
        begun.set()
        ended.append(runner.crew.stopping.wait(LONG))
        return StepReport({})

    runner.run_wave = interrupted  # type: ignore[method-assign]
    job = job_on(runner)
    hands = Foreground(notes.append, runner.crew, patience_seconds=LONG)
    endings: list[Any] = []
    thread = start_flow(flow, job, hands, endings)

    with pytest.raises(KeyboardInterrupt):
        hands.work(job)

    assert ended == [True]
    thread.join(LONG)
    assert [type(ending) for ending in endings] == [HandsWithdrawn]


def test_an_interrupt_stays_an_interrupt(clock, notes, start_flow):
    """Ctrl-C during a wave is raised where the work was called, and the flow learns that it is not needed any more."""
    runner = ScriptedRunner(clock, [make_wave(), make_wave()], outcomes=[KeyboardInterrupt()])
    job = job_on(runner)
    hands = Foreground(notes.append, job.runner.crew, patience_seconds=LONG)
    endings: list[Any] = []
    thread = start_flow(flow, job, hands, endings)

    with pytest.raises(KeyboardInterrupt):
        hands.work(job)

    thread.join(LONG)
    assert [type(ending) for ending in endings] == [HandsWithdrawn]


def test_stop_ends_the_work_after_the_present_wave(clock, notes):
    """Work that is told to stop during a wave finishes that wave and begins no other."""
    runner = ScriptedRunner(clock, [make_wave(), make_wave()])
    hands = Foreground(notes.append, runner.crew, patience_seconds=0)
    job = job_on(runner, on_wave=lambda _wave, _report: hands.stop())

    assert hands.work(job) is None
    assert len([entry for entry in runner.diary if entry[0] == "wave"]) == 1  # type: ignore[index]


def test_an_error_of_the_drive_is_raised_as_it_is(clock, notes, start_flow):
    """What ends the drive is what the caller gets, the same with a flow as without."""
    trouble = ValueError("out of the drive")
    job = job_on(ScriptedRunner(clock, [make_wave()], ending=trouble))
    hands = Foreground(notes.append, job.runner.crew, patience_seconds=LONG)

    def flow_that_fails():
        with pytest.raises(ValueError, match="out of the drive"):
            flow(job, hands, [])

    start_flow(flow_that_fails)
    with pytest.raises(ValueError, match="out of the drive") as caught:
        hands.work(job)

    assert caught.value is trouble


@pytest.mark.parametrize("beside", [False, True])
def test_a_flow_whose_work_is_abandoned_is_told_at_once(clock, notes, start_flow, beside):
    """It does not wait for the call that goes on; what that call brings is nobody's any more."""
    group = (make_wave(WaveKind.MERGE), make_wave(WaveKind.SUBMIT))
    runner = ScriptedRunner(clock, [group])
    is_at_work, may_end = threading.Event(), threading.Event()

    def stuck(wave):
        if (wave == group[1]) is beside:
            is_at_work.set()
            may_end.wait(LONG)
        return StepReport({})

    runner.run_wave = stuck  # type: ignore[method-assign]
    job = job_on(runner)
    hands = Foreground(notes.append, runner.crew, patience_seconds=LONG)
    endings: list[Any] = []
    following = start_flow(flow, job, hands, endings)
    working = start_flow(hands.work, job)
    assert is_at_work.wait(LONG)

    hands.abandon()

    following.join(LONG)
    assert [type(ending) for ending in endings] == [HandsWithdrawn]
    assert working.is_alive()
    may_end.set()
