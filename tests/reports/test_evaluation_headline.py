"""The top of an evaluation's page: the figure that explains the verdict comes first, and what else changed before it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from batchkit.evaluation.results import Change, EvaluationSummary, Metric, Scoring
from batchkit.reports.evaluation_headline import changed, figures, headline_of
from batchkit.reports.evaluation_report import evaluation_view

_METRIC = Metric("accuracy", "prompt", "small", None, 300, 0.753, 0.702, 0.799, "Wilson", 0)
_SCORING = Scoring(
    "accuracy", "prompt", "small", 300, 12, 12, 280, 0, 8, "no number", 8, is_watched=True, is_enough=False
)


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
    alarms = (make_change(0.9, is_alarm=True), make_change(0.6, is_alarm=True, slice="language=de", baseline="s-0"))
    found = make_summary("regressed", changes=alarms[:1], slice_changes=alarms[1:])
    first, second, *_ = figures(found)

    assert first == ("accuracy fell in language=de", "0.950 → 0.600", "small, compared with s-0")
    assert second == ("accuracy fell", "0.950 → 0.900", "small, compared with s-1")
    assert headline_of(found).verdict == "2 alarms went off: accuracy of small fell in language=de the most."
    assert headline_of(found).meaning == "Exit code 5: worse than s-0 and s-1, beyond noise."


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


def test_slices_with_alarms_come_first_then_the_largest_changes():
    """Each slice has its means, the rows that fell and rose, and its p-value; the many that changed little are left out."""
    slices = [
        make_change(0.94, slice="a=little"),
        make_change(0.99, slice="a=rose"),
        make_change(0.90, slice="a=alarm", is_alarm=True, threshold=0.02, baseline="s-0"),
        make_change(0.70, slice="a=fell"),
        *(make_change(0.95, slice=f"b={number}") for number in range(40)),
    ]
    table = evaluation_view(make_summary("regressed", slice_changes=tuple(slices))).compared_slices

    assert table is not None
    assert [line.slice for line in table.lines][:4] == ["a=alarm", "a=fell", "a=rose", "a=little"]
    assert table.title == "Slices: 1 alarm; the largest fall is that of a=fell, -0.250"
    assert table.note.endswith("4 more are not shown.")
    first = table.lines[0]
    assert (first.before, first.after, first.p_value) == ("0.950", "0.900", "p < 0.001")
    assert (first.flipped, first.alarm) == (
        "69 fell, 11 rose of 300",
        "alarm, from a fall of 0.02, compared with s-0",
    )
