"""What a workload costs: spent, in flight, still to come. One computation for status, JSON, panel, summary, reports and Prefect.

Under a budget in USD the figures are those of its ledger, which the judges of a run share; the prices are those of the moment at
which each shard was merged. Without one, they come from the tokens of a workload whose only model is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from batchkit import formatting
from batchkit.engine.budget_texts import limits_text
from batchkit.provider.pricing import pricing_of

if TYPE_CHECKING:
    from batchkit.engine.progress import Progress
    from batchkit.provider.pricing import Pricing


@dataclass(frozen=True, slots=True)
class Costs:
    """USD, None where the price is not known. ``estimated_usd`` is the sum of the other three: what everything is expected to cost.

    ``in_flight_usd`` is an estimate of what is at the provider or about to be sent, ``to_come_usd`` of what waits, by the mean of
    the answers; it is None before the first one.
    """

    spent_usd: float | None
    in_flight_usd: float | None
    to_come_usd: float | None

    @property
    def estimated_usd(self) -> float | None:
        """What everything is expected to cost."""
        if self.spent_usd is None or self.in_flight_usd is None or self.to_come_usd is None:
            return None
        return self.spent_usd + self.in_flight_usd + self.to_come_usd


_UNKNOWN = Costs(None, None, None)


def costs_of(progress: Progress) -> Costs:
    """Return the costs of a workload."""
    waiting = 0 if progress.is_finished else progress.not_sent + progress.counts.pending
    budget = progress.budget
    if budget is not None and budget.budget.max_cost_usd is not None:
        ledger = budget.ledger
        mean = ledger.spent.usd / ledger.answers if ledger.answers else None
        return Costs(ledger.spent.usd, ledger.expected.usd, _times(mean, waiting))
    pricing = _pricing(progress)
    if pricing is None:
        return _UNKNOWN
    model, prices = pricing
    usage, answers = progress.usage, progress.counts.succeeded
    spent = prices.price(model, usage.prompt_tokens, usage.completion_tokens)
    mean = spent / answers if spent is not None and answers else None
    return Costs(spent, _times(mean, progress.in_flight + progress.not_fetched), _times(mean, waiting))


def doubts_usd(progress: Progress) -> float | None:
    """Return about what the calls in doubt cost, by the mean of the answers; None where the model or its price is not known."""
    if not progress.doubts:
        return 0.0
    pricing = _pricing(progress) if progress.counts.succeeded else None
    if pricing is None:
        return None
    model, prices = pricing
    usage, share = progress.usage, progress.doubts / progress.counts.succeeded
    return prices.price(model, round(usage.prompt_tokens * share), round(usage.completion_tokens * share))


def cost_text(progress: Progress) -> str:
    """Return what is spent, in flight and to come, for people; empty where no price is known and nothing limits it."""
    costs, budget = costs_of(progress), progress.budget
    parts = []
    if costs.spent_usd is not None:
        parts.append(f"{formatting.usd(costs.spent_usd)} spent")
        if not progress.is_finished:
            parts += [
                f"{formatting.usd(amount)} {what}"
                for amount, what in ((costs.in_flight_usd, "in flight"), (costs.to_come_usd, "to come"))
                if amount
            ]
    if budget is not None:
        limits = limits_text(budget.budget)
        used = "" if budget.budget.max_total_tokens is None else f" ({budget.ledger.spent.tokens:,.0f} tokens used)"
        parts.append(f"budget {limits}{used}")
    return ", ".join(parts)


def _times(mean: float | None, count: int) -> float | None:
    if not count:
        return 0.0
    return None if mean is None else mean * count


def _pricing(progress: Progress) -> tuple[str, Pricing] | None:
    """Return the only model of a workload, with its prices; None where there are several, or it is not known."""
    workload = progress.workload
    model = None if workload.recipe is None else _only_model(workload.recipe)
    return None if model is None else (model, pricing_of(workload.provider, workload.lane))


@lru_cache(maxsize=16)  # a panel asks for it several times a second
def _only_model(recipe: str) -> str | None:
    from batchkit.annotation.recipe import load_recipe  # noqa: PLC0415 - status need not wait for what recipes need

    models = load_recipe(recipe).models
    return models[0] if len(models) == 1 else None
