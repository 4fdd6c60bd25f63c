"""A sample of the proof, so that a change that breaks a promise fails a test; `python -m tests.proof` runs all of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from tests.proof import scenarios
from tests.proof.account_refusals import all_refusal_cases, run_refusal_case
from tests.proof.fault_points import InjectionKind
from tests.proof.matrix import FULL, as_table, prove
from tests.proof.planted_bugs import PLANTED_BUGS
from tests.proof.split_interference import interfere_with_split, points_during_split
from tests.proof.stopped_peer import commit_points, stop_peer
from tests.proof.storm import run_storm
from tests.proof.sweep import Backend, Injection, between_absences, measure, pairs, run_scenario, sampled

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.proof.scenarios import ProofScenario
    from tests.proof.sweep import Baseline


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request) -> Backend:
    """Return a place for databases; the test runs once on each kind."""
    if request.param == "sqlite":
        return Backend("SQLite")
    return Backend("Postgres", request.getfixturevalue("postgres_server").server_url)


@pytest.fixture(scope="session")
def measured() -> Callable[[ProofScenario, Backend], Baseline]:
    """Return ``measure`` with a cache: one undisturbed run of a scenario on a backend serves all tests that inject faults into it."""
    known: dict[tuple[str, Backend], Baseline] = {}

    def measured(scenario: ProofScenario, backend: Backend) -> Baseline:
        key = (scenario.name, backend)
        if key not in known:
            known[key] = measure(scenario, backend)
        return known[key]

    return measured


@pytest.mark.parametrize(
    ("scenario", "count"),
    [
        (scenarios.RUN, 2),
        (scenarios.SYNC, 1),
        (scenarios.DEADLINE, 1),
        (scenarios.VERBS, 1),
        (scenarios.ANNOTATE, 1),
        (scenarios.ADOPTIONS[0], 1),
        # A variant each of a scenario above.
        *(
            pytest.param(scenario, 1, marks=pytest.mark.slow)
            for scenario in (scenarios.ON_OPENAI, scenarios.REUSE, *scenarios.ADOPTIONS[1:])
        ),
    ],
    ids=lambda value: str(getattr(value, "name", value)),
)
def test_death_at_points_spread_over_a_run(backend, measured, scenario, count):
    """Wherever a command is killed, its repetition ends as if nothing had happened: nothing is lost, bought twice or misplaced."""
    baseline = measured(scenario, backend)

    for deaths in sampled(baseline, count, seed=1):
        outcome = run_scenario(scenario, backend, deaths, baseline)
        assert outcome.violations.is_clean, f"{deaths}: {outcome.violations}"


def test_a_file_is_on_the_disk_before_it_gets_its_name(measured):
    """A power cut leaves complete files: bytes are synced before the rename, and the folder after it."""
    labels = [point.label for _, point in measured(scenarios.RUN, Backend("SQLite")).points]
    renames = [number for number, label in enumerate(labels) if label.startswith("file replace ") and "before" in label]

    for number in renames:
        part = labels[number].removeprefix("file replace ").removesuffix(", before")
        assert f"file fsync {part}, after" in labels[:number], part
        assert f"file fsync {Path(part).parent!s}, before" in labels[number:], part
    assert {Path(labels[number]).suffixes[-1] for number in renames} == {".part, before"}
    assert len(renames) >= 3


def test_two_deaths_in_succession(backend, measured):
    """A command that is killed, and killed again when it is repeated, still ends as if nothing had happened."""
    baseline = measured(scenarios.RUN, backend)

    for deaths in pairs(baseline, 1, seed=2):
        outcome = run_scenario(scenarios.RUN, backend, deaths, baseline)
        assert outcome.violations.is_clean, f"{deaths}: {outcome.violations}"


def test_commands_beside_a_split(backend, measured):
    """While the input is being split no other command sends anything, wherever the splitter is stopped."""
    points = points_during_split(measured(scenarios.RUN, backend))

    # In the middle of the files, and after the last shard's commit, where another command once sent shards that were later refused.
    committed = [point for point in points if "commit" in point.label]
    for point in (points[len(points) // 2], committed[-1]):
        found = interfere_with_split(scenarios.RUN, backend, point)
        assert found.violations.is_clean, f"{point}: {found.violations}"


@pytest.mark.parametrize("trouble", ["replies lost, and the list lags", "downloads cut, ending cleanly"])
def test_death_while_the_provider_misbehaves(backend, measured, trouble):
    """A kill while the provider misbehaves does not change the outcome."""
    scenario = scenarios.under(trouble)
    baseline = measured(scenario, backend)

    for deaths in sampled(baseline, 1, seed=3):
        outcome = run_scenario(scenario, backend, deaths, baseline)
        assert outcome.violations.is_clean, f"{deaths}: {outcome.violations}"


@pytest.mark.parametrize(
    ("scenario", "count"),
    [
        (scenarios.RUN, 1),
        *(pytest.param(scenario, 1, marks=pytest.mark.slow) for scenario in (scenarios.ON_OPENAI, scenarios.VERBS)),
    ],
    ids=lambda value: str(getattr(value, "name", value)),
)
def test_an_unexpected_error_at_points_spread_over_a_run(backend, measured, scenario, count):
    """Wherever an unexpected error is raised, the command or its repetition ends as if nothing had happened."""
    baseline = measured(scenario, backend)

    for errors in sampled(baseline, count, 4, InjectionKind.ERROR):
        outcome = run_scenario(scenario, backend, errors, baseline)
        assert outcome.violations.is_clean, f"{errors}: {outcome.violations}"


def test_batches_that_are_unknown_for_moments(measured):
    """Batches that the provider does not know at some probes are kept, even with a kill between two of them."""
    sqlite = Backend("SQLite")
    baseline = measured(scenarios.ABSENT, sqlite)

    for deaths in sampled(between_absences(baseline), 1, seed=5):
        outcome = run_scenario(scenarios.ABSENT, sqlite, deaths, baseline)
        assert outcome.violations.is_clean, f"{deaths}: {outcome.violations}"


@pytest.mark.parametrize("scenario", scenarios.LOST_INPUTS[::2], ids=lambda scenario: scenario.name)
def test_input_files_that_are_lost(measured, scenario):
    """Batches that do not find their input files fail no request, however few lines they have, even with a kill."""
    sqlite = Backend("SQLite")
    baseline = measured(scenario, sqlite)

    for deaths in sampled(baseline, 1, seed=6):
        outcome = run_scenario(scenario, sqlite, deaths, baseline)
        assert outcome.violations.is_clean, f"{deaths}: {outcome.violations}"


@pytest.mark.parametrize("number", [3, 52])
def test_refusals_of_the_account(number):
    """A command whose account is refused ends with 4; after the refusal it finishes with nothing failed or bought twice."""
    case = all_refusal_cases()[number]

    violations = run_refusal_case(case, Backend("SQLite")).violations

    assert violations.is_clean, f"{case}: {violations}"


def test_a_peer_that_is_stopped_at_a_commit(postgres_server, measured):
    """Beside a peer stopped within a merge's transaction, another runner does the rest, and the peer changes nothing."""
    postgres = Backend("Postgres", postgres_server.server_url)
    points = [point for point in commit_points(measured(scenarios.RUN, postgres)) if "merge" in point.label]

    found = stop_peer(scenarios.RUN, postgres, points[0], is_ended=True)

    assert found.violations.is_clean, f"{found.point}: {found.violations}"


@pytest.mark.parametrize("seed", [4, 17])
def test_a_storm(backend, seed):
    """Two runners, killed at random instants under randomly drawn faults, end with the same result, on whichever provider."""
    outcome = run_storm(seed, backend)

    assert outcome.violations.is_clean, f"{outcome.plan}: {outcome.violations}"


@pytest.mark.slow
def test_a_storm_in_both_lanes_with_a_deadline(backend):
    """Two runners that are killed before, at and after the cutoff lose nothing, and buy twice at most what is told."""
    outcome = run_storm(4, backend, has_deadline=True)

    assert outcome.violations.is_clean, f"{outcome.plan}: {outcome.violations}"


@pytest.mark.parametrize("planted_bug", PLANTED_BUGS)
def test_the_proof_finds_bugs(measured, planted_bug):
    """The proof finds each planted bug: it can fail."""
    found = PLANTED_BUGS[planted_bug]
    scenario = (
        scenarios.under(found.trouble) if found.trouble else scenarios.SCENARIOS[found.scenario or scenarios.RUN.name]
    )
    sqlite = Backend("SQLite")
    baseline = measured(
        scenario if found.scenario else scenarios.RUN, sqlite
    )  # run without the bug: it shows where to kill, and the usual memory
    kind = InjectionKind.ERROR if found.meets_error else InjectionKind.DEATH
    deaths = [Injection(0, point, kind) for _, point in baseline.points if point.label == found.dies_at][:1]

    outcome = run_scenario(scenario, sqlite, deaths, baseline, planted_bug=planted_bug)

    assert getattr(outcome.violations, found.shows_as), str(outcome.violations)


@pytest.mark.slow
@pytest.mark.timeout(10_800)
def test_the_whole_proof(postgres_server, capsys):
    """Every point on both databases, pairs, troubles and 400 storms each: no promise is broken."""
    backends = [Backend("SQLite"), Backend("Postgres", postgres_server.server_url)]

    rows = list(prove(backends, FULL, jobs=2, show=lambda *_: None))

    with capsys.disabled():
        Console(width=140).print(as_table(rows))
    assert all(row.is_clean for row in rows), [failure for row in rows for failure in row.failures]


@pytest.mark.parametrize("name", ["strom", "=SQLite: storms"])
def test_a_row_name_that_does_not_exist_is_an_error(name):
    """A mistyped or incomplete row name ends with an error instead of an empty table."""
    command = [sys.executable, "-m", "tests.proof", "--only", name, "--database", "sqlite"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert f"no row's name contains '{name}'" in ended.stderr
