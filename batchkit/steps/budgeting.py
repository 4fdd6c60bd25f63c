"""budgeting: what a shard may use is reserved before it is sent, and settled by what its answers used when it is merged.

A reservation is the estimate on the shard's row, made under a lock of the workload's row, so that it holds for all processes. A
death in between leaves the estimate with the shard, which the next process sends: it is neither lost nor made twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, assert_never

from batchkit import formatting
from batchkit.budget import NOTHING, Amount, Verdict, decide
from batchkit.errors import SpoolError, StateConflict, UsageError
from batchkit.files import jsonl
from batchkit.files.spool import disk_errors
from batchkit.lifecycle import DOUBTFUL
from batchkit.models import OutcomeKind, RequestState, ShardState
from batchkit.provider.pricing import pricing_of, unknown_price
from batchkit.sending.estimate import estimate
from batchkit.steps.context import StepReport
from batchkit.store import budgets, requests, shard_leases, shards

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from batchkit.budget import Budget, Decision
    from batchkit.models import Shard, Workload
    from batchkit.provider.pricing import Pricing
    from batchkit.steps.answers import ShardAnswers
    from batchkit.steps.context import StepContext

#: How long a recording is taken to be: its length is not told before it is transcribed.
_RECORDING_SECONDS: Final = 300.0
_OF_RECORDINGS: Final = ("/audio/transcriptions", "/audio/translations")
_OF_SPEECH: Final = "/audio/speech"
_DOUBTFUL: Final = frozenset(kind.value for kind in DOUBTFUL)


def reserve(context: StepContext, workload: Workload, shard: Shard) -> StepReport | None:
    """Reserve what a planned shard may use; None when it may be sent, else what became of it, and it is given back.

    Raises ``UsageError`` for a budget that is too small for the very first request, and ``ConfigurationError`` where it is in USD
    and a price is not known.
    """
    if shard.estimated_tokens is not None or not workload.may_have_budget:
        return None
    with context.store.read() as connection:
        state = budgets.read(connection, workload)
    if state is None:
        return None
    if state.is_held:
        return _hold(context, shard)
    pricing = None if state.budget.max_cost_usd is None else pricing_of(workload.provider, shard.lane)
    _catch_up(context, workload, pricing)
    with context.spool.reading(shard) as path:
        sizes = request_sizes(path, pricing)
    decision = _book(context, workload, shard, sizes, is_priced=pricing is not None)
    match decision.verdict:
        case Verdict.SEND:
            return None
        case Verdict.CUT:
            note = (
                f"shard {shard.number}: the budget has room for {decision.fits:,} of its"
                f" {formatting.counted(shard.line_count, 'request')}; it is cut smaller"
            )
            return StepReport({"cut smaller": 1}, (note,))
        case Verdict.HOLD:
            return _hold(context, shard)
        case Verdict.REFUSE:
            _hold(context, shard)
            raise too_small(state.budget, sizes[0])
        case _ as never:
            assert_never(never)


def _book(context: StepContext, workload: Workload, shard: Shard, sizes: list[Amount], *, is_priced: bool) -> Decision:
    """Decide about a shard and store what follows, in one transaction that excludes every other reservation of the budget."""
    with context.store.write() as connection:
        state = budgets.read(connection, workload, lock=True)
        if state is None:
            raise StateConflict(f"the workload {workload.name!r} is gone")
        decision = decide(state.budget, state.ledger, sizes)
        budgets.set_held(connection, workload.id, decision.least if decision.verdict is Verdict.HOLD else None)
        if decision.verdict is Verdict.SEND:
            whole = _sum(sizes)
            shards.set_values(
                connection,
                shard,
                owner=context.owner,
                estimated_tokens=whole.tokens,
                estimated_usd=whole.usd if is_priced else None,
            )
        elif decision.verdict is Verdict.CUT:
            requests.move_back(connection, shard, RequestState.PENDING)
            shards.transition(
                connection,
                shard,
                ShardState.WITHDRAWN,
                at=context.clock(),
                owner=context.owner,
                detail=f"the budget has room for {decision.fits} of its requests",
                next_completion_window=shard.window,
                next_lines=decision.fits,
                not_before=0,
                refusals=0,
            )
    return decision


def _hold(context: StepContext, shard: Shard) -> StepReport:
    with context.store.write() as connection:
        shard_leases.release(connection, context.owner, [shard.id])
    return StepReport({"held by the budget": 1})


def too_small(budget: Budget, first: Amount) -> UsageError:
    """Return the error of a budget without room for the very first request."""
    if budget.max_total_tokens is not None and first.tokens > budget.max_total_tokens:
        limit, needs, option = (
            f"{budget.max_total_tokens:,} tokens",
            f"{first.tokens:,.0f} tokens",
            "--max-total-tokens",
        )
    else:
        limit, needs = formatting.usd(budget.max_cost_usd or 0.0), formatting.usd(first.usd)
        option = "--max-cost"
    return UsageError(
        f"the budget of {limit} is too small for the first request, which may use {needs}; nothing was sent",
        hint=f"raise {option}, or give the requests a smaller max_completion_tokens",
    )


def request_sizes(path: Path, pricing: Pricing | None) -> list[Amount]:
    """Estimate the requests of a shard's file, in order; without ``pricing`` in tokens only. Raises as ``reserve``."""
    sizes: list[Amount] = []
    with disk_errors("read", path), path.open("rb") as handle:
        for line in handle:
            try:
                record = jsonl.loads_leniently(line)
                sizes.append(request_size(record["body"], record["url"], pricing))
            except (jsonl.MalformedJson, KeyError, TypeError, AttributeError) as error:
                raise SpoolError(
                    f"{path} has a line that is no request", hint="put BATCHKIT_HOME back as it was"
                ) from error
    return sizes


def request_size(body: Mapping[str, object], endpoint: str, pricing: Pricing | None) -> Amount:
    """Return what a request may use, with its price if there is ``pricing``. Raises ``ConfigurationError`` for an unknown price."""
    amounts = estimate(body, endpoint, audio_seconds=_RECORDING_SECONDS)
    if pricing is None:
        return Amount(amounts.tokens)
    given = body.get("model")
    model = given if isinstance(given, str) else ""
    if endpoint.endswith(_OF_RECORDINGS):
        usd = pricing.price_audio(model, amounts.audio_seconds)
    elif endpoint.endswith(_OF_SPEECH):
        usd = pricing.price_speech(model, len(str(body.get("input", ""))))
    else:
        usd = pricing.price(model, round(amounts.input_tokens), round(amounts.output_tokens))
    if usd is None:
        raise unknown_price(model)
    return Amount(amounts.tokens, usd)


def _catch_up(context: StepContext, workload: Workload, pricing: Pricing | None) -> None:
    """Estimate and price what was sent before the workload had this budget. Reads nothing but the database when all is known."""
    with context.store.read() as connection:
        unestimated = budgets.unestimated(connection, workload, in_usd=pricing is not None)
        unpriced = budgets.unpriced(connection, workload) if pricing is not None else {}
    for shard in unestimated:
        with context.spool.reading(shard) as path:
            whole = _sum(request_sizes(path, pricing))
        with context.store.write() as connection:
            budgets.set_estimate(connection, shard.id, whole, in_usd=pricing is not None)
    if unpriced and pricing is not None:
        usd = {
            shard_id: sum(pricing.price(model or "", *tokens) or 0.0 for model, tokens in used.items())
            for shard_id, used in unpriced.items()
        }
        with context.store.write() as connection:
            budgets.set_prices(connection, usd)


def settled(provider: str, shard: Shard, answers: ShardAnswers | None) -> dict[str, Any]:
    """Return the values of a merged shard that take the place of its reservation; none for a shard without one.

    Requests that may have been executed without an answer, and answers that do not tell their tokens, count as their estimates.
    ``answers`` is None for a batch that never ran.
    """
    if shard.estimated_tokens is None:
        return {}
    if answers is None:
        return {"estimated_tokens": 0.0, "estimated_usd": 0.0, "spent_tokens": 0.0, "spent_usd": 0.0}
    doubts = sum(attempt.kind in _DOUBTFUL for attempt in answers.attempts)
    executed = answers.succeeded + sum(attempt.kind == OutcomeKind.INVALID for attempt in answers.attempts)
    used, metered = answers.tokens_by_model()
    guessed = doubts + max(executed - metered, 0)
    mean = Amount(shard.estimated_tokens / shard.line_count, (shard.estimated_usd or 0.0) / shard.line_count)
    values: dict[str, Any] = {
        "estimated_tokens": mean.tokens * (executed + doubts),
        "spent_tokens": sum(map(sum, used.values())) + mean.tokens * guessed,
    }
    if shard.estimated_usd is not None:
        pricing = pricing_of(provider, shard.lane)
        usd = 0.0
        for model, (prompt, completion) in used.items():
            found = pricing.price(model or shard.model or "", prompt, completion)
            # Of a model that answers under another name than it was asked by.
            rate = mean.usd / mean.tokens if mean.tokens else 0.0
            usd += (prompt + completion) * rate if found is None else found
        values |= {"estimated_usd": mean.usd * (executed + doubts), "spent_usd": usd + mean.usd * guessed}
    return values


def _sum(sizes: Iterable[Amount]) -> Amount:
    whole = NOTHING
    for size in sizes:
        whole = whole.plus(size)
    return whole
