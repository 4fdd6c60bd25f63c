"""Moments and spans of time, as people write them."""

from __future__ import annotations

import re
from datetime import datetime

from batchkit.errors import UsageError

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_HAS_TIME = re.compile(r"\d[T ]\d", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def span_of(word: str | None, option: str) -> float | None:
    """Read ``90m``, ``6h``, ``2d`` in seconds; None for none. Raises ``UsageError``."""
    if word is None:
        return None
    found = _SPAN.fullmatch(word.strip().lower())
    if found is None or not (seconds := float(found[1]) * _SECONDS[found[2]]):
        raise UsageError(f"{option} {word!r} is no span of time", hint="write a number with its unit: 90m, 6h, 2d")
    return seconds


def moment_of(word: str | None, option: str) -> float | None:
    """Read an ISO time, in Unix seconds; None for none. One without a zone is local time. Raises ``UsageError``."""
    if word is None:
        return None
    # A date alone would be the midnight at its beginning, which nobody means.
    text = word.strip() if _HAS_TIME.search(word) else ""
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option} {word!r} is no time",
            hint="write the date and the time, best with a zone: 2026-12-01T08:00+01:00",
        ) from None
