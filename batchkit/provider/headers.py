"""Times in a reply's headers: when it was sent, and how long the server asks to wait."""

from __future__ import annotations

import math
import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A daily limit is the longest that Groq documents (console.groq.com/docs/rate-limits); a longer wait comes from a wrong clock.
LONGEST_WAIT_SECONDS = 86_400.0

_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "\u00b5s": 1e-6, "ns": 1e-9}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ms|us|\u00b5s|ns|h|m|s)")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+")
_LONGEST_DURATION_CHARS = 64
_RESET_PREFIX = "x-ratelimit-reset"
_REMAINING_PREFIX = "x-ratelimit-remaining"
_OLDEST_UNIX_TIME = 1e9


def parse_duration(text: str) -> float | None:
    """Read a duration as Go writes it (``2m59.56s``, ``7.66s``, ``120ms``), in seconds; None for other text.

    Source: pkg.go.dev/time#ParseDuration; Groq's rate-limit headers use it (console.groq.com/docs/rate-limits).
    """
    text = text.strip()
    if len(text) > _LONGEST_DURATION_CHARS or not _DURATION.fullmatch(text):
        return None
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _DURATION_PART.findall(text))


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Read ``Retry-After`` in seconds: a number, a Go duration, or an HTTP date (RFC 9110, section 10.2.3).

    A date counts from the reply's own ``Date`` if it has one, so that a wrong local clock does no harm; else from ``now``
    (Unix seconds). None when the header is absent or unreadable.
    """
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    seconds = _number(value)
    if seconds is None:
        seconds = parse_duration(value)
    if seconds is None:
        moment = http_date(value)
        if moment is None:
            return None
        sent_at = http_date(headers.get("date", ""))
        seconds = moment - (now if sent_at is None else sent_at)
    return _bounded(seconds)


def http_date(text: str) -> float | None:
    """Read an HTTP date (RFC 9110, section 5.6.7) in Unix seconds; None for other text."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def rate_limit_reset(headers: Mapping[str, str], *, now: float) -> float | None:
    """Read the ``x-ratelimit-reset-*`` headers in seconds: the fallback for a 429 without ``Retry-After``.

    With several of them, the latest reset of the used-up limits counts; if no limit is known to be used up, the soonest reset:
    asking too early costs one more refusal, asking too late costs a day.
    """
    resets: list[float] = []
    used_up: list[float] = []
    for name, value in headers.items():
        lowered = name.lower()
        if not lowered.startswith(_RESET_PREFIX):
            continue
        seconds = _reset(value, now)
        if seconds is None:
            continue
        resets.append(seconds)
        remaining = _number(headers.get(_REMAINING_PREFIX + lowered.removeprefix(_RESET_PREFIX), ""))
        if remaining is not None and remaining <= 0:
            used_up.append(seconds)
    if used_up:
        return max(used_up)
    return min(resets, default=None)


def _reset(value: str, now: float) -> float | None:
    seconds = _number(value)
    if seconds is None:
        seconds = parse_duration(value)
    if seconds is None:
        return None
    # Some servers send the time instead of the wait.
    return _bounded(seconds - now if seconds >= _OLDEST_UNIX_TIME else seconds)


def _number(text: str) -> float | None:
    try:
        value = float(text.strip())
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST_WAIT_SECONDS)
