"""What requests will cost, before they are sent: what goes in from the requests, what comes out as a range.

The range comes from the limits that the requests set, and from what earlier workloads with the same questions took.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from batchkit.annotation.recipe import load_recipe
from batchkit.errors import UsageError
from batchkit.store import report_rows, workloads

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy.engine import Connection

    from batchkit.annotation.recipe import Recipe
    from batchkit.models import Workload
    from batchkit.preflight import ModelShare
    from batchkit.provider.pricing import Pricing

_EARLIER: Final = 5
_LOOKED_AT: Final = 200
#: A smaller workload says little about a larger one.
_FEWEST: Final = 3


class Earlier(NamedTuple):
    """The mean output tokens of a request to a model, all its attempts together, in the workload with the smallest and the largest mean."""

    least: float
    most: float


@dataclass(frozen=True, slots=True)
class ModelEstimate:
    """The estimate of the requests to a ``model``. Tokens are sums; None is unknown.

    ``least_out`` and ``most_out`` are the range of the output, ``least_usd`` and ``most_usd`` that of the price of input and output.
    """

    model: str
    requests: int
    prompt_tokens: int
    least_out: int
    most_out: int | None
    least_usd: float | None
    most_usd: float | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimates of all models; ``earlier`` names the workloads that the range comes from.

    ``prices`` says which prices these are, with their date and source, for people.
    """

    models: tuple[ModelEstimate, ...]
    earlier: tuple[str, ...] = ()
    prices: str = ""

    @property
    def least_usd(self) -> float | None:
        """The least that all requests cost; None where a price is unknown."""
        return _sum(of_model.least_usd for of_model in self.models)

    @property
    def most_usd(self) -> float | None:
        """The most that all requests cost; None where it is unknown."""
        return _sum(of_model.most_usd for of_model in self.models)


def estimate(
    shares: Mapping[str, ModelShare],
    pricing: Pricing,
    earlier: Mapping[str, Earlier] | None = None,
    names: Iterable[str] = (),
) -> Estimate:
    """Estimate the requests to each model, with what is known of ``earlier`` workloads, whose names are ``names``."""
    known = earlier or {}
    models = tuple(_of_model(model, share, known.get(model), pricing) for model, share in shares.items())
    return Estimate(models, tuple(names), pricing.described)


def _of_model(model: str, share: ModelShare, earlier: Earlier | None, pricing: Pricing) -> ModelEstimate:
    if share.characters:
        usd = pricing.price_speech(model, share.characters)
        return ModelEstimate(model, share.requests, 0, 0, 0, usd, usd)
    most_out = None if share.unlimited else share.completion_tokens
    least_out = 0
    if earlier is not None:
        least_out = round(earlier.least * share.requests)
        if most_out is None:
            most_out = round(earlier.most * share.requests)
        least_out = min(least_out, most_out)
    return ModelEstimate(
        model,
        share.requests,
        share.prompt_tokens,
        least_out,
        most_out,
        pricing.price(model, share.prompt_tokens, least_out),
        None if most_out is None else pricing.price(model, share.prompt_tokens, most_out),
    )


def earlier_workloads(connection: Connection, recipe: Recipe) -> tuple[dict[str, Earlier], list[str]]:
    """Return the output tokens by model in the last finished workloads with the same questions, and the names of these workloads."""
    asked = _question(recipe)
    means: dict[str, list[float]] = {}
    names: list[str] = []
    for workload in workloads.with_recipes(connection, newest=_LOOKED_AT):
        of_model = _means(connection, workload, asked)
        for model, mean in of_model.items():
            means.setdefault(model, []).append(mean)
        names += [workload.name] if of_model else []
        if len(names) == _EARLIER:
            break
    return {model: Earlier(min(found), max(found)) for model, found in means.items()}, names


def _question(recipe: Recipe) -> Recipe:
    """Return the recipe without everything that concerns the table: recipes with the same questions are equal."""
    return recipe.essence().model_copy(update={"table_digest": "", "audio_digest": "", "limit": None, "key": None})


def _means(connection: Connection, workload: Workload, asked: Recipe) -> dict[str, float]:
    try:
        recipe = load_recipe(workload.recipe or "")
    except UsageError:
        return {}
    if _question(recipe) != asked or (workload.request_count or 0) - workload.unsent_requests < _FEWEST:
        return {}
    if workloads.count_requests(connection, workload).unresolved:
        return {}
    count = workload.request_count or 0
    tokens = report_rows.tokens_round_robin(
        connection, workload.id, count, groups=len(recipe.models), repeats=recipe.samples
    )
    if tokens is None:
        return {}
    # What was not sent has no tokens.
    per_model = (count - workload.unsent_requests) / len(recipe.models)
    return {model: out / per_model for model, (_, out) in zip(recipe.models, tokens, strict=True) if out}


def _sum(amounts: Iterable[float | None]) -> float | None:
    found = list(amounts)
    known = [amount for amount in found if amount is not None]
    return round(sum(known), 12) if len(known) == len(found) else None
