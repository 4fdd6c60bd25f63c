"""The page of three nights over real rows, two models and seven languages: in a browser, wide, as narrow as a phone, and dark."""

from __future__ import annotations

import pytest

from batchkit.emulator import Emulator, Scenario
from batchkit.emulator.faults.answers import CutAnswers, WrongAnswers
from batchkit.engine.runtime import Runner
from batchkit.reports.writing import write_report
from batchkit.settings import load_settings
from tests.evaluation.real_topics import TOPICS, replies, rows, write_suite
from tests.evaluation.support import LARGE, SMALL, night
from tests.reports.browsers import open_browser
from tests.steps.conftest import QUICK, SPEED


def mistakes(model, share, **more):
    """Make a model wrong about a share of the rows."""
    return WrongAnswers(contents=TOPICS, fraction=share, models=frozenset({model}), **more)


def italian():
    """Return the requests of the small model about Italian rows."""
    return frozenset(f"{row['id']}:gpt-oss-20b:1" for row in rows() if row["language"] == "italian")


def faults_by_night():
    """Return the faults of each night: on the third the small model is worse in Italian, and some of its answers are cut."""
    ordinary = (mistakes(SMALL, 0.1), mistakes(LARGE, 0.06))
    cut = CutAnswers(fraction=0.03, models=frozenset({SMALL}))
    return ordinary, ordinary, (*ordinary, mistakes(SMALL, 0.4, custom_ids=italian()), cut)


def write_pages(folder):
    """Play three nights; return their summaries and the page of each."""
    suite, found = write_suite(folder), []
    for seed, faults in enumerate(faults_by_night(), 1):
        scenario = Scenario(seed=seed, faults=faults, replies=replies())
        with Emulator(folder / f"emulator-{seed}", scenario, speed=SPEED) as emulator:
            settings = load_settings(
                home=folder / "home",
                database_url=f"sqlite:///{folder / 'batchkit.db'}",
                **{**QUICK, "api_key": emulator.api_key, "base_url": emulator.base_url},
            )
            with Runner(settings) as runner:
                summary = night(runner, suite)
                found.append((summary, write_report(runner, summary.run, folder / f"{summary.run}.html")))
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_page_of_real_rows_says_what_fell_where_and_how(tmp_path):
    """The metric, before and now, for which model; what else changed; which slice; the kinds of flips with counts; below 2 MB."""
    (first, _), (second, _), (third, page) = write_pages(tmp_path)
    assert [found.verdict for found in (first, second, third)] == ["first", "passed", "regressed"]
    assert {alarm.model for alarm in third.alarms} == {SMALL}
    assert third.alarms[0].slice == "language=italian"
    assert page.stat().st_size < 2_000_000
    with open_browser() as browser:
        for width, dark in ((1_300, False), (360, False), (1_300, True)):
            context = browser.new_context(
                viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
            )
            opened = context.new_page()
            opened.goto(page.as_uri())
            top = opened.locator("header").first.inner_text()
            assert "accuracy fell in language=italian" in top
            assert f"{SMALL}, compared with topics-2" in top
            assert "finish_reason length" in top
            assert opened.evaluate("document.documentElement.scrollWidth") <= width
            fell = opened.locator("section", has_text="what fell rows were answered").first.inner_text()
            assert "→" in fell
            assert opened.locator("#kind").input_value() == "down"
            context.close()
