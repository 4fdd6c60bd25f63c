"""A sample of the proof, so that a change that breaks a promise is seen at once; the whole of it is `python -m tests.proof`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from tests.proof import stories
from tests.proof.beside import drive_beside, points_of_the_split
from tests.proof.matrix import FULL, as_table, prove
from tests.proof.peer import commits, stop_peer
from tests.proof.plants import PLANTS
from tests.proof.points import Harm
from tests.proof.refused import every_refusal, play_refused
from tests.proof.storm import weather_storm
from tests.proof.sweep import Backend, Death, between_absences, measure, pairs, play, sampled

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.proof.stories import Story
    from tests.proof.sweep import Measured


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request) -> Backend:
    """Give a place for databases; the test runs once on each kind."""
    if request.param == "sqlite":
        return Backend("SQLite")
    return Backend("Postgres", request.getfixturevalue("postgres_server").server_url)


@pytest.fixture(scope="session")
def measured() -> Callable[[Story, Backend], Measured]:
    """Give ``measure`` with a memory: one undisturbed play of a story on a place serves all tests that die in it."""
    known: dict[tuple[str, Backend], Measured] = {}

    def measured(story: Story, backend: Backend) -> Measured:
        key = (story.name, backend)
        if key not in known:
            known[key] = measure(story, backend)
        return known[key]

    return measured


@pytest.mark.parametrize(
    ("story", "count"), [(stories.RUN, 2), (stories.VERBS, 1), (stories.ANNOTATE, 1)], ids=lambda value: str(value)[:8]
)
def test_death_at_points_spread_over_a_life(backend, measured, story, count):
    """Wherever a command dies, the same command again ends as if it had not: nothing lost, bought twice or misplaced."""
    usual = measured(story, backend)

    for deaths in sampled(usual, count, seed=1):
        outcome = play(story, backend, deaths, usual)
        assert outcome.verdict.is_clean, f"{deaths}: {outcome.verdict}"


def test_a_file_is_on_the_disk_before_it_gets_its_name(measured):
    """What a power cut leaves is whole: bytes are synced before the rename, and the folder after it."""
    labels = [point.label for _, point in measured(stories.RUN, Backend("SQLite")).points]
    renames = [number for number, label in enumerate(labels) if label.startswith("file replace ") and "before" in label]

    for number in renames:
        part = labels[number].removeprefix("file replace ").removesuffix(", before")
        assert f"file fsync {part}, after" in labels[:number], part
        assert f"file fsync {Path(part).parent!s}, before" in labels[number:], part
    assert {Path(labels[number]).suffixes[-1] for number in renames} == {".part, before"}
    assert len(renames) >= 3


def test_two_deaths_in_a_row(backend, measured):
    """A command that dies, and dies again when it is repeated, still ends as if nothing had happened."""
    usual = measured(stories.RUN, backend)

    for deaths in pairs(usual, 1, seed=2):
        outcome = play(stories.RUN, backend, deaths, usual)
        assert outcome.verdict.is_clean, f"{deaths}: {outcome.verdict}"


def test_a_drive_beside_a_split(backend, measured):
    """While the input is being split nobody else's drive sends anything, wherever the splitter stands."""
    points = points_of_the_split(measured(stories.RUN, backend))

    # In the middle of the files, and with all shards committed: from there a drive once bought what was then found wrong.
    for point in (points[len(points) // 2], points[-2]):
        found = drive_beside(stories.RUN, backend, point)
        assert found.verdict.is_clean, f"{point}: {found.verdict}"


@pytest.mark.parametrize(
    "trouble", ["replies lost, and the list lags", "downloads cut, ending cleanly", "a full queue"]
)
def test_death_while_the_provider_misbehaves(backend, measured, trouble):
    """Trouble on both sides at once changes nothing in the outcome."""
    story = stories.under(trouble)
    usual = measured(story, backend)

    for deaths in sampled(usual, 1, seed=3):
        outcome = play(story, backend, deaths, usual)
        assert outcome.verdict.is_clean, f"{deaths}: {outcome.verdict}"


@pytest.mark.parametrize(("story", "count"), [(stories.RUN, 1), (stories.VERBS, 1)], ids=lambda value: str(value)[:8])
def test_an_unexpected_error_at_points_spread_over_a_life(backend, measured, story, count):
    """Wherever an error is raised that no code expects, the command or its repetition ends as if nothing had happened."""
    usual = measured(story, backend)

    for errors in sampled(usual, count, 4, Harm.ERROR):
        outcome = play(story, backend, errors, usual)
        assert outcome.verdict.is_clean, f"{errors}: {outcome.verdict}"


def test_batches_that_are_unknown_for_moments(measured):
    """Batches that the provider does not know at single probes are not given up, also with a death between two of them."""
    sqlite = Backend("SQLite")
    usual = measured(stories.ABSENT, sqlite)

    for deaths in sampled(between_absences(usual), 1, seed=5):
        outcome = play(stories.ABSENT, sqlite, deaths, usual)
        assert outcome.verdict.is_clean, f"{deaths}: {outcome.verdict}"


@pytest.mark.parametrize("story", stories.LOST_INPUTS, ids=lambda story: story.name)
def test_input_files_that_are_lost(measured, story):
    """Batches that do not find their input files fail no request, however few lines they have; also with a death."""
    sqlite = Backend("SQLite")
    usual = measured(story, sqlite)

    for deaths in sampled(usual, 1, seed=6):
        outcome = play(story, sqlite, deaths, usual)
        assert outcome.verdict.is_clean, f"{deaths}: {outcome.verdict}"


@pytest.mark.parametrize("number", [3, 34, 52, 75])
def test_refusals_of_the_account(number):
    """A command whose account is refused ends with 4; when that is mended the same command ends, with nothing failed or bought twice."""
    refused = every_refusal()[number]

    verdict = play_refused(refused, Backend("SQLite")).verdict

    assert verdict.is_clean, f"{refused}: {verdict}"


def test_a_peer_that_is_stopped_at_a_commit(postgres_server, measured):
    """Beside a peer that is stopped in the middle of a merge's transaction another runner does the rest, and the peer changes nothing."""
    postgres = Backend("Postgres", postgres_server.server_url)
    points = [point for point in commits(measured(stories.RUN, postgres)) if "merge" in point.label]

    found = stop_peer(stories.RUN, postgres, points[0], is_ended=True)

    assert found.verdict.is_clean, f"{found.point}: {found.verdict}"


def test_a_storm(backend):
    """Two runners, killed at random instants under faults drawn by lot, end with one and the same result."""
    passage = weather_storm(4, backend)

    assert passage.verdict.is_clean, f"{passage.weather}: {passage.verdict}"


@pytest.mark.parametrize("plant", PLANTS)
def test_the_proof_finds_bugs(measured, plant):
    """Each bug that is planted on purpose is found: the proof can fail."""
    found = PLANTS[plant]
    story = stories.under(found.trouble) if found.trouble else stories.STORIES[found.story or stories.RUN.name]
    sqlite = Backend("SQLite")
    usual = measured(
        story if found.story else stories.RUN, sqlite
    )  # without the bug: it shows where to die, and how much memory is usual
    harm = Harm.ERROR if found.meets_error else Harm.DEATH
    deaths = [Death(0, point, harm) for _, point in usual.points if point.label == found.dies_at][:1]

    outcome = play(story, sqlite, deaths, usual, plant=plant)

    assert getattr(outcome.verdict, found.shows_as) > 0, str(outcome.verdict)


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_the_whole_proof(postgres_server, capsys):
    """Every point on both databases, pairs, troubles and 200 storms each: all zeros."""
    backends = [Backend("SQLite"), Backend("Postgres", postgres_server.server_url)]

    rows = list(prove(backends, FULL, jobs=2, show=lambda *_: None))

    with capsys.disabled():
        Console(width=140).print(as_table(rows))
    assert all(row.is_clean for row in rows), [failure for row in rows for failure in row.failures]


def test_a_proof_of_nothing_is_no_proof():
    """Whoever names a line that there is not learns so, and does not read an empty table as good news."""
    command = [sys.executable, "-m", "tests.proof", "--only", "strom", "--database", "sqlite"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "no line's name holds 'strom'" in ended.stderr
