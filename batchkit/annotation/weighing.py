"""Votes on labels that weigh annotators by their errors (``--weights``).

The errors are learnt from all answers of a workload before the first row is written: without any right answer (``dawid-skene``), or
from the rows that people labelled (``gold``).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Literal

from batchkit.annotation.columns import value_columns
from batchkit.annotation.people import gold_columns, gold_text
from batchkit.annotation.recipe import load_recipe
from batchkit.annotation.row_answers import read_row_answers
from batchkit.annotation.votes import label_properties
from batchkit.annotation.voting import Voting, label_text
from batchkit.annotation.workload_from_table import snapshot_path
from batchkit.datasets import Snapshot
from batchkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from batchkit.annotation.people import GoldColumns
    from batchkit.annotation.recipe import Recipe
    from batchkit.annotation.voting import Value
    from batchkit.engine.runtime import Runner
    from batchkit.models import Workload
    from batchkit.stats.agreement import Labels
    from batchkit.stats.weighted_votes import WeightedVote

Weights = Literal["gold", "dawid-skene"]
WEIGHTS: Final = ("gold", "dawid-skene")
_ONLY_LABELS = "--weights needs labels of a fixed set: --choices, or enumerations and true or false in a schema"


class WeightedVotes:
    """The weighted vote of a recipe's annotators on each of its ``labels``, by the names of their columns.

    Raises ``UsageError`` for answers without such labels, for one annotator, and for ``gold`` without a column of people's labels.
    """

    def __init__(self, recipe: Recipe, weights: Weights, gold: GoldColumns) -> None:
        self._recipe = recipe
        self._weights = weights
        self._gold = gold
        self.labels = _closed_labels(recipe)
        if not self.labels:
            raise UsageError(_ONLY_LABELS)
        if recipe.requests_per_row == 1:
            raise UsageError(
                "there are no votes to weigh: there is one annotator", hint="use several models, or --samples 3"
            )
        if weights == "gold" and not set(gold).intersection(self.labels):
            raise UsageError("--weights gold needs the labels of people", hint="name their column with --gold")
        self._counts: dict[str, Counter[Labels]] = {label: Counter() for label in self.labels}
        self._confusions: dict[str, list[Counter[tuple[str, str]]]] = {
            label: [Counter() for _ in range(recipe.requests_per_row)] for label in self.labels if label in gold
        }
        self._values: dict[str, dict[str, Any]] = {label: {} for label in self.labels}
        self._votes: dict[str, dict[Labels, WeightedVote]] = {}

    def learn(self, rows: Iterable[tuple[Mapping[str, Any], Sequence[Value | None]]]) -> None:
        """Learn from all rows, each with the answers of its annotators, None without one.

        Raises ``UsageError`` if there are too many labels, and for ``gold`` if people labelled no row that was answered.
        """
        from batchkit.stats.weighted_votes import dawid_skene, weighted_by_gold  # noqa: PLC0415 - loads the statistics

        for row, values in rows:
            self._add(row, values)
        for label in self.labels:
            try:
                if self._weights == "gold" and label in self._confusions:
                    if not any(self._confusions[label]):
                        raise UsageError(
                            f"--weights gold: people labelled no answered row in the column {self._gold[label]!r}"
                        )
                    self._votes[label] = weighted_by_gold(self._counts[label], self._confusions[label])
                else:
                    self._votes[label] = dawid_skene(self._counts[label])
            except ValueError as error:
                raise UsageError(f"--weights: {label}: {error}") from error

    def vote(self, values: Sequence[Value | None]) -> dict[str, tuple[Any, float | None]]:
        """Return the weighted value of each label of a row, and its probability; both None without an answer."""
        found: dict[str, tuple[Any, float | None]] = {}
        for label in self.labels:
            vote = self._votes[label].get(tuple(label_text(value, label) for value in values))
            found[label] = (None, None) if vote is None else (self._values[label].get(vote.label), vote.confidence)
        return found

    def _add(self, row: Mapping[str, Any], values: Sequence[Value | None]) -> None:
        for label in self.labels:
            texts = tuple(label_text(value, label) for value in values)
            self._counts[label][texts] += 1
            for text, value in zip(texts, values, strict=True):
                if text is not None and value is not None:
                    self._values[label].setdefault(text, value.get(label))
            gold = gold_text(row[self._gold[label]], self._recipe, label) if label in self._confusions else None
            if gold is not None:
                for confusion, text in zip(self._confusions[label], texts, strict=True):
                    if text is not None:
                        confusion[gold, text] += 1


def weighted_votes(
    runner: Runner, workload: Workload, *, gold: Sequence[str], weights: Weights | None
) -> WeightedVotes | None:
    """Return votes that have learnt from the answers of a workload; None without ``weights``. Raises as ``WeightedVotes`` and ``learn``."""
    if weights is None:
        return None
    recipe = load_recipe(workload.recipe or "")
    columns = value_columns(recipe)
    table = Snapshot.open(snapshot_path(runner, workload)).columns
    votes = WeightedVotes(recipe, weights, gold_columns(gold, Voting(recipe, columns), table))
    votes.learn(
        (row.row, [None if answer.value is None else columns.spread(answer.value) for answer in row.answers])
        for row in read_row_answers(runner, workload)
        if row.skipped is None
    )
    return votes


def check_people(recipe: Recipe, table: Sequence[str], *, gold: Sequence[str], weights: Weights | None) -> None:
    """Raise ``UsageError`` for ``gold`` columns and ``weights`` that do not fit a recipe or the columns of its table."""
    columns = gold_columns(gold, Voting(recipe, value_columns(recipe)), table)
    if weights is not None:
        WeightedVotes(recipe, weights, columns)


def _closed_labels(recipe: Recipe) -> tuple[str, ...]:
    match recipe.rules.format:
        case "choice":
            return ("answer",)
        case "safety":
            return ("safe",)
        case _:
            return label_properties(recipe.rules)
