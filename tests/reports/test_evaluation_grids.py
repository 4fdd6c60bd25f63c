"""The page and the terminal show labels by class, and what a run says about its judges."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from batchkit.cli.render.evaluated_labels import labels_table
from batchkit.evaluation.confusion import confusion
from batchkit.evaluation.judge_figures import AgreementOfJudges, JudgeBias
from batchkit.evaluation.results import EvaluationSummary, LabelFigures, Metric
from batchkit.evaluation.sentences import of_judges
from batchkit.reports.evaluation_grids import judge_grids, label_grids
from batchkit.reports.evaluation_report import evaluation_view

_BIAS = JudgeBias("better", "j/one", 288, 0.125, 0.09, 0.17, 0.44, 0.41, 0.47)


def summary_of(**more):
    """Return a summary."""
    metric = Metric("accuracy", "prompt", "m/small", None, 6, 0.5, 0.2, 0.8, "Wilson 95 %", 0)
    times: dict[str, Any] = {
        "started_at": 0.0,
        "finished_at": 60.0,
        "metrics": (metric,),
        "changes": (),
        "judge_agreement": (),
    }
    return EvaluationSummary("s", "s-1", None, "0" * 64, ("w",), verdict="first", **times, **more)


def figures(expected, answered, model="m/small"):
    """Return the label figures of a model."""
    return LabelFigures("accuracy", "prompt", model, confusion(expected, answered))


LABELS = figures(["a", "a", "a", "b", "b", "a"], ["a", "a", "b", "b", "c", None])


def test_the_page_has_a_matrix_with_the_figures_of_each_class():
    """Expected by answered labels, and below them the macro and the micro mean."""
    (grid,) = label_grids(summary_of(labels=(LABELS,)))
    assert grid.title == "accuracy: labels of m/small, macro F1 0.583"
    assert grid.columns == ("Expected", "Answers", "Precision", "Recall", "F1", "a", "b", "c", "No label")
    assert grid.lines == (
        ("a", "4", "1.000", "0.500", "0.667", "2", "1", "0", "1"),
        ("b", "2", "0.500", "0.500", "0.500", "0", "1", "1", "0"),
        ("c", "0", "0.000", "-", "0.000", "0", "0", "0", "0"),
        ("Macro (mean of the labels)", "", "0.750", "0.500", "0.583", "", "", "", ""),
        ("Micro (all answers)", "6", "0.600", "0.500", "0.545", "", "", "", ""),
    )
    many = [f"l{number:02}" for number in range(25)]
    (wide,) = label_grids(summary_of(labels=(figures(many, many),)))
    assert (len(wide.columns), len(wide.lines), wide.note) == (14, 22, "5 rarer labels are not shown.")
    assert label_grids(summary_of(labels=(figures(["a"], ["a"]),))) == ()


@pytest.mark.parametrize(("classes", "lines"), [(3, 5), (25, 2)])
def test_the_terminal_has_them_too(classes, lines):
    """Of many classes in all only the means."""
    labels = [f"l{number}" for number in range(classes)]
    both = tuple(figures(labels, labels, model) for model in ("m/small", "m/large"))
    table = labels_table(summary_of(labels=both))
    assert table is not None
    assert table.row_count == 2 * lines
    out = io.StringIO()
    Console(file=out, width=100).print(table)
    assert out.getvalue().count("macro") == out.getvalue().count("micro") == 2
    assert "1.000" in out.getvalue()
    assert labels_table(summary_of()) is None


def test_judges_are_described():
    """Their agreement, and which place they prefer; a sentence each in the terminal, a table on the page."""
    models = ("j/one", "j/two")
    found = summary_of(
        between_judges=(
            AgreementOfJudges("quality", models, (300, 12), 300, 0.71, 0.62, 0.63, "nominal"),
            AgreementOfJudges(
                "same", models, (3, 3), 3, 1.0, None, None, "interval", "all ratings are the same number"
            ),
        ),
        judge_biases=(_BIAS,),
    )
    assert list(of_judges(found)) == [
        (
            "the judges of 'quality' agree on 71% of the answers that two or more judged; Fleiss' kappa 0.62, Krippendorff's alpha 0.63;"
            " judged of 300 answers: j/one 300, j/two 12"
        ),
        (
            "the judges of 'same' agree on 100% of the answers that two or more judged; all ratings are the same number;"
            " judged of 3 answers: j/one 3, j/two 3"
        ),
        (
            "the judge j/one of 'better': the order decided 12% of 288 pairs (9% to 17%); the first place got 44% of its judgements"
            " (41% to 47%): it prefers the second place"
        ),
    ]
    agreement, bias = judge_grids(found)
    assert agreement.lines[0] == ("quality", "j/one 300 of 300, j/two 12 of 300", "0.710", "0.620", "0.630", "nominal")
    assert agreement.note == "all ratings are the same number"
    assert bias.lines == (("better", "j/one", "288", "0.125 (0.090 to 0.170)", "0.440 (0.410 to 0.470)"),)
    assert list(judge_grids(summary_of())) == []


def test_the_page_names_pass_at_k():
    """Beside the scorer's own name, unless that is its name."""
    view = evaluation_view(summary_of(pass_at={"accuracy": "pass@3"}, judge_biases=(_BIAS,), labels=(LABELS,)))
    assert view.metrics[0].title == "accuracy pass@3: 0.500 for m/small"
    assert [len(view.labels), len(view.about_judges)] == [1, 1]
    assert summary_of(pass_at={"pass@3": "pass@3"}).metric_of("pass@3") == "pass@3"
