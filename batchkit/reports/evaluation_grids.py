"""The tables of an evaluation's labels, and of what it shows about its judges, for the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from batchkit.reports.evaluation_headline import arm_name, brief
from batchkit.reports.grid import Grid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.evaluation.confusion import Average
    from batchkit.evaluation.results import EvaluationSummary, LabelFigures

#: A wider matrix can be read nowhere.
_MOST_COLUMNS: Final = 8
_MOST_CLASSES: Final = 20
_MOST_TABLES: Final = 24


def label_grids(found: EvaluationSummary) -> tuple[Grid, ...]:
    """Return the confusion matrix of each prompt and model by a scorer of choices, with the figures of each class and their means."""
    shown = [figures for figures in found.labels if len(figures.confusion.classes) > 1]
    return tuple(map(_labels, shown[:_MOST_TABLES]))


def _labels(figures: LabelFigures) -> Grid:
    confusion = figures.confusion
    places = range(min(len(confusion.classes), _MOST_COLUMNS))
    left = len(confusion.classes) - _MOST_CLASSES
    lines = [
        (
            brief(one.label),
            f"{one.support:,}",
            *map(_share, (one.precision, one.recall, one.f1)),
            *(f"{confusion.counts[row][place]:,}" for place in places),
            f"{confusion.counts[row][-1]:,}",
        )
        for row, one in enumerate(confusion.per_class[:_MOST_CLASSES])
    ]
    macro = confusion.macro
    return Grid(
        f"{brief(figures.scorer)}: labels of {arm_name(figures)}, macro F1 {_share(macro.f1)}",
        "Precision, recall and F1 of each expected label, then how often it was answered with which label",
        (
            "Expected",
            "Answers",
            "Precision",
            "Recall",
            "F1",
            *(brief(confusion.classes[place]) for place in places),
            "No label",
        ),
        (
            *lines,
            _mean("Macro (mean of the labels)", macro, "", len(places)),
            _mean("Micro (all answers)", confusion.micro, f"{confusion.rows:,}", len(places)),
        ),
        f"{left:,} rarer labels are not shown." if left > 0 else "",
    )


def _mean(name: str, average: Average, rows: str, columns: int) -> tuple[str, ...]:
    return name, rows, *map(_share, (average.precision, average.recall, average.f1)), *("" for _ in range(columns + 1))


def judge_grids(found: EvaluationSummary) -> Iterator[Grid]:
    """Yield how far several judges agree, and how far the order of two answers decided what a judge said."""
    if found.between_judges:
        yield Grid(
            "Agreement of the judges",
            "Answers that each model has judged, and over those that two or more have judged: equal judgements, Fleiss' kappa, Krippendorff's alpha",
            ("Judge", "Judged", "Unanimous", "Fleiss' kappa", "Alpha", "Level"),
            tuple(
                (
                    brief(one.scorer),
                    ", ".join(
                        f"{brief(model)} {count:,} of {one.answers:,}"
                        for model, count in zip(one.models, one.judged, strict=True)
                    ),
                    *map(_share, (one.unanimous, one.fleiss, one.alpha)),
                    one.level,
                )
                for one in found.between_judges
            ),
            " ".join(dict.fromkeys(one.reason for one in found.between_judges if one.reason)),
        )
    if found.judge_biases:
        yield Grid(
            "Bias of the judges for a place",
            "Share of the pairs whose judgement changed with the order of the answers, and of judgements for the first place: 0.5 is no bias",
            ("Judge", "Model", "Pairs", "Changed with the order", "For the first place"),
            tuple(
                (
                    brief(one.scorer),
                    brief(one.model),
                    f"{one.pairs:,}",
                    f"{one.changed:.3f} ({one.changed_low:.3f} to {one.changed_high:.3f})",
                    f"{one.for_first:.3f} ({one.for_first_low:.3f} to {one.for_first_high:.3f})",
                )
                for one in found.judge_biases
            ),
        )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
