"""The budget that a call names: checked before anything is sent, and added to the options of its workload."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from batchkit.api.listed_models import model_check
from batchkit.models import Lane, LaneChoice
from batchkit.provider.pricing import check_prices, pricing_of
from batchkit.steps.split import SplitOptions, check_budget

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from batchkit.engine.observer import Observer
    from batchkit.settings import Settings


def with_budget(
    options: SplitOptions | None, *, max_cost: float | None = None, max_total_tokens: int | None = None
) -> SplitOptions:
    """Return options with a budget; what is None stays what they say."""
    found = options or SplitOptions()
    return replace(
        found,
        max_cost=found.max_cost if max_cost is None else max_cost,
        max_total_tokens=found.max_total_tokens if max_total_tokens is None else max_total_tokens,
    )


def new_workload_check(
    settings: Settings, options: SplitOptions, observer: Observer, *, is_dry_run: bool = False
) -> Callable[[Collection[str]], None]:
    """Return a function that takes the models of a new workload, and raises ``UsageError`` as ``model_check``.

    It raises ``ConfigurationError`` for a budget in USD where the price of a model is not known.
    """
    check_budget(options)
    check_models = model_check(settings, observer, is_dry_run=is_dry_run)

    def check(models: Collection[str]) -> None:
        if (settings.max_cost if options.max_cost is None else options.max_cost) is not None:
            choice = options.lane or settings.lane
            check_prices(
                pricing_of(settings.provider, Lane.BATCH if choice is LaneChoice.BATCH else Lane.SYNC), models
            )
        check_models(models)

    return check
