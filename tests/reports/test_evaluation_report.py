"""The page of an evaluation run: verdict, metrics, changes, slices, and the rows that fell first."""

from __future__ import annotations

import re

import pytest

from batchkit.emulator.faults import answers
from batchkit.evaluation import runs
from batchkit.evaluation.judge_figures import JudgeAgreement
from batchkit.evaluation.results import (
    Change,
    EvaluationSummary,
    Metric,
    ScoredRow,
    scored_rows,
    summary,
)
from batchkit.reports.charts import round_domain
from batchkit.reports.evaluation_report import evaluation_view
from batchkit.reports.evaluation_rows import WorstRows
from batchkit.reports.writing import write_report
from tests.evaluation.support import REVIEWS, SMALL, reviews_suite
from tests.reports.conftest import running

_OPPOSITE = answers.WrongAnswers(
    contents=('{"label":"positive"}', '{"label":"negative"}'), models=frozenset({SMALL}), fraction=0.6
)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Return a runner with two runs of a suite; in the second, the small model gives the opposite of many answers."""
    folder = tmp_path_factory.mktemp("compared")
    suite = reviews_suite(folder, 40, REVIEWS.replace("fall: 0.05", "fall: 0.05, level: 0.05"))
    for faults in ((), (_OPPOSITE,)):
        with running(folder, *faults) as runner:
            evaluation = runs.begin(runner, suite)
            while (workload := runs.next_workload(runner, evaluation)) is not None:
                runner.process(workload.id)
            runs.conclude(runner, evaluation)
    with running(folder) as runner:
        yield runner


def test_a_regressed_run_shows_what_fell(compared, tmp_path, page_text):
    """Verdict, exit code, comparison, metrics and slices are on the page as in the summary."""
    found = summary(compared, "reviews-2")
    (alarm,) = [change for change in found.changes if change.is_alarm]
    text = page_text(write_report(compared, "reviews-2", tmp_path / "page.html", rows=500).read_text())

    assert found.verdict == "regressed"
    assert f"1 alarm went off: accuracy of {SMALL} fell." in text
    assert f"accuracy fell {alarm.before:.3f} → {alarm.after:.3f} {SMALL}, compared with reviews-1" in text
    assert "Exit code 5: worse than reviews-1, beyond noise." in text
    assert "Compared with reviews-1: 1 alarm" in text
    assert f"{alarm.difference:+.3f} ({alarm.low:+.3f} to {alarm.high:+.3f})" in text
    assert f"{alarm.flipped_down} fell, {alarm.flipped_up} rose of {alarm.pairs}" in text
    for metric in found.metrics:
        assert f"{metric.mean:.3f} {metric.low:.3f} to {metric.high:.3f} {metric.count}" in text
    assert "accuracy by slice: lowest for language=" in text
    assert f"Workload {found.workload_names[0]}" in text


def test_rows_that_fell_come_first_with_the_expected_answer(compared, tmp_path, page_text):
    """Each row whose score fell is listed before all others, with its scores; the reader can filter for these alone."""
    down = sum(row.flipped == "down" for row in scored_rows(compared, "reviews-2"))
    page = write_report(compared, "reviews-2", tmp_path / "page.html", rows=500).read_text()
    kinds = re.findall(r'data-kinds="([\w ]+)"', page)

    assert down > 0
    assert kinds == ["succeeded down"] * down + ["succeeded"] * (80 - down)
    assert f'<option value="down" selected>score fell ({down})</option>' in page
    assert re.search(r"accuracy 0 · fell since the run before .* expected (positive|negative)", page_text(page))


def test_few_rows_are_those_that_fell(compared, tmp_path):
    """When not all rows fit, the best rows are left out."""
    page = write_report(compared, "reviews-2", tmp_path / "page.html", rows=3).read_text()

    assert re.findall(r'data-kinds="([\w ]+)"', page) == ["succeeded down"] * 3


def test_a_first_run_has_no_comparison(compared, tmp_path, page_text):
    """It is scored, and no comparison is shown."""
    text = page_text(write_report(compared, "reviews-1", tmp_path / "page.html", rows=5).read_text())

    assert "there was no run to compare with" in text
    assert "Compared with" not in text


def test_an_unfinished_run_has_a_page_too(compared, tmp_path, page_text):
    """Nothing is scored yet: the page shows the progress of its workload."""
    evaluation = runs.begin(compared, reviews_suite(tmp_path, 10))
    runs.next_workload(compared, evaluation)
    text = page_text(write_report(compared, evaluation.name, tmp_path / "page.html", rows=5).read_text())

    assert "The run is not finished: there are no scores yet." in text
    assert "0 of 20 answered (0 %), 0 downloaded" in text
    assert "The worst 5 of 20 requests" in text


def test_the_agreement_of_a_judge_and_notes_are_shown():
    """Agreement has its interval and kappa; an undefined kappa has a reason."""
    found = EvaluationSummary(
        "s", "s-1", "s-0", "0" * 64, ("w",), 0.0, 60.0,
        (Metric("length", "short", "m", None, 9, 120.5, 90.0, 151.0, "bootstrap 95 %", 1),),
        (Change("length", "short", "m", 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, "bootstrap", 9, False, None, 0, 0),),
        (JudgeAgreement("judge", 80, 0.9, 0.81, 0.95, 0.71), JudgeAgreement("odd", 3, 1.0, 0.4, 1.0, None, "one label only")),
        "passed", notes=("<b>bold</b> claim",),
    )  # fmt: skip
    view = evaluation_view(found)

    assert [(line.scorer, line.same, line.kappa, line.rows) for line in view.judges] == [
        ("judge", "90.0 % (0.810 to 0.950)", "0.710", "80"),
        ("odd", "100 % (0.400 to 1.000)", "one label only", "3"),
    ]
    assert view.notes == ("<b>bold</b> claim",)
    (metric,) = view.metrics[0].lines
    assert (metric.cells, metric.value, metric.rows) == (("short, m",), "120.500", "9, 1 without")


def scored(seq, *, score=1.0, flipped=None, status="succeeded"):
    """Return a scored row."""
    return ScoredRow(str(seq), seq, {}, "p", "m", 1, "text", None, {"a": score}, status, None, flipped)


def test_the_worst_rows_are_found_in_one_pass():
    """Fallen rows come first, then failed ones, then by score; some places are kept for rows that rose; ties keep input order."""
    rows = [
        *(scored(seq, score=seq / 100) for seq in range(90, 50, -1)),
        scored(1, flipped="down"),
        scored(2, score=None, status="failed"),
        scored(3, flipped="up"),
        scored(4, flipped="up"),
        scored(5, score=0.0),
        scored(6, score=0.0),
    ]

    for limit, expected in ((10, [1, 2, 5, 6, 51, 52, 53, 54, 3, 4]), (1, [1]), (0, [])):
        worst = WorstRows(limit)
        for row in rows:
            worst.add(row)
        assert [row.seq for row in worst.rows()] == expected


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [([0.775, 0.91], 0.7, 1.0), ([0.2, 1.0], 0.2, 1.0), ([0.5, 0.5], 0.5, 0.6), ([-3.0, 120.0], -100.0, 200.0)],
)
def test_a_scale_has_round_ends_and_room_for_all(values, low, high):
    """The scale is no longer than necessary, and never of length zero."""
    scale = round_domain(values)
    assert [scale.low, scale.high] == pytest.approx([low, high])
