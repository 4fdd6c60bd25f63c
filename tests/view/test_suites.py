"""The nights of a suite: the trend, a run with what fell, two runs compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from batchkit.emulator import Emulator, Scenario
from batchkit.engine.runtime import Runner
from batchkit.reports.writing import report_page
from batchkit.settings import load_settings
from batchkit.store import evaluations
from tests.evaluation.support import REVIEWS, night, reviews_suite, write_suite, wrong
from tests.steps.conftest import QUICK, SPEED
from tests.view.conftest import serving

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def nights(tmp_path_factory, sqlite_template):
    """Play three nights, of which the last one is bad, and serve them."""
    import shutil  # noqa: PLC0415 - here alone

    folder: Path = tmp_path_factory.mktemp("nights")
    shutil.copy(sqlite_template, folder / "batchkit.db")
    url = f"sqlite:///{folder / 'batchkit.db'}"
    suite = reviews_suite(folder)
    for seed, faults in enumerate(((), (), (wrong(0.6),)), 1):
        with Emulator(folder / f"emulator-{seed}", Scenario(seed=seed, faults=faults), speed=SPEED) as emulator:
            server = {"api_key": emulator.api_key, "base_url": emulator.base_url}
            with Runner(load_settings(home=folder / "home", database_url=url, **{**QUICK, **server})) as runner:
                night(runner, suite)
    with serving(folder / "home", url) as view:
        yield view, folder, url


def test_a_suite_shows_its_nights(nights):
    """The first page and the suite's have each run with its verdict; the suite has the trend of each metric."""
    view, _, _ = nights
    home = view.get("/")
    assert "Suites" in home.words
    assert "reviews-3: regressed" in home.words
    suite = view.get("/suite", name="reviews")
    assert suite.text.count('<svg class="trend"') == 2
    assert suite.words.index("reviews-3 20") < suite.words.index("reviews-1 20")
    assert "Scores, and their change" in suite.words
    assert view.get("/suite", name="other").status == 404


def test_a_run_shows_what_fell(nights):
    """The alarm, the rows that fell with both answers, models side by side; the saved file is the report."""
    view, folder, url = nights
    run = view.get("/run", name="reviews-3")
    assert "accuracy fell" in run.words
    assert "fell since the run before" in run.words
    assert "before, in reviews-2" in run.words
    assert "/run?name=reviews-2" in run.text
    assert view.get("/run", name="reviews-9").status == 404
    with Runner(load_settings(home=folder / "home", database_url=url), clock=lambda: 1.8e9) as runner:
        expected = report_page(runner, "reviews-3")
    view.server._view.reader.clock = lambda: 1.8e9
    assert view.get("/report", name="reviews-3").text == expected


def test_two_runs_are_compared(nights):
    """Row by row, with intervals, in either direction; nothing is written."""
    view, _, _ = nights
    words = view.get("/compare", a="reviews-1", b="reviews-3").words
    assert "Before: reviews-1 . Now: reviews-3" in words
    assert "Metrics over all rows" in words
    assert "fell" in words
    for a, b in (("reviews-1", "reviews-1"), ("", "reviews-1"), ("reviews-1", "reviews-9")):
        assert view.get("/compare", a=a, b=b).status in {400, 404}


@pytest.mark.slow
def test_runs_with_other_scorers_name_the_command(nights):
    """Their answers would be scored again, which writes: the page says which command does it."""
    view, folder, url = nights
    suite = write_suite(
        folder, REVIEWS.replace("kind: choice, name: accuracy", "kind: exact, name: accuracy"), "other.yaml"
    )
    from batchkit.evaluation.suite_file import load_suite  # noqa: PLC0415 - beside its one use

    with Emulator(folder / "emulator-4", Scenario(seed=4), speed=SPEED) as emulator:
        server = {"api_key": emulator.api_key, "base_url": emulator.base_url}
        with Runner(load_settings(home=folder / "home", database_url=url, **{**QUICK, **server})) as runner:
            last = night(runner, load_suite(suite)).run
            with runner.store.read() as connection:
                before = len(evaluations.newest(connection, limit=50))
            reply = view.get("/compare", a="reviews-1", b=last)
            assert (reply.status, f"batchkit compare reviews-1 {last}" in reply.words) == (400, True)
            with runner.store.read() as connection:
                assert len(evaluations.newest(connection, limit=50)) == before
