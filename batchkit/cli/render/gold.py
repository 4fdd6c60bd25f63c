"""How well annotators agree with what people gave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from batchkit.cli.render import annotated
from batchkit.stats.gold import GoldReport, NumberGoldReport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchkit.stats.intervals import Interval


def gold_table(label: str, figures: Mapping[str, GoldReport | NumberGoldReport]) -> Table:
    """Draw how well each annotator and their vote agree with what people gave, with 95 % intervals of accuracies."""
    table = Table(title=f"{label} against people", title_justify="left")
    table.add_column("annotator", overflow="fold")
    is_number = any(isinstance(report, NumberGoldReport) for report in figures.values())
    titles = ("mean error", "absolute") if is_number else ("accuracy", "macro F1")
    for title in ("rows", *titles, "kappa"):
        table.add_column(title, justify="right")
    for annotator, report in figures.items():
        if isinstance(report, NumberGoldReport):
            told = [_number(report.mean_error, "+.3f"), _number(report.mean_absolute_error, ".3f")]
        else:
            share = report.accuracy
            accuracy = "-" if share is None else f"{share.mean:.1%} ({share.low:.0%}-{share.high:.0%})"
            told = [accuracy, _number(report.macro_f1, ".3f")]
        table.add_row(annotator, f"{report.rows:,}", *told, annotated.coefficient(report.kappa))
    return table


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def for_machines(report: GoldReport | NumberGoldReport) -> dict[str, Any]:
    """Shape the figures of one annotator for ``--json``; intervals are of 95 %."""
    known = {"rows": report.rows, "unanswered": report.unanswered, "kappa": report.kappa.value}
    if isinstance(report, NumberGoldReport):
        return {**known, "mean_error": report.mean_error, "mean_absolute_error": report.mean_absolute_error}
    return {
        **known,
        "accuracy": _interval(report.accuracy),
        "macro_f1": report.macro_f1,
        "labels": {
            figures.label: {
                "gold": figures.gold,
                "given": figures.given,
                "precision": _interval(figures.precision),
                "recall": _interval(figures.recall),
                "f1": _interval(figures.f1),
            }
            for figures in report.labels
        },
        "confusion": [
            {"gold": gold, "given": given, "rows": rows} for (gold, given), rows in sorted(report.confusion.items())
        ],
    }


def _interval(found: Interval | None) -> dict[str, float] | None:
    return None if found is None else {"value": found.mean, "low": found.low, "high": found.high}
