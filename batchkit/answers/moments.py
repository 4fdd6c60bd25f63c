"""Dates and times in answers: the check of a schema's ``format``, and their values in columns.

A schema asks for the forms of RFC 3339, which end a time with its offset. A pydantic model also takes times without one, and
writes them so: they count as UTC.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME: Final = re.compile(r"(\d{2}:\d{2}):(\d{2})(?:\.(\d+))?(Z|z|[+-]\d{2}:\d{2})?", re.ASCII)
_LEAP_SECOND: Final = 60


def as_date(text: str) -> date:
    """Return a full date (``2026-02-28``). Raises ``ValueError``."""
    if _DAY.fullmatch(text) is None:
        raise ValueError(f"not a date: {text[:40]!r}")
    return date.fromisoformat(text)


def as_datetime(text: str) -> datetime:
    """Return a date and time in UTC, in microseconds; further digits are cut off. Raises ``ValueError``."""
    day, sign, rest = text[:10], text[10:11], text[11:]
    if sign not in {"T", "t", " "}:
        raise ValueError(f"not a date and time: {text[:40]!r}")
    moment = datetime.combine(as_date(day), time(), UTC)
    try:
        return moment + _since_midnight(rest)
    except OverflowError:
        raise ValueError(f"beyond the years 1 to 9999: {text[:40]!r}") from None


def as_time(text: str) -> time:
    """Return a time of the day in UTC, in microseconds; further digits are cut off. Raises ``ValueError``."""
    # The sum may begin a day earlier or later; a time of the day has no day.
    return (datetime(2000, 1, 2, tzinfo=UTC) + _since_midnight(text)).time()


def _since_midnight(text: str) -> timedelta:
    """Return the time from midnight in UTC to a time of the day with an offset."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"not a time: {text[:40]!r}")
    minute, seconds, fraction, offset = found.groups()
    if int(seconds) > _LEAP_SECOND:
        raise ValueError(f"not a time: {text[:40]!r}")
    start = datetime.fromisoformat(f"2000-01-02T{minute}{'Z' if offset is None else offset.upper()}")
    microseconds = int((fraction or "0")[:6].ljust(6, "0"))
    moment = start + timedelta(seconds=int(seconds), microseconds=microseconds)
    return moment - datetime(2000, 1, 2, tzinfo=UTC)


def _has_offset(text: str) -> bool:
    return text[-1:] in {"Z", "z"} or text[-6:-5] in {"+", "-"}


def _is(read: Callable[[str], object]) -> Callable[[Any], bool]:
    def holds(value: Any) -> bool:
        try:
            read(value)
        except ValueError:
            return False
        return read is as_date or (_has_offset(value) and value[10:11] != " ")

    return holds


#: The checks of a schema's formats, for texts: what they accept has a value here.
FORMATS: Final[dict[str, Callable[[Any], bool]]] = {
    "date": _is(as_date),
    "date-time": _is(as_datetime),
    "time": _is(as_time),
}
