"""The rate limits of each model and tier: buckets that refill steadily in provider time, reserved on admission.

A reservation takes the prompt's estimate and all the completion tokens that the request allows; when the answer is known,
what it did not use is given back (whether Groq does so at once is not documented; ``give_back = false`` keeps it).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batchkit.emulator.contract.rates import DIMENSIONS, FLEX_FACTOR, PLANS, go_duration
from batchkit.emulator.contract.replies import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batchkit.emulator.contract.rates import Demand, Dimension, Rates
    from batchkit.emulator.scenarios.scenario import Scenario

_MOST_MODELS = 1_000
_UPGRADE = " Need more tokens? Upgrade to Dev Tier today at https://console.groq.com/settings/billing"


@dataclass(slots=True)
class _Bucket:
    dimension: Dimension
    limit: int
    used: float = 0.0
    at: float = 0.0

    def level(self, now: float) -> float:
        """Return what is used up at a provider time."""
        if now > self.at:
            self.used = max(0.0, self.used - (now - self.at) * self.limit / self.dimension.period_seconds)
            self.at = now
        return self.used

    def seconds_until(self, amount: float) -> float:
        """Return the provider seconds until this amount has come back."""
        return amount * self.dimension.period_seconds / self.limit


@dataclass(slots=True)
class Reservation:
    """What an admitted request holds of its limits."""

    tier: str
    demand: Demand
    buckets: tuple[_Bucket, ...] = ()

    def settle(self, tokens: int) -> None:
        """Count the tokens that were used in place of those reserved."""
        for bucket in self.buckets:
            if bucket.dimension.kind == "tokens":
                bucket.used = max(0.0, bucket.used + tokens - self.demand.tokens)


@dataclass(slots=True)
class RateLimits:
    """The limits of a scenario's plan. ``organization`` is named in refusals; ``daily`` is whether headers count requests by day."""

    scenario: Scenario
    organization: str
    daily: bool
    _buckets: dict[tuple[str, str], tuple[_Bucket, ...]] = field(default_factory=dict)

    def admit(self, model: str, tier: str, demand: Demand, now: float, *, hears: bool = False) -> Reservation:
        """Reserve what a request asks for. ``tier`` auto is on_demand, then flex.

        Raises ``ApiError`` 429 when it must wait, with the limit that takes longest, and 413 when it exceeds a whole limit.
        """
        if tier != "auto":
            return self._reserve(model, tier, demand, now, hears=hears)
        try:
            return self._reserve(model, "on_demand", demand, now, hears=hears)
        except ApiError:
            return self._reserve(model, "flex", demand, now, hears=hears)

    def _reserve(self, model: str, tier: str, demand: Demand, now: float, *, hears: bool) -> Reservation:
        buckets = self._of(model, tier, hears=hears)
        fullest, longest = None, 0.0
        for bucket in buckets:
            amount = demand.of(bucket.dimension.kind)
            if amount > bucket.limit:
                raise self._too_large(model, tier, bucket, amount)
            over = bucket.level(now) + amount - bucket.limit
            # A refusal rounds its wait up to milliseconds: who waits exactly that long must be admitted.
            if over > 1e-6 and bucket.seconds_until(over) > longest:  # noqa: PLR2004 - see above
                fullest, longest = bucket, bucket.seconds_until(over)
        if fullest is not None:
            raise self._too_many(model, tier, fullest, demand.of(fullest.dimension.kind), longest)
        for bucket in buckets:
            bucket.used += demand.of(bucket.dimension.kind)
        return Reservation(tier, demand, buckets if self.scenario.rates.give_back else ())

    def headers(self, model: str, tier: str, now: float) -> list[tuple[str, str]]:
        """Return the headers of an answer: requests of the day (or of the minute), tokens of the minute."""
        wanted = ("requests_per_day" if self.daily else "requests_per_minute", "tokens_per_minute")
        headers = []
        for bucket in self._buckets.get((model, "on_demand" if tier == "auto" else tier), ()):
            if bucket.dimension.name in wanted:
                kind, used = bucket.dimension.kind, bucket.level(now)
                headers += [
                    (f"x-ratelimit-limit-{kind}", str(bucket.limit)),
                    (f"x-ratelimit-remaining-{kind}", str(max(0, bucket.limit - math.ceil(used - 1e-6)))),
                    (f"x-ratelimit-reset-{kind}", go_duration(bucket.seconds_until(used))),
                ]
        return headers

    def _of(self, model: str, tier: str, *, hears: bool) -> tuple[_Bucket, ...]:
        found = self._buckets.get((model, tier))
        if found is None:
            if len(self._buckets) >= _MOST_MODELS:
                # Any name may be served as a model, so the names must not pile up.
                self._buckets.clear()
            rates = self._rates(model, hears=hears)
            found = tuple(_buckets(rates.times(FLEX_FACTOR) if tier == "flex" else rates))
            self._buckets[model, tier] = found
        return found

    def _rates(self, model: str, *, hears: bool) -> Rates:
        section = self.scenario.rates
        rates = PLANS[self.scenario.plan].rates_of(model, hears=hears).with_changes(section)
        return rates.with_changes(section.models[model]) if model in section.models else rates

    def _too_many(self, model: str, tier: str, bucket: _Bucket, amount: float, wait: float) -> ApiError:
        message = (
            f"Rate limit reached for model `{model}` in organization `{self.organization}` service tier `{tier}` on "
            f"{bucket.dimension.words}: Limit {bucket.limit}, Used {math.ceil(bucket.used - 1e-6)}, "
            f"Requested {math.ceil(amount)}. Please try again in {go_duration(wait)}.{_UPGRADE}"
        )
        headers = {"retry-after": str(math.ceil(wait))}
        return ApiError(429, message, kind=bucket.dimension.kind, code="rate_limit_exceeded", headers=headers)

    def _too_large(self, model: str, tier: str, bucket: _Bucket, amount: float) -> ApiError:
        message = (
            f"Request too large for model `{model}` in organization `{self.organization}` service tier `{tier}` on "
            f"{bucket.dimension.words}: Limit {bucket.limit}, Requested {math.ceil(amount)}, please reduce your message "
            f"size and try again.{_UPGRADE}"
        )
        return ApiError(413, message, kind=bucket.dimension.kind, code="rate_limit_exceeded")


def _buckets(rates: Rates) -> Iterable[_Bucket]:
    for dimension in DIMENSIONS:
        limit = getattr(rates, dimension.name)
        if limit is not None:
            yield _Bucket(dimension, limit)
