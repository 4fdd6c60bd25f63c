"""What the judges of a suite will cost, before the answers that they judge are there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from batchkit import preflight
from batchkit.annotation.estimate import Estimate, estimate
from batchkit.annotation.render import Renderer, RowProblem
from batchkit.datasets import rows_of
from batchkit.evaluation.judging import judge_recipe
from batchkit.files import jsonl
from batchkit.preflight import ModelShare
from batchkit.provider.pricing import Pricing, pricing_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.annotation.estimate import Earlier, ModelEstimate
    from batchkit.annotation.recipe import Recipe
    from batchkit.datasets import Table
    from batchkit.evaluation.scorers import Judge
    from batchkit.evaluation.suite import Suite
    from batchkit.provider.dialect import Dialect

#: Stands for an answer that is not there yet: a prompt of nothing but empty texts would be refused.
_ANSWER: Final = "x"


@dataclass(frozen=True, slots=True)
class JudgeEstimate:
    """The most requests to the models that judge, and about what they cost: fewer if answers fail or, in pairs, are the same."""

    scorer: str
    requests: int
    estimate: Estimate


class _Shown(NamedTuple):
    """For one row: the requests to each model that judges, and how often an answer of each model of the suite is shown in these."""

    requests: int
    answers: Counter[str]


def judge_estimate(
    judge: Judge,
    suite: Suite,
    table: Table,
    answers: Estimate,
    *,
    dialect: Dialect,
    earlier: Callable[[Recipe], tuple[dict[str, Earlier], list[str]] | None] = lambda _recipe: None,
    advance: Callable[[int], None] = lambda _rows: None,
) -> JudgeEstimate:
    """Estimate the requests of a judge; reads the table once.

    ``answers`` is the estimate of the answers to judge: as many tokens as go out there come in here. ``earlier`` returns what
    ``estimate.earlier_workloads`` does, or None; ``advance`` gets the number of further rows.
    """
    recipe = judge_recipe(judge)
    renderer = Renderer(recipe, (*table.columns, *judge.columns_beside), dialect=dialect)
    shown = _shown(judge, suite)
    shares = {model: ModelShare() for model in judge.models}
    taken = table if suite.dataset.limit is None else table.head(suite.dataset.limit)
    rows = number = 0
    for batch in taken.batches():
        for row in rows_of(batch):
            number += 1
            if judge.is_judgeable(row):
                rows += 1
                _add(shares, renderer, _row(judge, row), number, shown.requests)
        advance(batch.num_rows)
    pricing = pricing_of(dialect.name)
    known = estimate(shares, pricing, *(earlier(recipe) or ({}, [])))
    least, most = _answer_tokens(answers, shown, rows)
    models = tuple(_with_answers(one, least, most, pricing) for one in known.models)
    return JudgeEstimate(judge.label, shown.requests * rows * len(judge.models), replace(known, models=models))


def _shown(judge: Judge, suite: Suite) -> _Shown:
    prompts = tuple(suite.prompts) or ("prompt",)
    times = suite.samples * (1 if judge.against is None else 2)
    requests = 0
    answers: Counter[str] = Counter()
    for prompt in prompts:
        for model in suite.models:
            if not judge.concerns(prompt, model):
                continue
            requests += times
            answers[model] += times
            if judge.against is not None and judge.against.column is None:
                answers[judge.against.model or model] += times
    return _Shown(requests, answers)


def _row(judge: Judge, row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the judge's table; a reference answer is known already."""
    beside = dict.fromkeys(judge.columns_beside, _ANSWER)
    if judge.against is not None and judge.against.column is not None:
        beside[judge.columns_beside[-1]] = row[judge.against.column]
    return {**row, **beside}


def _add(shares: dict[str, ModelShare], renderer: Renderer, row: dict[str, Any], number: int, times: int) -> None:
    try:
        lines = renderer.requests(row, number)
    except RowProblem:
        lines = []  # the prompt may need what only a real answer has
    for line in lines:
        record = jsonl.loads(line)
        tokens = preflight.estimate_tokens(record)
        for _ in range(times):
            shares[record["body"]["model"]].add(tokens)


def _answer_tokens(answers: Estimate, shown: _Shown, rows: int) -> tuple[float, float | None]:
    """Return the fewest and the most tokens of the answers in the requests to one judge; None where there is no limit."""
    least, most = 0.0, 0.0
    is_limited = True
    for one in answers.models:
        times = shown.answers[one.model] * rows / max(one.requests, 1)
        least += times * one.least_out
        is_limited = is_limited and (one.most_out is not None or not times)
        most += times * (one.most_out or 0)
    return least, most if is_limited else None


def _with_answers(one: ModelEstimate, least: float, most: float | None, pricing: Pricing) -> ModelEstimate:
    fewest = one.prompt_tokens + round(least)
    is_bounded = most is not None and one.most_out is not None
    return replace(
        one,
        prompt_tokens=fewest,
        least_usd=pricing.price(one.model, fewest, one.least_out),
        most_usd=pricing.price(one.model, one.prompt_tokens + round(most or 0), one.most_out or 0)
        if is_bounded
        else None,
    )
