"""Flows that lead do the same work in the same order as the plain loop, and handle errors of waves and of Prefect."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from batchkit.engine.runtime import Runner
from batchkit.engine.waves import DriveUntil, WaveKind
from batchkit.errors import StoreUnavailable
from batchkit.models import WorkloadId
from tests.flows.support import ScriptedRunner, Watched, lead_on, make_wait, make_wave, make_workload

SCRIPT: list[Any] = [
    make_wave(WaveKind.SUBMIT),
    make_wait(2.5),
    (make_wave(WaveKind.MERGE, 3), make_wave(WaveKind.SUBMIT, 1)),
    make_wave(WaveKind.MERGE),
    make_wave(WaveKind.RESUBMIT, 0),
]


@pytest.fixture
def lead(clock, monkeypatch):
    """Return a function that leads a drive of a scripted runner without Prefect's engine, and returns events and sleeps."""
    from batchkit.flows import leading, tasks  # noqa: PLC0415 - imports Prefect

    naps: list[float] = []

    async def nap(seconds):
        naps.append(seconds)
        clock.advance(seconds)

    monkeypatch.setattr(leading.anyio, "sleep", nap)

    def run(runner, *, perform=None):
        observer = Watched()
        made = lead_on(runner, observer)

        async def here(wave):
            return made.run_wave(wave)

        monkeypatch.setattr(tasks, "perform", perform or here)
        try:
            asyncio.run(made.drive(make_workload(), DriveUntil.FINISHED))
        finally:
            everything.extend(observer.told)
        return observer.told, naps

    everything: list[tuple[Any, ...]] = []
    return SimpleNamespace(drive=run, told=everything)


def test_a_flow_does_what_the_plain_loop_does(clock, lead):
    """A led drive does the same things in the same order, and reports the same, as the plain loop."""
    told, _naps = lead.drive(ScriptedRunner(clock, SCRIPT))
    clock.now = 1_750_000_000.0
    plain: Any = ScriptedRunner(clock, SCRIPT)
    plain._wait = clock.advance
    watched = Watched()
    Runner.process(plain, WorkloadId(1), observer=watched)

    assert [entry for entry in told if entry[0] not in {"began", "finished"}] == watched.told
    assert [entry[0] for entry in told][:1] == ["began"]
    assert told[-1][0] == "finished"


def test_waits_are_slept_in_short_steps(clock, lead):
    """A wait is slept in steps of at most a second, and no longer than intended when the clock is set back."""
    _told, naps = lead.drive(ScriptedRunner(clock, [make_wait(2.5)]))

    assert naps == [1.0, 1.0, 0.5]


def test_an_error_of_a_wave_goes_to_the_drive(clock, lead):
    """While one wave of a group fails, the others run and are reported; then the drive gets exactly that error."""
    trouble = StoreUnavailable("the database is gone")
    group = (make_wave(WaveKind.MERGE), make_wave(WaveKind.SUBMIT))

    with pytest.raises(StoreUnavailable) as caught:
        lead.drive(ScriptedRunner(clock, [group], outcomes=[trouble]))

    assert caught.value is trouble
    outcomes = [entry[2] for entry in lead.told if entry[0] == "wave_ended"]
    assert outcomes[0] is trouble
    assert outcomes[1].counts == {"merged": 2}
    assert lead.told[-1] == ("failed", "work", trouble)


def test_an_error_of_prefect_around_a_wave_is_no_error_of_the_wave(clock, lead):
    """It ends the flow: the drive does not get the error, and the leases are given up with the runner."""
    runner = ScriptedRunner(clock, SCRIPT)

    async def engine_fails(_wave):
        raise RuntimeError("an engine's own")

    with pytest.raises(RuntimeError, match="an engine's own"):
        lead.drive(runner, perform=engine_fails)

    assert [entry for entry in runner.diary if entry[0] == "outcomes"] == []  # type: ignore[index] # each is a tuple
