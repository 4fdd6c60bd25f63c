"""The fault sweep: an undisturbed run lists the fault points; then the scenario runs once for each point with a fault injected there."""

from __future__ import annotations

import random
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url

from tests.postgres import PostgresServer
from tests.proof.fault_points import InjectionKind
from tests.proof.harness import KILLED, ProofHarness, take_snapshot
from tests.proof.promises import ExpectedOutcome, Violations, check_budget, check_memory, check_promises

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from batchkit.store.engine import TransactionLimits
    from tests.proof.fault_points import FaultPoint
    from tests.proof.harness import DatabaseSnapshot
    from tests.proof.scenarios import ProofScenario

#: How often a killed command is repeated; a command that needs more has a bug.
_MOST_TRIES = 10
#: The call that reads a single batch, made when the list does not contain it.
_READ_ALONE = "call GET /batches/*, before"
#: The exit codes of a command that could not recover from an unexpected error; it is repeated.
_AFTER_AN_ERROR = {1, 4}


@dataclass(frozen=True)
class Backend:
    """The database of a run: a new SQLite file, or a new database on a Postgres server."""

    name: str
    server_url: str | None = None

    @contextmanager
    def database(self) -> Iterator[str | None]:
        """Create an empty database and yield its URL; None means the default SQLite file."""
        if self.server_url is None:
            yield None
            return
        server = PostgresServer(make_url(self.server_url))
        name = server.create()
        try:
            yield server.url_of(name)
        finally:
            server.drop(name)
            server.close()


@dataclass(frozen=True)
class Injection:
    """A fault during the command with this index (from 0): at a point, or at the n-th point of any kind."""

    command: int
    at: FaultPoint | int
    kind: InjectionKind = InjectionKind.DEATH


@dataclass(frozen=True)
class Baseline:
    """An undisturbed run: its points, each with the index of its command, and the commands' peak memory in bytes."""

    points: tuple[tuple[int, FaultPoint], ...]
    peaks: tuple[int, ...]


@dataclass(frozen=True)
class SweepOutcome:
    """The result of one run: the planned faults, how many of them were injected, and the violations found."""

    scenario: str
    injections: tuple[Injection, ...]
    met: int
    violations: Violations


def measure(scenario: ProofScenario, backend: Backend, *, planted_bug: str | None = None) -> Baseline:
    """Run a scenario undisturbed. Raises ``AssertionError`` if that violates a promise."""
    points: list[tuple[int, FaultPoint]] = []
    peaks: list[int] = []
    with backend.database() as url, harness_for(scenario, url, planted_bug=planted_bug) as harness:
        for index, command in enumerate(scenario.prepare(harness)):
            code = harness.run(command.arguments)
            assert code in command.codes, f"{' '.join(command.arguments)} ended with {code}: {harness.output()}"
            trace = harness.trace()
            points += [(index, point) for point in trace.points]
            peaks.append(trace.peak_bytes)
        violations = check_promises(harness, expected_outcome_of(scenario), [])
        assert violations.is_clean, f"undisturbed: {violations}"
    return Baseline(tuple(points), tuple(peaks))


def run_scenario(
    scenario: ProofScenario,
    backend: Backend,
    injections: Sequence[Injection],
    baseline: Baseline,
    *,
    planted_bug: str | None = None,
) -> SweepOutcome:
    """Run a scenario with the given faults in order, repeat each command that was killed, and check the promises."""
    left = list(injections)
    met = 0
    before: list[DatabaseSnapshot] = []
    unfinished = Violations()
    with backend.database() as url, harness_for(scenario, url, planted_bug=planted_bug) as harness:
        for index, command in enumerate(scenario.prepare(harness)):
            code: int | None = KILLED
            made = len(harness.ledger().batches)
            for _ in range(_MOST_TRIES):
                injection = left.pop(0) if left and left[0].command == index else None
                kind = InjectionKind.DEATH if injection is None else injection.kind
                code = harness.run(command.arguments, at=None if injection is None else injection.at, kind=kind)
                if injection is not None:
                    met += code == KILLED or (code is not None and injection.at in harness.trace().points)
                if code != KILLED and not (kind is InjectionKind.ERROR and code in _AFTER_AN_ERROR):
                    break
                before.append(take_snapshot(harness))
            if not command.buys and len(harness.ledger().batches) > made:
                unfinished.add(4, f"{command.arguments[0]} created a batch")
            if command.max_tokens is not None:
                check_budget(unfinished, harness, command.max_tokens)
            if code not in command.codes:
                unfinished.add(5, f"{' '.join(command.arguments)} ended with {code}: {harness.output()[-3000:]}")
            elif met:
                check_memory(unfinished, harness.trace().peak_bytes, baseline.peaks[index])
        with_errors = any(injection.kind is InjectionKind.ERROR for injection in injections)
        violations = check_promises(harness, expected_outcome_of(scenario), before, with_errors=with_errors)
    violations.broken += unfinished.broken
    return SweepOutcome(scenario.name, tuple(injections), met, violations)


def harness_for(
    scenario: ProofScenario,
    url: str | None,
    *,
    planted_bug: str | None = None,
    limits: TransactionLimits | None = None,
    waits: Mapping[str, str] | None = None,
) -> ProofHarness:
    """Return the harness of a scenario; ``waits`` are added to the scenario's own settings."""
    waits = {**scenario.waits, **(waits or {})}
    return ProofHarness(
        url,
        scenario.provider_scenario(),
        provider=scenario.provider,
        planted_bug=planted_bug,
        speed=scenario.speed,
        waits=waits,
        limits=limits,
    )


def expected_outcome_of(scenario: ProofScenario) -> ExpectedOutcome:
    """Return the expected outcome of a scenario."""
    return ExpectedOutcome(
        scenario.requests, scenario.failing, scenario.executions, scenario.successes, scenario.rows, scenario.is_sync
    )


def each_once(measured: Baseline, kind: InjectionKind = InjectionKind.DEATH) -> list[tuple[Injection, ...]]:
    """Return one fault for each point."""
    return [(Injection(index, point, kind),) for index, point in measured.points]


def between_absences(measured: Baseline) -> Baseline:
    """Return the baseline with only the points from the first to the last single read of a batch."""
    places = [place for place, (_, point) in enumerate(measured.points) if point.label == _READ_ALONE]
    return replace(measured, points=measured.points[places[0] : places[-1] + 1])


def sampled(
    measured: Baseline, count: int, seed: int, kind: InjectionKind = InjectionKind.DEATH
) -> list[tuple[Injection, ...]]:
    """Return one fault for each of ``count`` points, spread evenly over the run from a seeded start."""
    every = each_once(measured, kind)
    step = max(len(every) / count, 1.0)
    start = random.Random(seed).random() * step  # noqa: S311 - a sample, not a secret
    return [every[int(start + number * step)] for number in range(min(count, len(every)))]


def pairs(measured: Baseline, count: int, seed: int) -> list[tuple[Injection, ...]]:
    """Return pairs of kills: one at any point, and one after a number of further points of the repeated command."""
    rng = random.Random(seed)  # noqa: S311 - a sample, not a secret
    chosen: list[tuple[Injection, ...]] = []
    for _ in range(count):
        index, point = rng.choice(measured.points)
        rest = sum(1 for other, _ in measured.points if other == index)
        chosen.append((Injection(index, point), Injection(index, rng.randint(1, max(rest // 2, 1)))))
    return chosen
