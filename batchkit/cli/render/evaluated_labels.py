"""Precision, recall and F1 of an evaluation's labels on a terminal: of each class, and their macro and micro means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from batchkit import formatting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.evaluation.confusion import Average
    from batchkit.evaluation.results import EvaluationSummary, LabelFigures

#: Of more classes in all tables of a run only the means are shown; JSON and the page have the rest.
_MOST_CLASSES: Final = 40


def labels_table(found: EvaluationSummary) -> Table | None:
    """Return a table of the scorers of choices, the most frequent classes first, with the number of answers that expect each; None without one."""
    shown = [figures for figures in found.labels if len(figures.confusion.classes) > 1]
    if not shown:
        return None
    has_classes = sum(len(figures.confusion.classes) for figures in shown) <= _MOST_CLASSES
    has_prompts = len({figures.prompt for figures in shown}) > 1
    table = Table(box=SIMPLE_HEAD, title=Text("labels", style="bold"), title_justify="left", pad_edge=False)
    for column in ("metric", *(("prompt",) if has_prompts else ()), "model", "class"):
        table.add_column(column, overflow="fold")
    for column in ("precision", "recall", "F1", "answers"):
        table.add_column(column, justify="right", no_wrap=True)
    for figures in shown:
        names = (figures.scorer, *((figures.prompt,) if has_prompts else ()), figures.model.rpartition("/")[2])
        for place, (name, *numbers) in enumerate(_lines(figures, has_classes=has_classes)):
            table.add_row(*(Text(text if not place else "") for text in names), name, *numbers)
        table.add_section()
    return table


def _lines(figures: LabelFigures, *, has_classes: bool) -> Iterator[tuple[Text, ...]]:
    confusion = figures.confusion
    for one in confusion.per_class if has_classes else ():
        figures_of_class = _shares(one.precision, one.recall, one.f1)
        yield Text(formatting.printable(one.label)), *figures_of_class, Text(f"{one.support:,}")
    yield _mean("macro", confusion.macro, "")
    yield _mean("micro", confusion.micro, f"{confusion.rows:,}")


def _mean(name: str, average: Average, count: str) -> tuple[Text, ...]:
    return Text(name, style="italic"), *_shares(average.precision, average.recall, average.f1), Text(count)


def _shares(*values: float | None) -> Iterator[Text]:
    return (Text("-" if value is None else f"{value:.3f}") for value in values)
