"""Values as people read them: durations, sizes, counts, moments, names of models, the nearest name."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING

from rich import filesize

if TYPE_CHECKING:
    from collections.abc import Iterable

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
#: Beyond this the name of a weekday may mean another week.
_WEEKDAY_IS_ENOUGH = 6 * _DAY
_KILO = 1000
_COUNTS = ("", "k", "M", "G", "T", "P")
_EXACT_BELOW = 10_000
_SMALLEST_USD = 0.0001


def or_rather(name: object, known: Iterable[str]) -> str:
    """Return the nearest known name as the end of a sentence, "" when none is near."""
    near = get_close_matches(str(name), sorted(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def duration(seconds: float) -> str:
    """Write seconds with the two units that matter: ``42 s``, ``7 min 05 s``, ``3 h 12 min``, ``2 d 4 h``."""
    whole = max(math.floor(seconds), 0)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def rough_duration(seconds: float) -> str:
    """Write an estimate in seconds no finer than it can be meant, rounded up."""
    if seconds <= _MINUTE - 10:
        return f"{max(math.ceil(seconds / 10), 1) * 10} s"
    if seconds < 2 * _HOUR:
        return f"{math.ceil(seconds / _MINUTE)} min"
    if seconds < 2 * _DAY:
        return f"{math.ceil(seconds / _HOUR)} h"
    return f"{math.ceil(seconds / _DAY)} days"


def size(count_bytes: float) -> str:
    """Write bytes in powers of 1,000, as the provider counts them: ``512 bytes``, ``1.4 MB``."""
    # Four digits are enough; with more of them 999,960 would be "1,000.0 kB".
    return filesize.decimal(int(float(f"{count_bytes:.4g}")))


def short_count(count: int) -> str:
    """Write a large count shortly: ``9,999``, ``12.3k``, ``4.6M``."""
    if count < _EXACT_BELOW:
        return f"{count:,}"
    amount, power = _scaled(count)
    return f"{amount:.1f}{_COUNTS[power]}"


def _scaled(amount: float) -> tuple[float, int]:
    """Divide by 1,000 until one decimal place shows less than 1,000; says how often."""
    amount, power = float(amount), 0
    while amount >= _KILO - 0.05 and power < len(_COUNTS) - 1:
        amount, power = amount / _KILO, power + 1
    return amount, power


def usd(amount: float) -> str:
    """Write US dollars: ``$24.71``, below a dollar with four decimals, and what is less than these show as ``under $0.0001``."""
    if 0 < amount < _SMALLEST_USD:
        return f"under ${_SMALLEST_USD}"
    return f"${amount:,.2f}" if amount >= 1 or not amount else f"${amount:.4f}"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Write a count with its noun: ``1 request``, ``2,000 requests``, ``3 batches``."""
    word = noun if count == 1 else plural or f"{noun}s"
    return f"{count:,} {word}"


def percent(part: int, whole: int) -> str:
    """Write a share; 100 % only when nothing is left, 0 % only when nothing is done."""
    if whole <= 0 or part <= 0:
        return "0 %"
    if part >= whole:
        return "100 %"
    return f"{min(max(part / whole * 100, 0.1), 99.9):.1f} %"


def moment(unix_seconds: float, *, to_the_second: bool = False) -> str:
    """Write a moment in UTC: ``2026-01-31 14:05``, or ``2026-01-31 14:05:09``."""
    return datetime.fromtimestamp(unix_seconds, UTC).strftime(
        "%Y-%m-%d %H:%M:%S" if to_the_second else "%Y-%m-%d %H:%M"
    )


def when(unix_seconds: float, now: float, *, utc: bool = False) -> str:
    """Write a moment near ``now`` as a calendar has it, to the minute: ``14:05``, ``Tue 14:05``, ``Tue 3 Mar 14:05``.

    In local time, or with ``utc`` in UTC and with these letters behind. The date is left out within six days.
    """
    zone = UTC if utc else None
    at, today = (datetime.fromtimestamp(seconds, zone) for seconds in (unix_seconds, now))
    clock = f"{at:%H:%M}{' UTC' if utc else ''}"
    if at.date() == today.date():
        return clock
    if abs(unix_seconds - now) < _WEEKDAY_IS_ENOUGH:
        return f"{at:%a} {clock}"
    year = "" if at.year == today.year else f" {at.year}"
    return f"{at:%a} {at.day} {at:%b}{year} {clock}"


def short_models(models: Iterable[str]) -> dict[str, str]:
    """Return the models in order, each with its name without its maker; with its whole name if short names were ambiguous."""
    short = {model: model.rpartition("/")[2] for model in models}
    return short if len(set(short.values())) == len(short) else {model: model for model in short}


def printable(text: str, limit: int | None = None) -> str:
    """Make a stranger's text harmless for a terminal: one line, no control characters, at most ``limit`` characters."""
    flat = " ".join(text.split())
    safe = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in flat)
    return safe if limit is None or len(safe) <= limit else safe[: max(limit - 3, 0)] + "..."
