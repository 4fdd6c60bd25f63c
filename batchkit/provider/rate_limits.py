"""What a reply of an ordinary endpoint says about limits: in its headers, and in the words of a refusal.

Pure, and safe against any text: numbers that cannot be limits are ignored, and nothing here raises.

What a limit counts (console.groq.com/docs/rate-limits; the headers of other servers differ in the period alone):

- ``x-ratelimit-{limit,remaining,reset}-requests`` and ``-tokens`` count over the periods that the dialect says (``OrdinaryCalls``);
- other limits (tokens per day, audio seconds per hour, ...) are in no header, only in the words of a 429:
  "... on tokens per day (TPD): Limit 100000, Used 97050, Requested 3619. Please try again in 9m38.016s".
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from batchkit.provider.headers import parse_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchkit.provider.dialect import OrdinaryCalls

_LARGEST_LIMIT: Final = 1e12
_READ_CHARS: Final = 4_000


class LimitDimension(StrEnum):
    """What a limit counts."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    INPUT_TOKENS = "input tokens"
    OUTPUT_TOKENS = "output tokens"
    AUDIO_SECONDS = "audio seconds"


class LimitPeriod(StrEnum):
    """Over what time a limit counts."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"

    @property
    def seconds(self) -> float:
        """Return its length."""
        return _PERIOD_SECONDS[self]


_PERIOD_SECONDS: Final = {LimitPeriod.MINUTE: 60.0, LimitPeriod.HOUR: 3_600.0, LimitPeriod.DAY: 86_400.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderLimit:
    """A limit as the headers of a reply have it; None for what is absent. ``reset_seconds`` is the wait until it is whole again."""

    dimension: LimitDimension
    period: LimitPeriod
    limit: float | None = None
    remaining: float | None = None
    reset_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedLimit:
    """The limit that a refusal names; None for what it does not."""

    dimension: LimitDimension
    period: LimitPeriod | None = None
    limit: float | None = None
    used: float | None = None
    requested: float | None = None

    @property
    def is_hopeless(self) -> bool:
        """Return whether the request asks for more than the whole limit."""
        return self.limit is not None and self.requested is not None and self.requested > self.limit

    def __str__(self) -> str:
        return f"{self.dimension} per {self.period}" if self.period else str(self.dimension)


def limits_of_headers(headers: Mapping[str, str], calls: OrdinaryCalls) -> tuple[HeaderLimit, ...]:
    """Read ``x-ratelimit-*-requests`` and ``-tokens``; ``headers`` have names in lower case. Empty when there are none."""
    found = []
    for dimension, period in (
        (LimitDimension.REQUESTS, calls.requests_header),
        (LimitDimension.TOKENS, calls.tokens_header),
    ):
        limit = _count(headers.get(f"x-ratelimit-limit-{dimension}"), least=1.0)
        remaining = _count(headers.get(f"x-ratelimit-remaining-{dimension}"))
        if limit is None and remaining is None:
            continue
        reset = parse_duration(headers.get(f"x-ratelimit-reset-{dimension}", ""))
        found.append(
            HeaderLimit(
                dimension=dimension,
                period=period,
                limit=limit,
                remaining=remaining,
                reset_seconds=None if reset is None else min(reset, period.seconds),
            )
        )
    return tuple(found)


_ACRONYMS: Final = {
    "R": LimitDimension.REQUESTS,
    "T": LimitDimension.TOKENS,
    "IT": LimitDimension.INPUT_TOKENS,
    "OT": LimitDimension.OUTPUT_TOKENS,
    "AS": LimitDimension.AUDIO_SECONDS,
}
_LETTERS: Final = {"M": LimitPeriod.MINUTE, "H": LimitPeriod.HOUR, "D": LimitPeriod.DAY}
_ACRONYM: Final = re.compile(r"\b(IT|OT|R|T)P(M|D)\b|\b(AS)(H|D)\b")
_WORDS: Final = re.compile(
    r"\b(requests?|input[ _-]tokens?|output[ _-]tokens?|tokens?|audio[ _-]seconds?|seconds of audio)"
    r"[ _-]?(?:per|/|a)[ _-]?(minute|min|hour|day)\b",
    re.IGNORECASE,
)
_NUMBER: Final = r"[\s:=]{1,3}([0-9][0-9,_]{0,17}(?:\.[0-9]{1,6})?)"
_LIMIT: Final = re.compile(rf"\blimit{_NUMBER}", re.IGNORECASE)
_USED: Final = re.compile(rf"\b(?:used|current){_NUMBER}", re.IGNORECASE)
_REQUESTED: Final = re.compile(rf"\brequested{_NUMBER}", re.IGNORECASE)


def limit_of_words(message: str | None) -> NamedLimit | None:
    """Read the limit that the message of a refusal names; None when it names none."""
    text = (message or "")[:_READ_CHARS]
    acronym = _ACRONYM.search(text)
    words = _WORDS.search(text)
    if acronym:
        dimension, period = _ACRONYMS[acronym[1] or acronym[3]], _LETTERS[acronym[2] or acronym[4]]
    elif words:
        dimension, period = _dimension(words[1].lower()), _period(words[2].lower())
    else:
        return None
    return NamedLimit(
        dimension=dimension,
        period=period,
        limit=_count(_found(_LIMIT, text), least=1.0),
        used=_count(_found(_USED, text)),
        requested=_count(_found(_REQUESTED, text)),
    )


def _dimension(words: str) -> LimitDimension:
    if "audio" in words:
        return LimitDimension.AUDIO_SECONDS
    if words.startswith("request"):
        return LimitDimension.REQUESTS
    if words.startswith("input"):
        return LimitDimension.INPUT_TOKENS
    return LimitDimension.OUTPUT_TOKENS if words.startswith("output") else LimitDimension.TOKENS


def _period(word: str) -> LimitPeriod:
    return {"hour": LimitPeriod.HOUR, "day": LimitPeriod.DAY}.get(word, LimitPeriod.MINUTE)


def _found(pattern: re.Pattern[str], text: str) -> str | None:
    found = pattern.search(text)
    return found[1] if found else None


def _count(text: str | None, *, least: float = 0.0) -> float | None:
    """Read a number of things; None for text that is none, or that cannot be one."""
    if text is None or len(text) > 24:  # noqa: PLR2004 - longer than any count
        return None
    try:
        value = float(text.replace(",", "").replace("_", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) and least <= value <= _LARGEST_LIMIT else None
