"""Telling what a deadline means before anything is sent: what can be done in the time, and what each lane costs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from batchkit.engine.composition import deadline_plan
from batchkit.engine.deadline_words import plan_lines
from batchkit.engine.promising import check_lane, check_possible
from batchkit.models import Lane
from batchkit.provider.pricing import has_catalogue, pricing_of
from batchkit.store import shards

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from batchkit.engine.deadline import DeadlinePlan
    from batchkit.engine.observer import Observer
    from batchkit.engine.progress import Progress
    from batchkit.engine.runtime import Runner
    from batchkit.preflight import ModelShare
    from batchkit.settings import Settings
    from batchkit.steps.split import SplitOptions


def told_deadline(settings: Settings, observer: Observer) -> Callable[[Mapping[str, ModelShare], DeadlinePlan], None]:
    """Return a function that tells ``observer`` what a deadline means for requests, which it takes by model."""

    def tell(shares: Mapping[str, ModelShare], plan: DeadlinePlan) -> None:
        for line in deadline_lines(settings, shares, plan):
            observer.note(f"deadline: {line}")

    return tell


def plan_deadline(
    settings: Settings,
    options: SplitOptions,
    shares: Mapping[str, ModelShare],
    *,
    lane: Lane,
    observer: Observer,
    clock: Callable[[], float] = time.time,
) -> None:
    """Tell in a dry run what the deadline that the options name means for requests, which would else travel in ``lane``.

    Raises ``UsageError`` for one that cannot be met.
    """
    check_lane(options)
    plan = deadline_plan(settings, options, shares, lane=lane, now=clock())
    if plan is not None:
        check_possible(plan)
        told_deadline(settings, observer)(shares, plan)


def tell_price_of_waiting(runner: Runner, progress: Progress, observer: Observer) -> None:
    """Tell what the answers of a finished workload with a deadline cost, beside the ordinary price; nothing where a price is unknown.

    The tokens of both lanes are taken to be shared alike among the models.
    """
    workload = progress.workload
    if progress.deadline is None or not progress.is_finished or not has_catalogue():
        return
    from batchkit.reports.spending import read_spending  # noqa: PLC0415 - an extra
    from batchkit.reports.views import usd  # noqa: PLC0415 - as above

    ordinary, discount = pricing_of(workload.provider, Lane.SYNC), pricing_of(workload.provider).discount
    with runner.store.read() as connection:
        spending = read_spending(connection, workload, progress.usage)
        tokens = shards.tokens_by_lane(connection, workload.id)
    prices = [ordinary.price(spent.model, spent.prompt_tokens, spent.completion_tokens) for spent in spending.models]
    known = [price for price in prices if price is not None]
    if discount is None or not known or len(known) < len(prices):
        return
    whole = sum(known)
    saved = whole * discount * tokens.get(Lane.BATCH, 0) / max(sum(tokens.values()), 1)
    observer.note(f"paid about {usd(whole - saved)}; without waiting {usd(whole)}, at ordinary prices")


def deadline_lines(settings: Settings, shares: Mapping[str, ModelShare], plan: DeadlinePlan) -> Iterator[str]:
    """Return what a deadline means for requests, by model, and what they cost in each lane where the prices are installed."""
    yield from plan_lines(plan)
    if plan.problem is not None or not has_catalogue():
        return
    from batchkit.annotation.estimate import estimate  # noqa: PLC0415 - an extra
    from batchkit.reports.views import usd  # noqa: PLC0415 - as above

    def cost(lane: Lane) -> str:
        found = estimate(shares, pricing_of(settings.provider, lane))
        if found.least_usd is None:
            return "an unknown price"
        return (
            f"{usd(found.least_usd)} and the tokens out" if found.most_usd is None else f"up to {usd(found.most_usd)}"
        )

    one_by_one = f"{cost(Lane.SYNC)} for all one by one"
    yield one_by_one if plan.lane is Lane.SYNC else f"{cost(Lane.BATCH)} for all in batches, {one_by_one}"
