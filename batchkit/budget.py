"""The budget of a workload: whether its next requests may be sent. Pure: no clock, no files, no database.

Before a shard is sent, what its requests may use is reserved; when it is merged, what its answers did use takes the place of that::

    committed = spent + in flight        never above the budget when something is sent
    in flight = the estimates of the shards that are sent or about to be, corrected by what earlier answers used

An estimate is the length of the texts, and the most output that a request asks for. Answers are usually far below that: from
``_ENOUGH_ANSWERS`` answers on, estimates are corrected by the ratio that they showed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_ENOUGH_ANSWERS: Final = 20
#: Estimates stay a little above what earlier answers used.
_MARGIN: Final = 1.1
_LEAST_RATIO: Final = 0.01
_MOST_RATIO: Final = 10.0
#: A shard is cut smaller only for this share of the budget or more: the rest of a budget buys no hundred tiny batches.
_LEAST_SHARE: Final = 0.02
#: More than the noise of sums of binary fractions, far below any price.
_NOISE: Final = 1e-9


class Amount(NamedTuple):
    """Tokens, and their price in USD; without a budget in USD the price is 0."""

    tokens: float = 0.0
    usd: float = 0.0

    def plus(self, other: Amount) -> Amount:
        """Return the sum."""
        return Amount(self.tokens + other.tokens, self.usd + other.usd)

    def times(self, factor: Amount) -> Amount:
        """Return both multiplied, each by its own factor."""
        return Amount(self.tokens * factor.tokens, self.usd * factor.usd)


NOTHING: Final = Amount()


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent at most; None is no limit."""

    max_cost_usd: float | None
    max_total_tokens: int | None

    def covers(self, amount: Amount) -> bool:
        """Return whether an amount, of everything together, is within the budget."""
        has_tokens = self.max_total_tokens is None or amount.tokens <= self.max_total_tokens + _NOISE
        return has_tokens and (self.max_cost_usd is None or amount.usd <= self.max_cost_usd + _NOISE)


#: No limit at all.
NO_BUDGET: Final = Budget(None, None)


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the workloads of one budget have used and may use. ``estimated`` are the estimates of the answers that are ``spent``.

    ``in_flight`` are the estimates of the ``open_shards``: those that are reserved, and everything that was sent and is not merged.
    """

    spent: Amount = NOTHING
    estimated: Amount = NOTHING
    answers: int = 0
    in_flight: Amount = NOTHING
    open_shards: int = 0

    @property
    def ratio(self) -> Amount:
        """What answers are expected to use of their estimates."""
        if self.answers < _ENOUGH_ANSWERS:
            return Amount(1.0, 1.0)
        return Amount(
            _ratio(self.spent.tokens, self.estimated.tokens),
            _ratio(self.spent.usd, self.estimated.usd),
        )

    @property
    def expected(self) -> Amount:
        """What the shards in flight are expected to use."""
        return self.in_flight.times(self.ratio)

    @property
    def committed(self) -> Amount:
        """What is spent, and what is expected to be."""
        return self.spent.plus(self.expected)


def _ratio(used: float, estimated: float) -> float:
    if used <= 0 or estimated <= 0:
        return 1.0
    return min(max(used / estimated * _MARGIN, _LEAST_RATIO), _MOST_RATIO)


class Verdict(StrEnum):
    """What becomes of a shard that is about to be sent."""

    SEND = "send"
    #: As many of its requests as fit become a shard of their own.
    CUT = "cut"
    #: Nothing is sent before something in flight has cost less than expected, or the budget is raised.
    HOLD = "hold"
    #: The budget is too small for the very first request.
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict on a shard. ``fits`` counts the requests from its beginning that the budget has room for.

    ``least`` is the estimate of the smallest part of it that would be sent: with less room than that it is held.
    """

    verdict: Verdict
    fits: int
    least: Amount


def decide(budget: Budget, ledger: Ledger, sizes: Sequence[Amount]) -> Decision:
    """Decide whether a shard may be sent whose requests are estimated at ``sizes``, in their order."""
    ratio = ledger.ratio
    committed = ledger.committed
    whole = NOTHING
    fits = 0
    for size in sizes:
        whole = whole.plus(size)
        if budget.covers(committed.plus(whole.times(ratio))):
            fits += 1
    least = _least(budget, ratio, sizes[0], whole)
    if fits == len(sizes):
        return Decision(Verdict.SEND, fits, least)
    if fits and budget.covers(committed.plus(least.times(ratio))):
        return Decision(Verdict.CUT, fits, least)
    is_new = not ledger.open_shards and not any(ledger.spent)
    return Decision(Verdict.REFUSE if is_new else Verdict.HOLD, fits, least)


def is_held(budget: Budget, ledger: Ledger, least: Amount | None) -> bool:
    """Return whether the budget has no room for a part whose estimate is ``least``; without one nothing is held."""
    return least is not None and not budget.covers(ledger.committed.plus(least.times(ledger.ratio)))


def _least(budget: Budget, ratio: Amount, first: Amount, whole: Amount) -> Amount:
    """Return the estimate of the smallest part worth sending: the first request, or a small share of the budget, or all."""
    tokens = (budget.max_total_tokens or 0) * _LEAST_SHARE / ratio.tokens
    usd = (budget.max_cost_usd or 0.0) * _LEAST_SHARE / ratio.usd
    return Amount(min(max(first.tokens, tokens), whole.tokens), min(max(first.usd, usd), whole.usd))
