"""The page of an evaluation run: verdict, metrics, what changed, slices, and the rows that fell first."""

from __future__ import annotations

import re

import pytest

from batchkit.emulator.faults import lines
from batchkit.evaluation import runs
from batchkit.evaluation.results import (
    Change,
    EvaluationSummary,
    JudgeAgreement,
    Metric,
    ScoredRow,
    scored_rows,
    summary,
)
from batchkit.reports.evaluation_report import _lowest, _scale, evaluation_view
from batchkit.reports.writing import write_report
from tests.evaluation.support import REVIEWS, SMALL, reviews_suite
from tests.reports.conftest import running

_OPPOSITE = lines.WrongAnswers(
    contents=('{"label":"positive"}', '{"label":"negative"}'), models=frozenset({SMALL}), fraction=0.6
)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Give a runner with two runs of a suite; in the second the small model says the opposite of many things."""
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


def test_a_regressed_run_says_what_fell(compared, tmp_path, page_text):
    """Verdict, exit code, comparison, metrics and slices are on the page as the summary has them."""
    found = summary(compared, "reviews-2")
    (alarm,) = [change for change in found.changes if change.is_alarm]
    text = page_text(write_report(compared, "reviews-2", tmp_path / "page.html", rows=500).read_text())

    assert found.verdict == "regressed"
    assert f"1 alarm went off: accuracy fell from {alarm.before:.3f} to {alarm.after:.3f} ({SMALL})." in text
    assert "Exit code 5: worse than reviews-1, beyond noise." in text
    assert "Compared with reviews-1: 1 alarm" in text
    assert f"{alarm.difference:+.3f} ({alarm.low:+.3f} to {alarm.high:+.3f})" in text
    assert f"{alarm.flipped_down} fell, {alarm.flipped_up} rose of {alarm.pairs}" in text
    for metric in found.metrics:
        assert f"{metric.mean:.3f} {metric.low:.3f} to {metric.high:.3f} {metric.count}" in text
    assert "accuracy by slice: lowest for language=" in text
    assert f"Workload {found.workload_names[0]}" in text


def test_rows_that_fell_come_first_with_what_was_expected(compared, tmp_path, page_text):
    """Each row whose score fell is listed before all others, with its scores; the reader can ask for these alone."""
    down = sum(row.flipped == "down" for row in scored_rows(compared, "reviews-2"))
    page = write_report(compared, "reviews-2", tmp_path / "page.html", rows=500).read_text()
    kinds = re.findall(r'data-kinds="([\w ]+)"', page)

    assert down > 0
    assert kinds == ["succeeded down"] * down + ["succeeded"] * (80 - down)
    assert f'<option value="down">score fell ({down})</option>' in page
    assert re.search(r"accuracy 0 · fell since the run before .* expected (positive|negative)", page_text(page))


def test_few_rows_are_those_that_fell(compared, tmp_path):
    """Where not all fit, the best rows are left out."""
    page = write_report(compared, "reviews-2", tmp_path / "page.html", rows=3).read_text()

    assert re.findall(r'data-kinds="([\w ]+)"', page) == ["succeeded down"] * 3


def test_a_first_run_has_nothing_to_compare_with(compared, tmp_path, page_text):
    """It passes, and no comparison is shown."""
    text = page_text(write_report(compared, "reviews-1", tmp_path / "page.html", rows=5).read_text())

    assert "no alarm had a run to compare with" in text
    assert "Compared with" not in text


def test_an_unfinished_run_has_a_page_too(compared, tmp_path, page_text):
    """Nothing is scored yet: the page shows how far its workload is."""
    evaluation = runs.begin(compared, reviews_suite(tmp_path, 10))
    runs.next_workload(compared, evaluation)
    text = page_text(write_report(compared, evaluation.name, tmp_path / "page.html", rows=5).read_text())

    assert "The run is not finished: there are no scores yet." in text
    assert "0 of 20 answered (0 %), 0 downloaded" in text
    assert "The worst 5 of 20 requests" in text


def test_what_a_judge_is_worth_and_notes_are_shown():
    """Agreement with its interval and kappa; a kappa that does not exist says why."""
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
    """Make a scored row."""
    return ScoredRow(str(seq), seq, {}, "p", "m", 1, "text", None, {"a": score}, status, None, flipped)


def test_the_worst_are_found_in_one_go():
    """Fallen, failed, then by score; a part of the room is kept for what rose, and order is that of the input among equals."""
    rows = [
        *(scored(seq, score=seq / 100) for seq in range(90, 50, -1)),
        scored(1, flipped="down"),
        scored(2, score=None, status="failed"),
        scored(3, flipped="up"),
        scored(4, flipped="up"),
        scored(5, score=0.0),
        scored(6, score=0.0),
    ]

    assert [row.seq for row in _lowest(iter(rows), 10)] == [1, 2, 5, 6, 51, 52, 53, 54, 3, 4]
    assert [row.seq for row in _lowest(iter(rows), 1)] == [1]
    assert _lowest(iter(rows), 0) == []


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [([0.775, 0.91], 0.7, 1.0), ([0.2, 1.0], 0.2, 1.0), ([0.5, 0.5], 0.5, 0.6), ([-3.0, 120.0], -100.0, 200.0)],
)
def test_a_scale_has_round_ends_and_room_for_all(values, low, high):
    """No longer than it must be, and never of no length."""
    scale = _scale(values)
    assert [scale.low, scale.high] == pytest.approx([low, high])
