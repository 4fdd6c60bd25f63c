"""The page of an evaluation in a real browser: what opens, on a phone and in the dark."""

from __future__ import annotations

import pytest

from batchkit.emulator.faults.answers import CutAnswers
from batchkit.reports.writing import write_report
from tests.evaluation.support import LARGE, REVIEWS, SMALL, night, reviews_suite, wrong
from tests.reports.browsers import open_browser
from tests.reports.conftest import running


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Write the pages of a first run and of one that regressed, whose large model had some answers cut."""
    folder = tmp_path_factory.mktemp("pages")
    suite = reviews_suite(folder, 30, REVIEWS.replace("fall: 0.05", "fall: 0.05, level: 0.05"))
    cut = CutAnswers(fraction=0.2, models=frozenset({LARGE}))
    for faults in ((), (wrong(0.7), cut)):
        with running(folder, *faults) as runner:
            night(runner, suite)
    with running(folder) as runner:
        return {name: write_report(runner, name, folder / f"{name}.html") for name in ("reviews-1", "reviews-2")}


@pytest.fixture(scope="module")
def browser():
    """Start one browser for all tests."""
    with open_browser() as opened:
        yield opened


@pytest.fixture
def visit(browser):
    """Return a function that opens a page in a context with options."""
    contexts = []

    def open_page(path, **options):
        context = browser.new_context(viewport={"width": 1_300, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()


def test_a_regressed_run_opens_with_the_fall_and_the_rows_that_fell(reports, visit):
    """The first figure is the fall, what else changed stands above it, and only the fallen rows are listed until somebody asks."""
    page = visit(reports["reviews-2"])
    first, changed = page.locator(".figures > div").first, page.locator(".changed")
    visible = page.locator("#rows tbody tr:visible")

    assert first.locator("dt").inner_text() == "accuracy fell"
    assert "→" in first.locator(".value").inner_text()
    assert first.locator(".remark").inner_text() == f"{SMALL}, compared with reviews-1"
    assert "finish_reason length" in changed.inner_text()
    assert changed.bounding_box()["y"] < first.bounding_box()["y"]
    assert page.locator("#kind").input_value() == "down"
    assert 0 < visible.count() < 60
    assert visible.count() == page.locator('#rows tr[data-kinds~="down"]').count()
    assert "before, in reviews-1 · stop" in visible.first.inner_text()

    page.locator("#kind").select_option("")
    assert visible.count() == 60


def test_a_first_run_opens_with_all_rows(reports, visit):
    """Nothing fell: no filter is set, and the first figure is a metric."""
    page = visit(reports["reviews-1"])

    assert page.locator("#kind").input_value() == ""
    assert page.locator("#rows tbody tr:visible").count() == 60
    assert page.locator(".figures dt").first.inner_text() == "accuracy"
    assert page.locator(".changed").count() == 0


def test_without_scripts_all_rows_can_be_read(reports, visit):
    """The filter needs a script; without one there is no filter, and nothing is hidden."""
    page = visit(reports["reviews-2"], java_script_enabled=False)

    assert page.locator("#rows tbody tr:visible").count() == 60
    assert not page.locator(".tools").is_visible()
    assert page.locator("svg.trend").first.is_visible()


@pytest.mark.parametrize("name", ["reviews-1", "reviews-2"])
def test_a_phone_in_the_dark_needs_no_sideways_scrolling(reports, visit, name):
    """Nothing is wider than 390 pixels, and the ground is dark."""
    page = visit(reports[name], color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 800})
    outside = page.evaluate(
        """() => [...document.querySelectorAll('main *:not(svg *):not(.unseen):not(thead):not(thead *)')]
            .filter((one) => one.getBoundingClientRect().right > innerWidth + 0.5)
            .map((one) => one.outerHTML.slice(0, 80))"""
    )

    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert outside == []
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 19, 23)"
