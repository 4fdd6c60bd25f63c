"""The top of an evaluation's page: the figure that explains the verdict comes first, and what else changed before it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from batchkit.evaluation.results import Change, EvaluationSummary, Metric, RunSpan, Scoring, Spread, Window
from batchkit.reports.evaluation_headline import changed, figures, headline_of
from batchkit.reports.evaluation_report import evaluation_view

_METRIC = Metric("accuracy", "prompt", "small", None, 300, 0.753, 0.702, 0.799, "Wilson", 0)
_SCORING = Scoring(
    "accuracy", "prompt", "small", 300, 12, 12, 280, 0, 8, "no number", 8, is_watched=True, is_enough=False
)
_WINDOW = Window(90, RunSpan(30, "s-0", "s-0z"), RunSpan(30, "s-1", "s-2"))


def make_change(after: float = 0.75, **more: Any) -> Change:
    """Return a change from 0.95."""
    values = {
        "scorer": "accuracy", "prompt": "prompt", "model": "small", "before": 0.95, "after": after, "difference": after - 0.95,
        "low": after - 1.0, "high": after - 0.9, "p_value": 0.0001, "method": "McNemar", "pairs": 300, "is_alarm": False,
        "threshold": None, "flipped_down": 69, "flipped_up": 11,
    }  # fmt: skip
    return Change(**{**values, **more})


def make_summary(verdict: Any, **more: Any) -> EvaluationSummary:
    """Return a summary of a run that was compared with s-1."""
    values = {"suite": "s", "run": "s-2", "previous": "s-1", "suite_version": "0" * 64, "workload_names": ("s-2",)}
    times = {"started_at": 0.0, "finished_at": 60.0, "metrics": (_METRIC,), "changes": (), "judge_agreement": ()}
    return EvaluationSummary(**{**values, **times, **more}, verdict=verdict)


def test_the_first_figure_is_the_largest_fall():
    """Metric, slice, model and baseline are named, before and now; the headline has no numbers of the fall."""
    of_slice = make_change(0.6, is_alarm=True, slice="language=de", window=_WINDOW)
    alarms = (make_change(0.9, is_alarm=True, since="s-1b"), of_slice)
    found = make_summary("regressed", changes=alarms[:1], slice_changes=alarms[1:])
    first, second, *_ = figures(found)

    assert first == (
        "accuracy fell in language=de",
        "0.950 → 0.600",
        "small, compared with the 30 runs from s-0 to s-0z",
    )
    assert second == ("accuracy fell", "0.950 → 0.900", "small, compared with s-1, since s-1b")
    assert headline_of(found).verdict == "2 alarms went off: accuracy of small fell in language=de the most."
    assert headline_of(found).meaning == (
        "Exit code 5: worse than the 30 runs from s-0 to s-0z and s-1, beyond noise."
        " The next runs say so too, until it is gone or accepted: batchkit eval SUITE --against s-2"
    )


@pytest.mark.parametrize(
    ("verdict", "label", "value", "note"),
    [
        ("unscored", "accuracy: answers scored", "12 of 300", "280 failed"),
        ("incomparable", "Comparison", "none", "3 of 300 rows"),
        ("passed", "accuracy", "0.753", "small"),
        ("first", "accuracy", "0.753", "small"),
    ],
)
def test_the_first_figure_says_what_is_lacking_or_how_good_it_is(verdict, label, value, note):
    """An unscored run shows how much is scored, an incomparable one why, another one its metrics."""
    found = make_summary(verdict, scorings=(_SCORING,), notes=("3 of 300 rows were compared",))
    first = next(figures(found))

    assert (first.label, first.value) == (label, value)
    assert note in first.note


def test_what_else_changed_begins_with_cut_answers():
    """Differences are listed after the answers that were cut; if there are none, that is said."""
    found = make_summary("regressed", differences=("the prompt changed",), scorings=(_SCORING,))

    assert list(changed(found, ["31 answers were cut"])) == ["31 answers were cut", "the prompt changed"]
    assert list(changed(replace(found, differences=()), [])) == [
        "nothing: the rows, labels, prompts, models, parameters and scorers are the same"
    ]
    assert list(changed(replace(found, differences=(), scorings=()), [])) == []
    assert list(changed(replace(found, previous=None), ["31 answers were cut"])) == []
    assert list(changed(replace(found, differences=("x",) * 30), []))[-1] == "10 more differences"


def test_slices_with_alarms_come_first_and_those_that_did_not_move_are_folded():
    """Each slice has its means, the rows that fell and rose, and its p-value; what chance explains is counted, and bounded as well."""
    slices = [
        make_change(0.94, slice="a=little", p_value=0.04),
        make_change(0.99, slice="a=rose", p_value=0.03),
        make_change(0.90, slice="a=alarm", p_value=0.02, is_alarm=True, threshold=0.02, window=_WINDOW),
        make_change(0.70, slice="a=fell"),
        *(make_change(0.95, slice=f"b={number}", p_value=0.5) for number in range(400)),
    ]
    table = evaluation_view(make_summary("regressed", slice_changes=tuple(slices))).compared_slices

    assert table is not None
    assert [line.slice for line in table.lines] == ["a=alarm", "a=fell", "a=rose", "a=little"]
    assert table.title == "Slices: 1 alarm; the surest fall is that of a=alarm, -0.050"
    assert (table.folded_title, len(table.folded)) == ("400 more, whose change may be chance (p is 0.05 or more)", 40)
    assert table.note.endswith("360 more are not shown; --json has all of them.")
    first = table.lines[0]
    assert (first.before, first.after, first.p_value) == ("0.950", "0.900", "p = 0.020")
    assert (first.flipped, first.alarm) == (
        "69 fell, 11 rose of 300",
        "alarm, from a fall of 0.02, over 90 runs: the mean of 30 runs from s-0 to s-0z -> the mean of 30 runs from s-1 to s-2",
    )
    few = evaluation_view(make_summary("passed", slice_changes=tuple(slices[4:12]))).compared_slices
    assert few is not None
    assert (len(few.lines), few.folded) == (8, ())


def test_hundreds_of_prompts_and_models_are_bounded():
    """Of the metrics over all rows those that moved are shown, then the lowest; the others are counted."""
    metrics = tuple(replace(_METRIC, model=f"m{number}", mean=number / 400) for number in range(300))
    changes = tuple(
        make_change(0.95, model=f"m{number}", p_value=0.001 if number == 299 else 0.8) for number in range(300)
    )
    view = evaluation_view(make_summary("passed", metrics=metrics, changes=changes))

    assert view.comparison is not None
    assert ([line.arm for line in view.comparison.lines], len(view.comparison.folded)) == (["m299"], 40)
    (table,) = view.metrics
    assert [line.cells[0] for line in table.lines][:3] == ["m299", "m0", "m1"]
    assert (len(table.lines), table.note) == (40, "260 more are not shown; --json has all of them.")


def test_a_run_with_several_samples_says_what_more_of_them_would_buy():
    """Where the spread comes from, and the standard error as it is, with twice as many samples, and at best."""
    spread = Spread("accuracy", "prompt", "small", 300, 3.0, 0.05, 0.1, 0.02, 0.019, 0.018)
    (line,) = evaluation_view(make_summary("passed", spreads=(spread,))).samples

    assert line == (
        "accuracy of small: variance 0.0500 within rows, 0.1000 between them; standard error 0.0200 with 3 samples of each row,"
        " 0.0190 with twice as many, never below 0.0180 with these rows"
    )
