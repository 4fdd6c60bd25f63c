"""Tokens and their cost by model: exact if the recipe names the models, otherwise estimated from a sample and marked so.

The store counts tokens by shard and by request, and stores no models for the shards. In a workload with a recipe the models
alternate in a known order. For any other one, a sample of the answers names the models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batchkit.annotation.model_tokens import tokens_by_model
from batchkit.files import jsonl
from batchkit.provider.pricing import Pricing, pricing_of
from batchkit.store import report_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from batchkit.models import Usage, Workload

#: The number of answers in the sample.
SAMPLE = 400
_BILLION = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ModelSpending:
    """The tokens of one model, whose name is empty if the answers do not name it; ``cost_usd`` is None if its price is unknown."""

    model: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class Spending:
    """The tokens and the cost of a workload's answers.

    ``sampled`` is None if the split by model is exact, else the number of answers in the estimate. ``request_seconds`` has the
    provider's durations of the sampled requests, in order; ``queue_seconds`` their waits.
    """

    models: tuple[ModelSpending, ...]
    usage: Usage
    sampled: int | None
    request_seconds: tuple[float, ...]
    queue_seconds: tuple[float, ...]

    @property
    def is_estimate(self) -> bool:
        """Return whether the split by model, and so the cost, is estimated from a sample."""
        return self.sampled is not None

    @property
    def cost_usd(self) -> float | None:
        """Return the US dollars for all models; None if one of them is unknown."""
        costs = [spent.cost_usd for spent in self.models]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if known and len(known) == len(costs) else None


@dataclass(slots=True)
class _Seen:
    """The tokens of one model in the sample."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


def read_spending(connection: Connection, workload: Workload, usage: Usage, *, sample: int = SAMPLE) -> Spending:
    """Split a workload's tokens among its models; without a recipe by a ``sample`` of so many answers."""
    total = workload.request_count or 0
    seen: dict[str, _Seen] = {}
    seconds: list[float] = []
    queued: list[float] = []
    sampled = 0
    for answer in report_rows.answer_sample(connection, workload.id, total, size=sample):
        body = _object(answer.body)
        sampled += 1
        of_model = seen.setdefault(_text(body.get("model")), _Seen())
        of_model.prompt_tokens += answer.prompt_tokens
        of_model.completion_tokens += answer.completion_tokens
        times = body.get("usage")
        if isinstance(times, dict):
            seconds += _seconds(times.get("total_time"))
            queued += _seconds(times.get("queue_time"))
    pricing = pricing_of(workload.provider, workload.lane)
    exact = tokens_by_model(connection, workload)
    is_whole = exact is not None or total <= sample
    return Spending(
        models=_by_model(seen, usage, pricing) if exact is None else tuple(_spending(pricing, *used) for used in exact),
        usage=usage,
        sampled=None if is_whole else sampled,
        request_seconds=tuple(sorted(seconds)),
        queue_seconds=tuple(sorted(queued)),
    )


def _by_model(seen: dict[str, _Seen], usage: Usage, pricing: Pricing) -> tuple[ModelSpending, ...]:
    """Split all tokens in the proportions of the sample."""
    used = {model: of_model for model, of_model in seen.items() if of_model.prompt_tokens or of_model.completion_tokens}
    into = _shares([of_model.prompt_tokens for of_model in used.values()], usage.prompt_tokens)
    out = _shares([of_model.completion_tokens for of_model in used.values()], usage.completion_tokens)
    found = [_spending(pricing, model, *tokens) for model, *tokens in zip(used, into, out, strict=True)]
    return tuple(sorted(found, key=lambda spent: (-spent.prompt_tokens - spent.completion_tokens, spent.model)))


def _shares(parts: Sequence[int], whole: int) -> list[int]:
    """Split a whole in the proportion of the parts, so that the sum is exact."""
    total = sum(parts)
    shares = [whole * part // total if total else 0 for part in parts]
    if total and shares:
        shares[0] += whole - sum(shares)
    return shares


def _spending(pricing: Pricing, model: str, prompt_tokens: int, completion_tokens: int) -> ModelSpending:
    return ModelSpending(
        model, prompt_tokens, completion_tokens, pricing.price(model, prompt_tokens, completion_tokens)
    )


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = jsonl.loads_leniently(data)
    except jsonl.MalformedJson:
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value else ""


def _seconds(value: Any) -> list[float]:
    return [float(value)] if isinstance(value, int | float) and 0 <= value < _BILLION else []
