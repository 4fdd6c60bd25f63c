"""The estimated cost of requests, as text and for machines."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from batchkit import formatting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.annotation.estimate import Estimate, ModelEstimate
    from batchkit.steps.split_plan import SplitPlan

_SMALLEST_DOLLARS = 0.0001


def estimate_of(plan: SplitPlan, provider: str) -> Estimate | None:
    """Return the estimate of a plan for a provider; None where the prices are not installed (the extra ``annotate``)."""
    if find_spec("genai_prices") is None:
        return None
    from batchkit.annotation.estimate import estimate  # noqa: PLC0415 - an extra
    from batchkit.provider.pricing import pricing_of  # noqa: PLC0415 - as above

    return estimate(plan.shares, pricing_of(provider, plan.lane))


def estimate_lines(estimate: Estimate) -> Iterator[str]:
    """Return the lines with tokens and price by model and in total, and the source of the figures."""
    for of_model in estimate.models:
        usd = _range_of_dollars(of_model.least_usd, of_model.most_usd)
        yield f"{formatting.printable(of_model.model)}: about {of_model.prompt_tokens:,} tokens in, {_out(of_model)}; {usd}"
    if len(estimate.models) > 1:
        yield f"in total: {_range_of_dollars(estimate.least_usd, estimate.most_usd)}"
    if estimate.earlier:
        yield f"tokens out estimated from earlier workloads with these questions: {', '.join(map(formatting.printable, estimate.earlier))}"
    yield f"an estimate at the {estimate.prices}, without retries of invalid answers"


def estimate_for_machines(estimate: Estimate) -> dict[str, Any]:
    """Return the JSON of an estimate; null is unknown."""
    return {
        "cost_usd_at_least": estimate.least_usd,
        "cost_usd_at_most": estimate.most_usd,
        "earlier_workloads": list(estimate.earlier),
        "models": {
            of_model.model: {
                "requests": of_model.requests,
                "prompt_tokens": of_model.prompt_tokens,
                "completion_tokens_at_least": of_model.least_out,
                "completion_tokens_at_most": of_model.most_out,
                "cost_usd_at_least": of_model.least_usd,
                "cost_usd_at_most": of_model.most_usd,
            }
            for of_model in estimate.models
        },
    }


def dollars(amount: float) -> str:
    """Return an amount of US dollars as text."""
    return f"${amount:,.4f}" if amount >= _SMALLEST_DOLLARS or not amount else f"under ${_SMALLEST_DOLLARS}"


def _out(of_model: ModelEstimate) -> str:
    least, most = of_model.least_out, of_model.most_out
    if most is None:
        return "no limit on the tokens out"
    if least == most:
        return f"about {most:,} out"
    return f"{least:,} to {most:,} out" if least else f"at most {most:,} out"


def _range_of_dollars(least: float | None, most: float | None) -> str:
    if least is None:
        return "price unknown"
    if most is None:
        return f"{dollars(least)} plus the tokens out"
    low, high = dollars(least), dollars(most)
    if low != high:
        return f"{low} to {high}"
    return low if low.startswith("under") else f"about {low}"
