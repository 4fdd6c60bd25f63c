"""Promising a deadline: what a new workload with one begins with, from its plan and the limits of the account."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from batchkit import formatting
from batchkit.engine import deadline
from batchkit.engine.deadline import DeadlinePlan, Terms
from batchkit.errors import UsageError
from batchkit.models import Lane, LaneChoice
from batchkit.sending.estimate import DEFAULT_OUTPUT_TOKENS
from batchkit.sending.gates import GateKey, Gates
from batchkit.sending.reservations import Amounts
from batchkit.steps.split import Promise, SplitOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchkit.preflight import ModelShare
    from batchkit.sending.limits import KnownLimits
    from batchkit.settings import Settings


def check_lane(options: SplitOptions) -> None:
    """Raise ``UsageError`` for options that contradict each other."""
    if options.deadline is not None and options.within_seconds is not None:
        raise UsageError("--deadline and --within contradict each other", hint="leave out one of them")
    if options.has_deadline and options.lane is LaneChoice.BATCH:
        raise UsageError(
            "a deadline needs both lanes, and --lane batch allows one",
            hint="leave out --lane: requests travel in batches as long as there is time",
        )


def check_late(options: SplitOptions) -> None:
    """Raise ``UsageError`` for options of a new workload that say what happens after a deadline that it does not have."""
    if options.late is not None and not options.has_deadline:
        raise UsageError(
            "--late says what happens after a deadline, and there is none", hint="add --deadline or --within"
        )


def allowed_rate(shares: Mapping[str, ModelShare], known: KnownLimits) -> float | None:
    """Return how many of the requests the limits let through per second, in the mean over all; None without limits.

    The models are asked at the same time, each within limits of its own.
    """
    gates = Gates(lambda _key: known)
    requests, seconds = 0, 0.0
    for model, share in shares.items():
        if not share.requests:
            continue
        out = share.completion_tokens + share.unlimited * DEFAULT_OUTPUT_TOKENS
        mean = Amounts(input_tokens=share.prompt_tokens / share.requests, output_tokens=out / share.requests)
        requests += share.requests
        seconds = max(seconds, gates.seconds_for(GateKey(model), share.requests, mean, 0.0) or 0.0)
    return requests / seconds if seconds else None


def deadline_plan(
    shares: Mapping[str, ModelShare],
    options: SplitOptions,
    settings: Settings,
    known: KnownLimits,
    *,
    lane: Lane,
    now: float,
) -> DeadlinePlan:
    """Plan the deadline that the options name, for requests by model. Without it they would travel in ``lane``."""
    requests = sum(share.requests for share in shares.values())
    rate = allowed_rate(shares, known)
    return rest_plan(options, settings, missing=requests, rate=rate, default=lane, now=now)


def rest_plan(
    options: SplitOptions, settings: Settings, *, missing: int, rate: float | None, default: Lane, now: float
) -> DeadlinePlan:
    """Plan the deadline that the options name, for requests of which the sync lane answers ``rate`` a second."""
    terms = Terms(
        at=options.deadline if options.deadline is not None else now + (options.within_seconds or 0.0),
        began_at=now,
        rate=rate,
        cancel_seconds=settings.cancel_seconds,
        poll_seconds=settings.poll_interval_seconds,
    )
    window = options.window or settings.window
    return deadline.plan(terms, settings.dialect.windows, requests=missing, now=now, default=default, window=window)


def promised(options: SplitOptions, found: DeadlinePlan) -> SplitOptions:
    """Return the options of a split that keeps a planned deadline."""
    promise = Promise(at=found.terms.at, lane=found.lane, window=found.window, sync_rate=found.terms.rate)
    return replace(options, promise=promise)


def check_possible(found: DeadlinePlan) -> None:
    """Raise ``UsageError`` with the reason and the earliest possible time for a deadline that cannot be met."""
    if found.problem is None:
        return
    at = formatting.when(found.terms.at, found.now)
    hint = "nothing was sent"
    if found.earliest is not None:
        earliest = formatting.when(found.earliest + 60, found.now)
        hint = f"the earliest possible time is {earliest}; nothing was sent"
    raise UsageError(f"the deadline {at} cannot be met: {found.problem}", hint=hint)
