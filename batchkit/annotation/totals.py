"""The totals of a finished workload of a table: its cost, and how far its annotators agree."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from batchkit.annotation.columns import value_columns
from batchkit.annotation.pricing import price
from batchkit.annotation.recipe import load_recipe
from batchkit.annotation.row_answers import read_row_answers
from batchkit.annotation.votes import is_number, label_properties
from batchkit.annotation.voting import Voting
from batchkit.errors import UsageError
from batchkit.files import jsonl
from batchkit.models import RequestState
from batchkit.store import attempts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.annotation.recipe import Recipe
    from batchkit.annotation.voting import Review
    from batchkit.engine.runtime import Runner
    from batchkit.models import Workload
    from batchkit.stats.agreement import AgreementReport

#: Formats with comparable answers: free texts always differ, and a transcript has one annotator.
_COMPARABLE = frozenset({"json", "choice", "pattern", "number", "safety"})
_ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Totals:
    """``cost_usd`` is the cost of all answers, None if a price is unknown; ``bad_answers`` counts rejected answers by reason.

    ``annotators`` are named by prompt, model and sample. ``agreement`` has a report for each property that is a label or a number, or
    one for the whole answer. ``review`` counts the rows that people should look at, by the reason.
    """

    cost_usd: float | None
    bad_answers: dict[str, int] = field(default_factory=dict)
    annotators: tuple[str, ...] = ()
    agreement: dict[str, AgreementReport] = field(default_factory=dict)
    review: dict[Review, int] = field(default_factory=dict)


def totals(runner: Runner, workload: Workload) -> Totals:
    """Return the totals of a finished workload. Raises ``UsageError`` if it was not made from a table."""
    if workload.recipe is None:
        raise UsageError(f"the workload {workload.name!r} was not made from a table", hint="`batchkit status` shows it")
    recipe = load_recipe(workload.recipe)
    with runner.store.read() as connection:
        bad = attempts.count_bad_answers(connection, workload.id)
    if recipe.requests_per_row == 1 and recipe.audio is None:
        # A single annotator: the sums in the database are enough.
        usage = runner.progress(workload.id).usage
        return Totals(price(recipe.models[0], usage.prompt_tokens, usage.completion_tokens), bad)
    return replace(_of_annotators(runner, workload, recipe), bad_answers=bad)


def _of_annotators(runner: Runner, workload: Workload, recipe: Recipe) -> Totals:
    columns = value_columns(recipe)
    voting = Voting(recipe, columns)
    measures = _measures(recipe, voting)
    cost: float | None = 0.0
    review: Counter[Review] = Counter()
    for row in read_row_answers(runner, workload):
        if row.skipped is not None:
            continue
        for answer in row.answers:
            if answer.status == RequestState.SUCCEEDED or answer.prompt_tokens is not None:
                cost = None if cost is None or answer.cost_usd is None else cost + answer.cost_usd
        for measure in measures.values():
            measure.add([answer.value for answer in row.answers])
        if recipe.requests_per_row > 1:
            reason = voting.review([columns.spread(answer.value) for answer in row.answers if answer.value is not None])
            if reason is not None:
                review[reason] += 1
    agreement = {name: measure.report() for name, measure in measures.items()}
    return Totals(cost, annotators=_annotators(recipe), agreement=agreement, review=dict(review))


def _annotators(recipe: Recipe) -> tuple[str, ...]:
    many_prompts, many_samples = len(recipe.prompts) > 1, recipe.samples > 1
    return tuple(
        " ".join([*([prompt.name] if many_prompts else []), model, *([f"#{sample}"] if many_samples else [])])
        for prompt in recipe.prompts
        for model in recipe.models
        for sample in range(1, recipe.samples + 1)
    )


class _LabelMeasure:
    """The agreement about one property of the answers, or about the whole answers."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._counts: Counter[tuple[str | None, ...]] = Counter()

    def add(self, values: Sequence[Any]) -> None:
        """Count a row with the answers of its annotators, None without one."""
        self._counts[tuple(_rating(value, self._label) for value in values)] += 1

    def report(self) -> AgreementReport:
        """Return the agreement of all rows."""
        from batchkit.stats.agreement import agreement  # noqa: PLC0415 - loads the statistics, for several annotators only

        return agreement(self._counts)


class _NumberMeasure:
    """The agreement about a property that is a number."""

    def __init__(self, name: str, annotators: int) -> None:
        from batchkit.stats.ratings import RatingAgreement  # noqa: PLC0415 - as above

        self._name = name
        self._found = RatingAgreement(annotators)

    def add(self, values: Sequence[Any]) -> None:
        """Count a row, as ``_LabelMeasure`` does; what is no number is no rating."""
        given = [value.get(self._name) if isinstance(value, dict) else value for value in values]
        self._found.add([float(value) if is_number(value) else None for value in given])

    def report(self) -> AgreementReport:
        """Return the agreement of all rows."""
        return self._found.report()


def _measures(recipe: Recipe, voting: Voting) -> dict[str, _LabelMeasure | _NumberMeasure]:
    """Return what measures the agreement about each label and number of the answers, else about the whole answers."""
    if recipe.requests_per_row == 1 or recipe.rules.format not in _COMPARABLE:
        return {}
    labels = ("safe",) if recipe.rules.format == "safety" else label_properties(recipe.rules)
    if not labels and not voting.numbers:
        labels = (_ANSWER,)
    numbers = {name: _NumberMeasure(name, recipe.requests_per_row) for name in voting.numbers}
    return {**{label: _LabelMeasure(label) for label in labels}, **numbers}


def _rating(value: Any, label: str) -> str | None:
    """Return an annotator's value as a text that is equal for equal values; None without an answer."""
    if value is None:
        return None
    if isinstance(value, dict) and label != _ANSWER:
        value = value.get(label)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else jsonl.dumps(value).decode()
