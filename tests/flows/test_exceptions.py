"""When any step of one workload raises, at random or always, the other workload still finishes."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from batchkit.api import several
from batchkit.api.serving import Schedule
from batchkit.engine.observer import Observer
from batchkit.engine.runtime import Runner
from batchkit.errors import RowsHeld
from batchkit.evaluation import runs
from batchkit.steps import merge, submit
from batchkit.steps.split import SplitOptions
from batchkit.store import workloads
from tests.flows.support import wait_until
from tests.workloads import chat_line, write_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batchkit.settings import Settings

# Prefect leaves sockets to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")

STEPS = (
    "settle.settle",
    "cancel.cancel",
    "poll.poll",
    "merge.merge",
    "submit.submit",
    "resubmit.is_due",
    "resubmit.resubmit",
    "resubmit.next_due",
)


class Notes(Observer):
    """Records the notes."""

    def __init__(self):
        self.notes: list[str] = []

    def note(self, text):
        """Record a note."""
        self.notes.append(text)


@pytest.fixture
def settings(open_settings, tmp_path) -> Settings:
    """Split two workloads: ``a``, which is older, and ``b``."""
    settings: Settings = open_settings()
    with Runner(settings) as runner:
        for name in ("a", "b"):
            source = write_lines(tmp_path / f"{name}.jsonl", [chat_line(f"{name}-{line}") for line in range(12)])
            runner.split([source], name=name, options=SplitOptions(shard_lines=3))
    return settings


@pytest.fixture
def throw(monkeypatch, settings) -> Callable[..., list[str]]:
    """Return a function that makes steps of workload ``a`` raise; it returns the names of the steps that have raised so far."""
    with Runner(settings) as runner:
        victim = runner.find("a").id

    def plant(steps, chance: Callable[[], bool] = lambda: True) -> list[str]:
        thrown: list[str] = []

        def breaking(name: str, step: Any) -> Any:
            def broken(context: Any, *rest: Any) -> Any:
                if victim in rest and chance():
                    thrown.append(name)
                    raise RuntimeError(f"thrown in {name}")
                return step(context, *rest)

            return broken

        for name in steps:
            module, _, function = name.partition(".")
            where = getattr(__import__("batchkit.steps", fromlist=[module]), module)
            monkeypatch.setattr(where, function, breaking(name, getattr(where, function)))
        return thrown

    return plant


def by_lot(seed: int) -> Callable[[], bool]:
    """Raise in about one of three calls, chosen by a seeded random generator."""
    lot = random.Random(seed)  # noqa: S311 - a test's lot
    return lambda: lot.random() < 0.3


@pytest.fixture
def stands(settings) -> Iterator[Callable[[str], bool]]:
    """Return a function that returns whether a workload has succeeded."""
    with Runner(settings) as runner:
        yield lambda name: runner.progress(runner.find(name).id).all_succeeded


def serve(settings, stands) -> list[str]:
    """Let ``serve`` work until the other workload has finished; return its notes."""
    notes: list[str] = []
    schedule = Schedule(settings, interval_seconds=0.05, on_note=notes.append, pass_seconds=1)
    for _ in range(60):
        schedule.run(3)
        if stands("b"):
            break
    return notes


def test_serve_says_who_holds_the_rows_of_a_workload(settings, stands, monkeypatch):
    """A pass ends without an error when only some work waits for another session; the other workload is finished."""
    merge_once = merge._merge_once

    def held(context, workload, *rest, **options):
        if workload.name == "a":
            raise RowsHeld("process 77 holds the rows of requests")
        return merge_once(context, workload, *rest, **options)

    monkeypatch.setattr(merge, "_merge_once", held)
    notes = serve(settings, stands)
    assert stands("b")
    assert any(note.startswith("a: merging shard") and "process 77" in note for note in notes), notes


def watch(settings, _stands) -> list[str]:
    """Let ``watch`` drive both workloads; return its notes."""
    observer = Notes()
    with Runner(settings) as runner:
        several.drive_all(runner, runner.open_workloads(), observer=observer, stop_at=None)
    return list(observer.notes)


@pytest.mark.parametrize("work", [serve, watch])
@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_always_raises_for_one_workload_does_not_stop_the_other(settings, throw, stands, work, step):
    """Whichever step raises, the other workload finishes, and the error is reported once, with the workload's name."""
    thrown = throw([step])

    notes = work(settings, stands)

    assert stands("b")
    assert notes.count(f"a: RuntimeError: thrown in {step}") == min(len(thrown), 1)
    assert thrown or stands("a") or step.startswith("resubmit")


@pytest.mark.parametrize("work", [serve, watch])
@pytest.mark.parametrize("seed", range(2))
def test_random_exceptions_in_every_step_of_one_workload_do_not_stop_the_other(settings, throw, stands, work, seed):
    """Steps raise now and then, whichever they are."""
    throw(STEPS, by_lot(seed))

    work(settings, stands)

    assert stands("b")


@pytest.mark.parametrize("work", [serve, watch])
def test_a_workload_that_vanishes_from_the_database_does_not_stop_the_other(settings, stands, work, monkeypatch):
    """The workload's rows are deleted in the middle of a pass."""
    submit_step = submit.submit

    def vanish(context: Any, workload_id: Any, shard_ids: Any) -> Any:
        with context.store.write() as connection:
            victim = workloads.find(connection, "a")
            if victim is not None:
                workloads.remove(connection, victim.id)
        return submit_step(context, workload_id, shard_ids)

    monkeypatch.setattr(submit, "submit", vanish)

    work(settings, stands)

    assert stands("b")


def test_a_flow_on_a_worker_finishes_the_other_workload(
    settings, throw, stands, monkeypatch, prefect_server, prefect_api
):
    """The flow run is Failed and names the workload; the other workload finishes anyway."""
    from batchkit.flows.advance_workloads import advance_workloads  # noqa: PLC0415 - imports Prefect

    prefect_api(prefect_server.api_url)
    for name, value in {
        "GROQ_API_KEY": settings.api_key.get_secret_value(),
        "BATCHKIT_BASE_URL": settings.base_url,
        "BATCHKIT_HOME": str(settings.home),
        "BATCHKIT_POLL_INTERVAL_SECONDS": "0.05",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("prefect.runtime.flow_run.get_scheduled_start_time", lambda: datetime.now(UTC))  # noqa: TID251 - Prefect's time
    throw(["submit.submit"])
    states = []

    def one_pass() -> bool:
        states.append(asyncio.run(advance_workloads(return_state=True)))
        return bool(stands("b"))

    assert wait_until(one_pass, 60)
    assert states[0].is_failed()
    assert "a: RuntimeError: thrown in submit.submit" in str(states[0].message)
    assert "b: " in str(states[0].message)


def test_a_run_that_cannot_be_scored_does_not_stop_the_others(monkeypatch):
    """An error while one run of a suite is collected concerns that run only; the next one is collected."""
    first, second = (type("Run", (), {"name": name})() for name in ("broken", "sound"))
    concluded: list[str] = []

    def conclude(_runner: Any, evaluation: Any) -> Any:
        if evaluation is first:
            raise ZeroDivisionError("a scorer's")
        concluded.append(evaluation.name)
        return type("Conclusion", (), {"is_ours": True, "summary": None})()

    def is_due(_runner: Any, evaluation: Any) -> bool:
        if evaluation is third:
            raise KeyError("a broken suite")
        return True

    third = type("Run", (), {"name": "unreadable"})()
    monkeypatch.setattr(runs, "open_runs", lambda _runner: [third, first, second])
    monkeypatch.setattr(runs, "_is_due", is_due)
    monkeypatch.setattr(runs, "next_workload", lambda _runner, _evaluation: None)
    monkeypatch.setattr(runs, "conclude", conclude)
    runner: Any = None

    found = list(runs.collect(runner))

    assert concluded == ["sound"]
    assert [(one.evaluation.name, type(one.error)) for one in found] == [
        ("unreadable", KeyError),
        ("broken", ZeroDivisionError),
        ("sound", type(None)),
    ]
    (left,) = runs.collect(runner, skip=lambda evaluation: evaluation is not second)
    assert left.error is None
    assert runs.due_runs(runner) == [third, first, second]
