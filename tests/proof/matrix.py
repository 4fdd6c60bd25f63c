"""The whole proof: its rows, the processes that run them, and the table of results."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from rich.table import Table

from tests.proof import scenarios
from tests.proof.account_refusals import RefusalCase, RefusalOutcome, all_refusal_cases, run_refusal_case
from tests.proof.fault_points import InjectionKind
from tests.proof.split_interference import InterferenceOutcome, interfere_with_split, points_during_split
from tests.proof.stopped_peer import StoppedPeerOutcome, commit_points, stop_peer
from tests.proof.storm import StormOutcome, run_storm
from tests.proof.sweep import (
    Baseline,
    Injection,
    SweepOutcome,
    between_absences,
    each_once,
    measure,
    pairs,
    run_scenario,
    sampled,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.proof.fault_points import FaultPoint
    from tests.proof.promises import Violations
    from tests.proof.scenarios import ProofScenario
    from tests.proof.sweep import Backend


T = TypeVar("T")


@dataclass(frozen=True)
class SampleSizes:
    """The number of runs of each kind on each database; None means one run for each point."""

    points: int | None
    pairs: int
    points_per_trouble: int
    points_through_prefect: int
    storms: int
    drives_beside: int | None
    points_between_absences: int
    points_per_lost_input: int
    refusals: int | None
    commit_points: int | None
    points_of_adoption_elsewhere: int
    seed: int = 0


FULL = SampleSizes(
    points=None,
    pairs=200,
    points_per_trouble=20,
    points_through_prefect=20,
    storms=200,
    drives_beside=None,
    points_between_absences=60,
    points_per_lost_input=20,
    refusals=None,
    commit_points=None,
    points_of_adoption_elsewhere=60,
)
QUICK = SampleSizes(
    points=12,
    pairs=3,
    points_per_trouble=1,
    points_through_prefect=1,
    storms=1,
    drives_beside=4,
    points_between_absences=2,
    points_per_lost_input=1,
    refusals=4,
    commit_points=4,
    points_of_adoption_elsewhere=2,
)


@dataclass
class ProofRow:
    """One row of the matrix: sums over the runs of one kind on one database."""

    name: str
    points: int = 0
    runs: int = 0
    met: int = 0
    lost: int = 0
    bought_twice: int = 0
    wrong_rows: int = 0
    broken: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Return whether every run kept every promise."""
        return not self.failures

    def add(self, how: str, met: int, violations: Violations) -> None:
        """Add one run."""
        self.runs += 1
        self.met += met
        self.lost += violations.lost
        self.bought_twice += violations.bought_twice
        self.wrong_rows += violations.wrong_rows
        self.broken += len(violations.broken)
        if not violations.is_clean:
            self.failures.append(f"{how}: {violations}")


@dataclass(frozen=True)
class _SweepTask:
    scenario: ProofScenario
    backend: Backend
    injections: tuple[Injection, ...]
    baseline: Baseline

    def __call__(self) -> SweepOutcome:
        return run_scenario(self.scenario, self.backend, self.injections, self.baseline)


@dataclass(frozen=True)
class _StormTask:
    seed: int
    backend: Backend
    has_deadline: bool = False

    def __call__(self) -> StormOutcome:
        return run_storm(self.seed, self.backend, has_deadline=self.has_deadline)


@dataclass(frozen=True)
class _SplitTask:
    scenario: ProofScenario
    backend: Backend
    point: FaultPoint

    def __call__(self) -> InterferenceOutcome:
        return interfere_with_split(self.scenario, self.backend, self.point)


@dataclass(frozen=True)
class _RefusalTask:
    case: RefusalCase
    backend: Backend

    def __call__(self) -> RefusalOutcome:
        return run_refusal_case(self.case, self.backend)


@dataclass(frozen=True)
class _StoppedPeerTask:
    backend: Backend
    point: FaultPoint
    is_ended: bool

    def __call__(self) -> StoppedPeerOutcome:
        return stop_peer(scenarios.RUN, self.backend, self.point, is_ended=self.is_ended)


_Task = _SweepTask | _StormTask | _SplitTask | _RefusalTask | _StoppedPeerTask
_TaskResult = SweepOutcome | StormOutcome | InterferenceOutcome | RefusalOutcome | StoppedPeerOutcome


@dataclass(frozen=True)
class _RowPlan:
    work: Sequence[_Task]
    points: int


def prove(
    backends: Sequence[Backend],
    sizes: SampleSizes,
    *,
    only: str = "",
    jobs: int,
    show: Callable[[ProofRow, int, int], None],
) -> Iterator[ProofRow]:
    """Run rows and yield them as they finish; calls ``show`` with the row, and the runs done and planned.

    Only rows whose name contains ``only`` run, or with ``=NAME`` the row of that name.
    """
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for name, plan_of in _planned_rows(backends, sizes):
            if not _is_wanted(name, only):
                continue
            began = time.monotonic()
            plan = plan_of()
            row = ProofRow(name, plan.points)
            for future in as_completed([pool.submit(_do, item) for item in plan.work]):
                _count(row, future.result())
                show(row, row.runs, len(plan.work))
            row.seconds = time.monotonic() - began
            yield row


def _is_wanted(name: str, only: str) -> bool:
    return name == only[1:] if only.startswith("=") else only in name


def _do(work: _Task) -> _TaskResult:
    return work()


def _count(row: ProofRow, done: _TaskResult) -> None:
    if isinstance(done, SweepOutcome):
        injections = ", then ".join(
            f"command {injection.command + 1}, {injection.kind} at {injection.at}" for injection in done.injections
        )
        row.add(f"{done.scenario}: {injections}", done.met, done.violations)
    elif isinstance(done, InterferenceOutcome):
        row.add(f"{done.scenario}, other commands at {done.point}", 0, done.violations)
    elif isinstance(done, RefusalOutcome):
        row.add(str(done.case), 0, done.violations)
    elif isinstance(done, StoppedPeerOutcome):
        ended = "its session ended" if done.is_ended else "its session kept"
        row.add(f"{done.scenario}, a peer stopped at {done.point}, {ended}", done.was_stopped, done.violations)
    else:
        row.add(str(done.plan), done.killed, done.violations)


def _planned_rows(backends: Sequence[Backend], sizes: SampleSizes) -> Iterator[tuple[str, Callable[[], _RowPlan]]]:
    """Yield each row's name, and the function that plans its runs."""
    for backend in backends:
        for scenario in (
            scenarios.RUN,
            scenarios.SYNC,
            scenarios.DEADLINE,
            scenarios.ON_OPENAI,
            scenarios.VERBS,
            scenarios.ANNOTATE,
        ):
            yield f"{backend.name}: {scenario.name}", partial(_each_point, scenario, backend, sizes)
            if scenario is not scenarios.ANNOTATE:
                errors = f"{backend.name}: {scenario.name}, an unexpected error"
                yield errors, partial(_each_error, scenario, backend, sizes)
            if scenario is scenarios.RUN:
                yield f"{backend.name}: {scenario.name}, two deaths", partial(_pairs, scenario, backend, sizes)
                beside = f"{backend.name}: {scenario.name}, drives beside the split"
                yield beside, partial(_drives_beside, scenario, backend, sizes)
        for scenario in scenarios.BUDGETS:
            yield f"{backend.name}: {scenario.name}", partial(_each_point, scenario, backend, sizes)
        yield f"{backend.name}: {scenarios.REUSE.name}", partial(_each_later_point, scenarios.REUSE, backend, sizes)
        adoption, *elsewhere = scenarios.ADOPTIONS
        yield f"{backend.name}: {adoption.name}", partial(_each_point, adoption, backend, sizes)
        for scenario in elsewhere:
            yield f"{backend.name}: {scenario.name}", partial(_points_of_adoption, scenario, backend, sizes)
        yield f"{backend.name}: {scenarios.PREFECT.name}", partial(_through_prefect, backend, sizes)
        troubles = f"{backend.name}: run, {len(scenarios.TROUBLES)} kinds of trouble"
        yield troubles, partial(_under_trouble, backend, sizes)
        yield f"{backend.name}: {scenarios.ABSENT.name}", partial(_while_absent, backend, sizes)
        yield f"{backend.name}: run, lost inputs", partial(_lost_inputs, backend, sizes)
        yield f"{backend.name}: account refusals", partial(_refusals, backend, sizes)
        if backend.server_url is not None:
            yield f"{backend.name}: run, a peer stopped", partial(_peers, backend, sizes)
        yield f"{backend.name}: storms, two runners", partial(_storms, backend, sizes, 0)
        yield f"{backend.name}: storms on the other providers, two runners", partial(_storms, backend, sizes, 1)
        with_deadline = f"{backend.name}: storms in both lanes with a deadline, two runners"
        yield with_deadline, partial(_storms_with_deadline, backend, sizes)


def _each_point(scenario: ProofScenario, backend: Backend, sizes: SampleSizes) -> _RowPlan:
    baseline = measure(scenario, backend)
    chosen = each_once(baseline) if sizes.points is None else sampled(baseline, sizes.points, sizes.seed)
    return _RowPlan(_sweep_tasks(scenario, backend, chosen, baseline), len(baseline.points))


def _each_later_point(scenario: ProofScenario, backend: Backend, sizes: SampleSizes) -> _RowPlan:
    """Inject kills at the points of all commands but the first, which prepares."""
    baseline = measure(scenario, backend)
    later = replace(baseline, points=_after_the_first(baseline))
    chosen = each_once(later) if sizes.points is None else sampled(later, sizes.points, sizes.seed)
    return _RowPlan(_sweep_tasks(scenario, backend, chosen, baseline), len(later.points))


def _each_error(scenario: ProofScenario, backend: Backend, sizes: SampleSizes) -> _RowPlan:
    """Inject an error at each point of the steps; the first of several commands is left out, because it submits as ``run`` does."""
    baseline = measure(scenario, backend)
    points = replace(baseline, points=_after_the_first(baseline) if len(scenario.commands) > 1 else baseline.points)
    count = len(points.points) if sizes.points is None else sizes.points
    return _RowPlan(
        _sweep_tasks(scenario, backend, sampled(points, count, sizes.seed, InjectionKind.ERROR), baseline),
        len(points.points),
    )


def _after_the_first(baseline: Baseline) -> tuple[tuple[int, FaultPoint], ...]:
    return tuple((index, point) for index, point in baseline.points if index)


def _while_absent(backend: Backend, sizes: SampleSizes) -> _RowPlan:
    """Inject kills at points between the first and the last probe that does not find a batch, and run once without a kill."""
    baseline = measure(scenarios.ABSENT, backend)
    between = between_absences(baseline)
    chosen = sampled(between, sizes.points_between_absences, sizes.seed)
    return _RowPlan(_sweep_tasks(scenarios.ABSENT, backend, [(), *chosen], baseline), len(between.points))


def _lost_inputs(backend: Backend, sizes: SampleSizes) -> _RowPlan:
    tasks: list[_SweepTask] = []
    points = 0
    for number, scenario in enumerate(scenarios.LOST_INPUTS):
        baseline = measure(scenario, backend)
        points += len(baseline.points)
        chosen = sampled(baseline, sizes.points_per_lost_input, sizes.seed + number)
        tasks += _sweep_tasks(scenario, backend, [(), *chosen], baseline)
    return _RowPlan(tasks, points)


def _refusals(backend: Backend, sizes: SampleSizes) -> _RowPlan:
    every = all_refusal_cases()
    chosen = _spread(every, sizes.refusals, sizes.seed)
    return _RowPlan([_RefusalTask(case, backend) for case in chosen], len(every))


def _peers(backend: Backend, sizes: SampleSizes) -> _RowPlan:
    points = commit_points(measure(scenarios.RUN, backend))
    chosen = _spread(points, sizes.commit_points, sizes.seed)
    return _RowPlan(
        [_StoppedPeerTask(backend, point, is_ended) for point in chosen for is_ended in (True, False)], len(points)
    )


def _spread(every: Sequence[T], count: int | None, seed: int) -> Sequence[T]:
    step = 1 if count is None else max(len(every) // count, 1)
    return every[seed % step :: step]


def _pairs(scenario: ProofScenario, backend: Backend, sizes: SampleSizes) -> _RowPlan:
    baseline = measure(scenario, backend)
    return _RowPlan(
        _sweep_tasks(scenario, backend, pairs(baseline, sizes.pairs, sizes.seed), baseline), len(baseline.points)
    )


def _drives_beside(scenario: ProofScenario, backend: Backend, sizes: SampleSizes) -> _RowPlan:
    points = points_during_split(measure(scenario, backend))
    chosen = _spread(points, sizes.drives_beside, sizes.seed)
    return _RowPlan([_SplitTask(scenario, backend, point) for point in chosen], len(points))


def _points_of_adoption(scenario: ProofScenario, backend: Backend, sizes: SampleSizes) -> _RowPlan:
    """Inject kills at some points: the adoption is that of the default provider, whose points are all played."""
    baseline = measure(scenario, backend)
    chosen = sampled(baseline, sizes.points_of_adoption_elsewhere, sizes.seed)
    return _RowPlan(_sweep_tasks(scenario, backend, chosen, baseline), len(baseline.points))


def _through_prefect(backend: Backend, sizes: SampleSizes) -> _RowPlan:
    baseline = measure(scenarios.PREFECT, backend)
    chosen = sampled(baseline, sizes.points_through_prefect, sizes.seed)
    return _RowPlan(_sweep_tasks(scenarios.PREFECT, backend, chosen, baseline), len(baseline.points))


def _under_trouble(backend: Backend, sizes: SampleSizes) -> _RowPlan:
    tasks: list[_SweepTask] = []
    points = 0
    for number, trouble in enumerate(scenarios.TROUBLES):
        scenario = scenarios.under(trouble)
        baseline = measure(scenario, backend)
        points += len(baseline.points)
        chosen = sampled(baseline, sizes.points_per_trouble, sizes.seed + number)
        tasks += _sweep_tasks(scenario, backend, chosen, baseline)
    return _RowPlan(tasks, points)


def _storms(backend: Backend, sizes: SampleSizes, parity: int) -> _RowPlan:
    """Storms of even seeds are on the default provider, those of odd ones on the others in turn."""
    seeds = (2 * (sizes.seed + number) + parity for number in range(sizes.storms))
    return _RowPlan([_StormTask(seed, backend) for seed in seeds], 0)


def _storms_with_deadline(backend: Backend, sizes: SampleSizes) -> _RowPlan:
    """Storms on the default provider in both lanes."""
    seeds = (2 * (sizes.seed + number) for number in range(sizes.storms))
    return _RowPlan([_StormTask(seed, backend, has_deadline=True) for seed in seeds], 0)


def _sweep_tasks(
    scenario: ProofScenario, backend: Backend, chosen: Sequence[tuple[Injection, ...]], baseline: Baseline
) -> list[_SweepTask]:
    return [_SweepTask(scenario, backend, injections, baseline) for injections in chosen]


def as_table(rows: Sequence[ProofRow]) -> Table:
    """Return the matrix as a table."""
    table = Table(title="Died at every point, started again, judged by the ledger")
    table.add_column("what")
    for name in ("points", "runs", "deaths", "lost", "bought twice", "wrong rows", "promises broken", "seconds"):
        table.add_column(name, justify="right")
    for row in rows:
        numbers = (row.points, row.runs, row.met, row.lost, row.bought_twice, row.wrong_rows, row.broken, row.seconds)
        table.add_row(row.name, *(f"{number:,.0f}" for number in numbers))
    return table
