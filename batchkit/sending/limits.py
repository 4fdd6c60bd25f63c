"""The budget gate: requests, tokens and audio seconds per minute, hour and day.

A limit is a bucket that holds its whole amount and is refilled all the time, as the provider's own are: with "Limit 100000, Used 97050,
Requested 3619" per day it asks to wait 9m38s, which is exactly how long the missing 669 tokens take. Limits per minute are also paced:
requests leave evenly (GCRA, the generic cell rate algorithm), after a burst of a fifth of the limit at most, so that a plan of 30
requests a minute sends one every 2 seconds instead of 30 and then none.

A library such as pyrate-limiter (GCRA, weights) does not fit: its limits are fixed when it is built, and it cannot be corrected by what a
reply says of the server's own count, nor give back what a request did not use.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from batchkit.provider.rate_limits import LimitDimension, LimitPeriod

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from batchkit.provider.rate_limits import HeaderLimit, NamedLimit
    from batchkit.sending.reservations import Amounts, MeterKey

#: The share of a limit per minute that may be used at once.
_BURST_SHARE = 0.2
#: The share of a limit that is used once the server has refused something because of it.
_CAREFUL_SHARE = 0.95
#: Rounding must not cost a wait.
_TOLERANCE = 1e-6


class LimitSource(StrEnum):
    """Where a limit is known from."""

    CONFIGURED = "configured"
    HEADERS = "headers"
    REFUSAL = "refusal"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLimits:
    """Limits of one model that the user gave; None where there is none. They are upper bounds: what the server says may be lower."""

    requests_per_minute: float | None = None
    requests_per_day: float | None = None
    tokens_per_minute: float | None = None
    tokens_per_day: float | None = None
    input_tokens_per_minute: float | None = None
    output_tokens_per_minute: float | None = None
    audio_seconds_per_hour: float | None = None
    audio_seconds_per_day: float | None = None

    def by_meter(self) -> dict[MeterKey, float]:
        """Return the limits that are given."""
        of = LimitDimension
        per = LimitPeriod
        given = {
            (of.REQUESTS, per.MINUTE): self.requests_per_minute,
            (of.REQUESTS, per.DAY): self.requests_per_day,
            (of.TOKENS, per.MINUTE): self.tokens_per_minute,
            (of.TOKENS, per.DAY): self.tokens_per_day,
            (of.INPUT_TOKENS, per.MINUTE): self.input_tokens_per_minute,
            (of.OUTPUT_TOKENS, per.MINUTE): self.output_tokens_per_minute,
            (of.AUDIO_SECONDS, per.HOUR): self.audio_seconds_per_hour,
            (of.AUDIO_SECONDS, per.DAY): self.audio_seconds_per_day,
        }
        return {key: limit for key, limit in given.items() if limit is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitState:
    """A limit as it is now; ``remaining`` is what may be used at once."""

    dimension: LimitDimension
    period: LimitPeriod
    limit: float
    remaining: float
    source: LimitSource


class _Meter:
    """One limit. Times are monotonic seconds, the ``cost`` of a request is in the limit's own unit.

    ``total`` is all that was ever admitted.
    """

    def __init__(self, key: MeterKey, limit: float, source: LimitSource, now: float) -> None:
        self.dimension, self.period = key
        self.limit = limit
        self.source = source
        self.total = 0.0
        self._cap = limit if source is LimitSource.CONFIGURED else None
        self._level = limit
        self._level_at = now
        # The theoretical arrival time of GCRA: when the next request would be exactly in time.
        self._due = now
        self._is_careful = False

    @property
    def rate(self) -> float:
        """Return how much may be used per second in the long run."""
        share = _CAREFUL_SHARE if self._is_careful else 1.0
        return share * self.limit / self.period.seconds

    def remaining(self, now: float) -> float:
        """Return what the server is likely to have left."""
        self._level = min(self.limit, self._level + max(0.0, now - self._level_at) * self.limit / self.period.seconds)
        self._level_at = now
        return self._level

    def wait(self, cost: float, now: float) -> float:
        """Return for how many seconds a request has to wait; 0: it fits now. One that is larger than the limit needs all of it."""
        cost = min(cost, self.limit)
        missing = cost - self.remaining(now)
        wait = missing / self.rate if missing > _TOLERANCE * self.limit else 0.0
        if self.period is LimitPeriod.MINUTE:
            seconds = cost / self.rate
            burst = 0.0 if self._is_careful else _BURST_SHARE * self.period.seconds
            early = self._due + seconds - max(burst, seconds) - now
            wait = max(wait, early if early > _TOLERANCE else 0.0)
        return wait

    def charge(self, cost: float, now: float) -> None:
        """Count a request that was admitted."""
        cost = min(cost, self.limit)
        self.total += cost
        self._level = self.remaining(now) - cost
        self._due = max(self._due, now) + cost / self.rate

    def give_back(self, charged: float, used: float, now: float) -> None:
        """Correct a charge by what was used; a negative difference is charged."""
        unused = min(charged, self.limit) - used
        self._level = min(self.limit, self.remaining(now) + unused)
        self._due -= unused / self.rate

    def trust(self, remaining: float, since: float, now: float) -> None:
        """Correct our count by the server's. ``since`` was admitted after the request whose reply has the count.

        The server may have counted some of that or none, so what it has left lies between ``remaining`` less ``since`` and ``remaining``.
        """
        self._level = max(min(self.remaining(now), remaining), remaining - since)

    def learn(self, limit: float, source: LimitSource, now: float) -> None:
        """Take the limit that the server names; what the user gave stays the upper bound."""
        if self._cap is not None:
            if limit >= self._cap:
                return
            source = source if limit < self._cap else LimitSource.CONFIGURED
        if limit != self.limit:
            self._level = self.remaining(now) + (limit - self.limit)
            self.limit = limit
        self.source = source

    def refuse(self, now: float) -> None:
        """Note that the server counts otherwise than we do, in fixed windows perhaps: no bursts, and a little slower, from now on."""
        self._is_careful = True
        self._due = max(self._due, now)


class Budget:
    """All limits of one key. Not safe for threads by itself: ``Gates`` has the lock."""

    def __init__(self, known: KnownLimits, now: float) -> None:
        self._meters = {
            key: _Meter(key, limit, LimitSource.CONFIGURED, now) for key, limit in known.by_meter().items() if limit > 0
        }

    def wait(self, amounts: Amounts, now: float) -> float:
        """Return for how many seconds ``amounts`` have to wait; 0: they fit now."""
        return max((meter.wait(amounts.of(meter.dimension), now) for meter in self._meters.values()), default=0.0)

    def charge(self, amounts: Amounts, now: float) -> dict[MeterKey, float]:
        """Count an admitted request, and return what each meter has admitted by now."""
        for meter in self._meters.values():
            meter.charge(amounts.of(meter.dimension), now)
        return {key: meter.total for key, meter in self._meters.items()}

    def settle(self, charged: Amounts, used: Amounts, totals: Mapping[MeterKey, float], now: float) -> None:
        """Correct a charge by what was used. ``totals`` are those of its admission: later meters did not charge it."""
        for key, meter in self._meters.items():
            if key in totals:
                meter.give_back(charged.of(meter.dimension), used.of(meter.dimension), now)

    def observe(self, limits: Iterable[HeaderLimit], totals: Mapping[MeterKey, float], now: float) -> None:
        """Learn from the headers of a reply to a request whose admission has ``totals``."""
        for seen in limits:
            key = (seen.dimension, seen.period)
            if seen.limit is not None:
                self._learn(key, seen.limit, LimitSource.HEADERS, now)
            if seen.remaining is not None and key in self._meters:
                meter = self._meters[key]
                meter.trust(seen.remaining, meter.total - totals.get(key, 0.0), now)

    def refused(self, named: NamedLimit, totals: Mapping[MeterKey, float], now: float) -> None:
        """Learn from a refusal that names a limit."""
        if named.period is None:
            return
        key = (named.dimension, named.period)
        if named.limit is not None:
            self._learn(key, named.limit, LimitSource.REFUSAL, now)
        if key not in self._meters:
            return
        meter = self._meters[key]
        meter.refuse(now)
        if named.used is not None:
            meter.trust(max(0.0, meter.limit - named.used), meter.total - totals.get(key, 0.0), now)

    def seconds_for(self, requests: float, mean: Amounts, now: float) -> float | None:
        """Return how long ``requests`` more requests of ``mean`` amounts take at least; None without any limit."""
        times = [
            max(0.0, requests * min(mean.of(meter.dimension), meter.limit) - self._at_once(meter, now)) / meter.rate
            for meter in self._meters.values()
        ]
        return max(times, default=None)

    def states(self, now: float) -> tuple[LimitState, ...]:
        """Return all limits as they are now."""
        return tuple(
            LimitState(
                dimension=meter.dimension,
                period=meter.period,
                limit=meter.limit,
                remaining=max(0.0, meter.remaining(now)),
                source=meter.source,
            )
            for meter in self._meters.values()
        )

    def _at_once(self, meter: _Meter, now: float) -> float:
        return 0.0 if meter.period is LimitPeriod.MINUTE else max(0.0, meter.remaining(now))

    def _learn(self, key: MeterKey, limit: float, source: LimitSource, now: float) -> None:
        if key in self._meters:
            self._meters[key].learn(limit, source, now)
        else:
            self._meters[key] = _Meter(key, limit, source, now)
