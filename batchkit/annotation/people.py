"""Labels and numbers that people gave to rows of a table, in columns of its own (``--gold``).

They say how well each annotator and the vote of all agree with people, and may weigh the votes.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from batchkit.annotation.voting import label_text, number_of
from batchkit.answers.wording import is_same_choice
from batchkit.datasets.values import text_of
from batchkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batchkit.annotation.recipe import Recipe
    from batchkit.annotation.voting import Value, Voting
    from batchkit.stats.gold import GoldReport, NumberGoldReport

    #: The columns of a table that hold what people gave, by the label or number of the answers.
    GoldColumns = Mapping[str, str]

_VERDICTS = {"safe": "true", "unsafe": "false"}


def gold_columns(given: Sequence[str], voting: Voting, table: Sequence[str]) -> GoldColumns:
    """Return the columns that ``--gold`` names as ``COLUMN`` or ``LABEL=COLUMN``.

    ``table`` are the table's columns. Raises ``UsageError`` for a column that it does not have, and for a label of which the answers
    have none or that is not clear.
    """
    labels = [*voting.labels, *voting.numbers]
    found: dict[str, str] = {}
    for text in given:
        label, separator, column = ("", "", text) if text in table else text.partition("=")
        if column not in table:
            raise UsageError(
                f"--gold: the table has no column {column or text!r}", hint=f"the columns are: {', '.join(table)}"
            )
        if not separator:
            if len(labels) != 1:
                raise UsageError(
                    f"--gold {text}: which of {', '.join(labels)} has this column?", hint=f"give --gold LABEL={text}"
                )
            label = labels[0]
        if label not in labels:
            raise UsageError(
                f"--gold: the answers have no label or number {label!r}", hint=f"they have: {', '.join(labels)}"
            )
        found[label] = column
    return found


def gold_text(value: Any, recipe: Recipe, label: str) -> str | None:
    """Return a label that people gave as ``label_text`` writes that of an annotator; None for an empty cell."""
    text = text_of(value).strip()
    if not text:
        return None
    rules = recipe.rules
    if rules.format == "safety":
        return _VERDICTS.get(text.casefold(), text.casefold())
    if rules.format == "choice":
        return next((choice for choice in rules.choices if is_same_choice(choice, text)), text)
    part = ((rules.json_schema or {}).get("properties") or {}).get(label)
    is_boolean = isinstance(part, dict) and part.get("type") == "boolean"
    return text.casefold() if is_boolean else text


def gold_number(value: Any) -> float | None:
    """Return a number that people gave; None for an empty cell. Raises ``ValueError`` for another text."""
    text = text_of(value).strip()
    return float(text) if text else None


class GoldMeasure:
    """Measures annotators and their vote against what people gave."""

    def __init__(self, recipe: Recipe, voting: Voting, columns: GoldColumns, raters: Sequence[str]) -> None:
        from batchkit.stats.gold import NumberGold  # noqa: PLC0415 - loads the statistics

        self._recipe = recipe
        self._columns = columns
        self._raters = raters
        self._numbers = {label: [NumberGold() for _ in raters] for label in columns if label in voting.numbers}
        self._labels: dict[str, list[Counter[tuple[str, str | None]]]] = {
            label: [Counter() for _ in raters] for label in columns if label not in voting.numbers
        }

    def add(self, row: Mapping[str, Any], values: Sequence[Value | None]) -> None:
        """Count a row with one value of each rater, None without one.

        Raises ``UsageError`` for a cell that should be a number and is none.
        """
        for label, counts in self._labels.items():
            gold = gold_text(row.get(self._columns[label]), self._recipe, label)
            if gold is not None:
                for count, value in zip(counts, values, strict=True):
                    count[gold, label_text(value, label)] += 1
        for label, measures in self._numbers.items():
            column = self._columns[label]
            try:
                number = gold_number(row.get(column))
            except ValueError:
                raise UsageError(
                    f"--gold: a cell of {column!r} is no number: {text_of(row.get(column))[:80]!r}"
                ) from None
            if number is not None:
                for measure, value in zip(measures, values, strict=True):
                    measure.add(number, number_of(value, label))

    def reports(self) -> dict[str, dict[str, GoldReport | NumberGoldReport]]:
        """Return the figures of each rater, by label."""
        from batchkit.stats.gold import against_gold  # noqa: PLC0415 - as above

        labels: dict[str, dict[str, GoldReport | NumberGoldReport]] = {}
        for label in self._columns:
            if label in self._numbers:
                found: list[GoldReport | NumberGoldReport] = [measure.report() for measure in self._numbers[label]]
            else:
                found = [against_gold(counts) for counts in self._labels[label]]
            labels[label] = dict(zip(self._raters, found, strict=True))
        return labels
