"""The budget that a call names, checked before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit.api.listed_models import model_check
from batchkit.engine.budget_texts import limits_text
from batchkit.engine.composition import split_defaults
from batchkit.models import Lane, LaneChoice
from batchkit.provider.pricing import check_prices, pricing_of
from batchkit.steps.budgeting import request_size, too_small
from batchkit.steps.split import check_budget

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from batchkit.engine.observer import Observer
    from batchkit.settings import Settings
    from batchkit.steps.split import SplitOptions
    from batchkit.steps.split_plan import SplitPlan


def check_plan(plan: SplitPlan, provider: str) -> None:
    """Raise ``UsageError`` for a budget without room for the first request of a plan: ``run`` would refuse it, too."""
    is_priced = plan.budget.max_cost_usd is not None
    if plan.first is None:
        return
    first = request_size(*plan.first, pricing_of(provider, plan.lane) if is_priced else None)
    if not plan.budget.covers(first):
        raise too_small(plan.budget, first)


def note_budget(settings: Settings, options: SplitOptions, observer: Observer) -> None:
    """Tell what the budget of a new workload promises; nothing without one."""
    limits = limits_text(split_defaults(settings).budget(options))
    if limits:
        observer.note(
            f"budget {limits}: nothing is sent whose estimate does not fit beside what is spent and in flight; it is"
            " exceeded at most by what is in flight, if that costs more than its estimate"
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
            check_prices(pricing_of(settings.provider, Lane.BATCH if choice is LaneChoice.BATCH else Lane.SYNC), models)
        check_models(models)

    return check
