"""The vote of a row's annotators on the columns of their answers, and the rows that people should look at."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from batchkit.annotation.votes import (
    Vote,
    are_equal,
    is_number,
    label_properties,
    majority,
    number_properties,
    vote_on_objects,
)
from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batchkit.annotation.columns import ValueColumns
    from batchkit.annotation.recipe import Recipe
    from batchkit.annotation.votes import Numbers

    #: An answer's value by the names of its columns.
    Value = Mapping[str, Any]

#: The columns that are compared; in these formats the others follow from them.
_COMPARED: Final = {"transcript": ("text",), "tools": ("tool_calls",), "safety": ("safe",)}


class Review(StrEnum):
    """Why people should look at a row."""

    #: Annotators gave different labels, or numbers that are far apart.
    DISPUTED = "disputed"
    #: At most half of the annotators gave a valid answer.
    THIN = "thin"
    #: No annotator gave a valid answer.
    UNANSWERED = "unanswered"


class Voting:
    """Votes on the answers to a recipe: the majority of labels and texts, the median of numbers.

    ``labels`` are the columns whose values are compared for agreement, ``numbers`` those that are numbers.
    """

    def __init__(self, recipe: Recipe, columns: ValueColumns) -> None:
        rules = recipe.rules
        self._is_verdict = rules.format == "safety"
        self._annotators = recipe.requests_per_row
        self._names = [field.name for field in columns.fields]
        named = tuple(name for name in self._names if name != columns.others)
        self.numbers: Numbers = {name: kind for name, kind in number_properties(rules).items() if name in named}
        chosen = _COMPARED.get(rules.format) or label_properties(rules)
        self.labels: tuple[str, ...] = chosen or (() if self.numbers else named)

    def vote(self, values: Sequence[Value]) -> Vote:
        """Return the vote of valid answers; its value has all columns."""
        if self._is_verdict:
            return _verdict(values)
        return vote_on_objects(values, self._names, self.labels or tuple(self.numbers), self.numbers)

    def review(self, values: Sequence[Value]) -> Review | None:
        """Return why people should look at a row with these valid answers; None if they need not."""
        if not values:
            return Review.UNANSWERED
        if self._is_disputed(values):
            return Review.DISPUTED
        return Review.THIN if 2 * len(values) <= self._annotators else None

    def _is_disputed(self, values: Sequence[Value]) -> bool:
        if any(not are_equal(value.get(label) for value in values) for label in self.labels):
            return True
        for name, kind in self.numbers.items():
            given = [value.get(name) for value in values]
            numbers = [number for number in given if is_number(number)]
            if numbers and (len(numbers) < len(given) or max(numbers) - min(numbers) > kind.tolerance):
                return True
        return False


def label_text(value: Value | None, label: str) -> str | None:
    """Return a label of an annotator's answer as a text that is equal for equal values; None if the answer has none."""
    return None if value is None or label not in value else text_of_label(value[label])


def text_of_label(value: Any) -> str:
    """Return a value as a text that is equal for equal values; null is a value like others."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else jsonl.dumps(value).decode()


def number_of(value: Value | None, name: str) -> float | None:
    """Return a number of an annotator's answer; None for anything else, and for one that a float cannot hold."""
    found = None if value is None else value.get(name)
    try:
        return float(found) if is_number(found) else None
    except OverflowError:
        return None


def _verdict(values: Sequence[Value]) -> Vote:
    """Vote on safe or unsafe; the categories are the majority among the winners."""
    vote = majority(value["safe"] for value in values)
    winners = [value for value in values if value["safe"] == vote.value]
    details = vote_on_objects(winners, ["categories", "category_names"]).value or {}
    return Vote({"safe": vote.value, **details}, vote.agreement)
