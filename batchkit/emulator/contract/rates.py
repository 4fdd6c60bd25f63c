"""Rate limits: their dimensions, the plans that grant them, and Go's spelling of durations.

Dimensions and the free plan's numbers: console.groq.com/docs/rate-limits. Limits are buckets that refill steadily: its
example headers fit (30 of 14,400 requests a day are back in 180 s), and so do the waits that refusals name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Mapping

PlanName = Literal["free", "developer"]
Kind = Literal["requests", "tokens", "seconds"]

_Limit = Field(default=None, ge=1)


class Rates(BaseModel):
    """Limits of one model; None is no limit, or in a scenario the plan's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_per_minute: int | None = _Limit
    requests_per_day: int | None = _Limit
    tokens_per_minute: int | None = _Limit
    tokens_per_day: int | None = _Limit
    audio_seconds_per_hour: int | None = _Limit
    audio_seconds_per_day: int | None = _Limit

    def with_changes(self, changes: Rates) -> Rates:
        """Return these limits, with those that ``changes`` names in their place."""
        return Rates(
            **{name: _first(getattr(changes, name), getattr(self, name)) for name in _NAMES},
        )

    def times(self, factor: int) -> Rates:
        """Return ``factor`` times the limits."""
        return Rates(**{name: None if (value := getattr(self, name)) is None else value * factor for name in _NAMES})


def _first(first: int | None, second: int | None) -> int | None:
    return second if first is None else first


@dataclass(frozen=True, slots=True)
class Demand:
    """What a request asks for: ``tokens`` are the prompt's and those of the longest answer that it allows."""

    tokens: int = 0
    seconds: float = 0.0

    def of(self, kind: Kind) -> float:
        """Return the amount that a limit of a kind counts."""
        return 1 if kind == "requests" else self.tokens if kind == "tokens" else self.seconds


@dataclass(frozen=True, slots=True)
class Dimension:
    """One kind of limit: its name in ``Rates``, its words in a refusal, its period, and what it counts."""

    name: str
    words: str
    period_seconds: int
    kind: Kind


DIMENSIONS = (
    Dimension("requests_per_minute", "requests per minute (RPM)", 60, "requests"),
    Dimension("requests_per_day", "requests per day (RPD)", 86_400, "requests"),
    Dimension("tokens_per_minute", "tokens per minute (TPM)", 60, "tokens"),
    Dimension("tokens_per_day", "tokens per day (TPD)", 86_400, "tokens"),
    Dimension("audio_seconds_per_hour", "seconds of audio per hour (ASPH)", 3_600, "seconds"),
    Dimension("audio_seconds_per_day", "seconds of audio per day (ASPD)", 86_400, "seconds"),
)
_NAMES = tuple(dimension.name for dimension in DIMENSIONS)


@dataclass(frozen=True, slots=True)
class Plan:
    """What an account may do. ``rates`` are the limits of models that ``models`` does not name; sizes are bytes."""

    tiers: frozenset[str]
    batches: bool
    max_audio_bytes: int
    rates: Rates
    audio: Rates
    models: Mapping[str, Rates] = field(default_factory=dict)

    def rates_of(self, model: str, *, hears: bool) -> Rates:
        """Return the limits of a model; ``hears`` is whether the call transcribes."""
        return self.models.get(model) or (self.audio if hears else self.rates)


def _chat(minute: int, day: int, tokens: int, tokens_day: int | None = None) -> Rates:
    return Rates(requests_per_minute=minute, requests_per_day=day, tokens_per_minute=tokens, tokens_per_day=tokens_day)


FREE = Plan(
    tiers=frozenset({"on_demand"}),
    batches=False,
    max_audio_bytes=25_000_000,
    rates=_chat(30, 14_400, 6_000, 500_000),
    audio=Rates(
        requests_per_minute=20, requests_per_day=2_000, audio_seconds_per_hour=7_200, audio_seconds_per_day=28_800
    ),
    models={
        "groq/compound": _chat(15, 200, 70_000),
        "groq/compound-mini": _chat(15, 200, 70_000),
        "llama-3.3-70b-versatile": _chat(30, 1_000, 12_000, 100_000),
        "meta-llama/llama-4-scout-17b-16e-instruct": _chat(30, 1_000, 30_000, 500_000),
        "meta-llama/llama-guard-4-12b": _chat(30, 14_400, 15_000, 500_000),
        "qwen/qwen3-32b": _chat(60, 1_000, 6_000, 500_000),
        "canopylabs/orpheus-v1-english": _chat(10, 100, 1_200, 3_600),
    },
)

# Groq shows the limits of a paid plan to each organisation alone; these are of the size that users report.
DEVELOPER = Plan(
    tiers=frozenset({"on_demand", "flex", "auto"}),
    batches=True,
    max_audio_bytes=100_000_000,
    rates=_chat(1_000, 500_000, 250_000),
    audio=Rates(
        requests_per_minute=400,
        requests_per_day=200_000,
        audio_seconds_per_hour=400_000,
        audio_seconds_per_day=4_000_000,
    ),
    models={"groq/compound": _chat(200, 20_000, 200_000), "groq/compound-mini": _chat(200, 20_000, 200_000)},
)

# Without a plan nothing is short, and the headers still say so.
UNLIMITED = Plan(
    tiers=frozenset({"on_demand", "flex", "auto", "performance"}),
    batches=True,
    max_audio_bytes=100_000_000,
    rates=Rates(requests_per_day=1_000_000_000, tokens_per_minute=1_000_000_000),
    audio=Rates(requests_per_day=1_000_000_000),
)

PLANS: dict[str | None, Plan] = {None: UNLIMITED, "free": FREE, "developer": DEVELOPER}

FLEX_FACTOR = 10
"""console.groq.com/docs/flex-processing: ten times the limits of on_demand."""


def go_duration(seconds: float) -> str:
    """Write a duration as Go does: ``2m59.56s``, ``7.66s``, ``120ms``, rounded up to milliseconds."""
    milliseconds = math.ceil(round(seconds * 1_000, 3))
    if milliseconds < 1_000:  # noqa: PLR2004 - a second
        return f"{milliseconds}ms" if milliseconds > 0 else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    written = f"{rest / 1_000:g}s"
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{written}"
    return f"{minutes}m{written}" if minutes else written
