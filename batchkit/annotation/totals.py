"""The totals of a finished workload of a table: its cost, and how far its annotators agree."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from batchkit.annotation.pricing import price
from batchkit.annotation.recipe import load_recipe
from batchkit.annotation.row_answers import read_row_answers
from batchkit.annotation.votes import label_properties
from batchkit.errors import UsageError
from batchkit.files import jsonl
from batchkit.models import RequestState
from batchkit.store import attempts

if TYPE_CHECKING:
    from batchkit.annotation.recipe import Recipe
    from batchkit.engine.runtime import Runner
    from batchkit.models import Workload
    from batchkit.stats.agreement import AgreementReport

#: Formats with comparable answers: free texts always differ, and a transcript has one annotator.
_COMPARABLE = frozenset({"json", "choice", "pattern", "number", "safety"})
_ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Totals:
    """``cost_usd`` is the cost of all answers, None if a price is unknown; ``bad_answers`` counts rejected answers by reason.

    ``annotators`` are named by prompt, model and sample. ``agreement`` has a report for each property that is a label, or one for
    the whole answer. ``disputed`` counts the rows whose annotators disagree in one of them.
    """

    cost_usd: float | None
    bad_answers: dict[str, int] = field(default_factory=dict)
    annotators: tuple[str, ...] = ()
    agreement: dict[str, AgreementReport] = field(default_factory=dict)
    disputed: int = 0


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
    from batchkit.stats.agreement import agreement  # noqa: PLC0415 - loads the statistics, for several annotators only

    labels = _labels(recipe)
    counts: dict[str, Counter[tuple[str | None, ...]]] = {label: Counter() for label in labels}
    cost: float | None = 0.0
    disputed = 0
    for row in read_row_answers(runner, workload):
        if row.skipped is not None:
            continue
        for answer in row.answers:
            if answer.status == RequestState.SUCCEEDED or answer.prompt_tokens is not None:
                cost = None if cost is None or answer.cost_usd is None else cost + answer.cost_usd
        ratings = [tuple(_rating(answer.value, label) for answer in row.answers) for label in labels]
        for label, rated in zip(labels, ratings, strict=True):
            counts[label][rated] += 1
        disputed += any(len(set(rated) - {None}) > 1 for rated in ratings)
    measured = {label: agreement(counted) for label, counted in counts.items()}
    return Totals(cost, annotators=_annotators(recipe), agreement=measured, disputed=disputed)


def _annotators(recipe: Recipe) -> tuple[str, ...]:
    many_prompts, many_samples = len(recipe.prompts) > 1, recipe.samples > 1
    return tuple(
        " ".join([*([prompt.name] if many_prompts else []), model, *([f"#{sample}"] if many_samples else [])])
        for prompt in recipe.prompts
        for model in recipe.models
        for sample in range(1, recipe.samples + 1)
    )


def _labels(recipe: Recipe) -> tuple[str, ...]:
    """Return the properties on which annotators can agree: those of the schema that are labels, else the whole answer."""
    if recipe.requests_per_row == 1 or recipe.rules.format not in _COMPARABLE:
        return ()
    if recipe.rules.format == "safety":
        return ("safe",)
    return label_properties(recipe.rules) or (_ANSWER,)


def _rating(value: Any, label: str) -> str | None:
    """Return an annotator's value as a text that is equal for equal values; None without an answer."""
    if value is None:
        return None
    if isinstance(value, dict) and label != _ANSWER:
        value = value.get(label)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else jsonl.dumps(value).decode()
