"""Times beyond what Python's types hold: nanoseconds, and years after 9999 or before 1."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable

_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_MICROSECOND_NANOS: Final = 1_000
#: The characters of ``2024-05-01T12:30:00.123456`` and of ``12:30:00.123456``.
_DATE_TIME_CHARS: Final = 26
_TIME_CHARS: Final = 15


def has_times(kind: pa.DataType) -> bool:
    """Whether a type is temporal, or has a temporal part."""
    if kind.num_fields:
        return any(has_times(kind.field(place).type) for place in range(kind.num_fields))
    return bool(pa.types.is_temporal(kind))


def as_integers(kind: pa.DataType) -> pa.DataType:
    """Return a plain type (see ``rows.plain_type``) with integers in the place of its times."""
    types = pa.types
    if types.is_struct(kind):
        return pa.struct([pa.field(field.name, as_integers(field.type)) for field in kind])
    if types.is_list(kind):
        return pa.list_(as_integers(kind.value_type))
    if not types.is_temporal(kind) or types.is_interval(kind):
        return kind
    return pa.int32() if types.is_date32(kind) or types.is_time32(kind) else pa.int64()


def restorer(kind: pa.DataType) -> Callable[[Any], Any] | None:
    """Return a function from a value of ``as_integers(kind)`` to a time; None if the type has no times.

    A time that Python's type cannot hold is a text in ISO 8601, such a duration a ``Decimal`` of seconds.
    """
    types = pa.types
    if types.is_struct(kind):
        return _of_struct(kind)
    if types.is_list(kind):
        inner = restorer(kind.value_type)
        return None if inner is None else lambda items: None if items is None else list(map(inner, items))
    for is_it, restore in (
        (types.is_timestamp, _date_time),
        (types.is_time, _time),
        (types.is_duration, _duration),
        (types.is_date, _date),
    ):
        if is_it(kind):
            return lambda value: None if value is None else restore(value, kind)
    return None


def _of_struct(kind: pa.StructType) -> Callable[[Any], Any] | None:
    inner = {field.name: found for field in kind if (found := restorer(field.type)) is not None}

    def restore(value: dict[str, Any] | None) -> dict[str, Any] | None:
        return value if value is None else {**value, **{name: found(value[name]) for name, found in inner.items()}}

    return restore if inner else None


def _in_python(value: int, kind: pa.DataType) -> Any:
    return pa.scalar(value, kind).as_py()


def _date_time(value: int, kind: pa.DataType) -> Any:
    micros, nanos = _split(value, kind.unit)
    try:
        exact = _in_python(micros, pa.timestamp("us", kind.tz))
    except (OverflowError, ValueError):
        return _far(value * 10**9 // _PER_SECOND[kind.unit], "Z" if kind.tz else "")
    return exact if not nanos else _with_nanos(exact.isoformat(timespec="microseconds"), _DATE_TIME_CHARS, nanos)


def _time(value: int, kind: pa.DataType) -> Any:
    micros, nanos = _split(value, kind.unit)
    exact = _in_python(micros, pa.time64("us"))
    return exact if not nanos else _with_nanos(exact.isoformat(timespec="microseconds"), _TIME_CHARS, nanos)


def _duration(value: int, kind: pa.DataType) -> Any:
    micros, nanos = _split(value, kind.unit)
    try:
        return dt.timedelta(microseconds=micros) if not nanos else Decimal(value).scaleb(-9).normalize()
    except OverflowError:
        return Decimal(value) / _PER_SECOND[kind.unit]


def _date(value: int, kind: pa.DataType) -> Any:
    days = value if pa.types.is_date32(kind) else value // 86_400_000
    try:
        return dt.date(1970, 1, 1) + dt.timedelta(days=days)
    except OverflowError:
        return _far(days * 86_400 * 10**9, "")[: -len("T00:00:00")]


def _split(value: int, unit: str) -> tuple[int, int]:
    """Return whole microseconds, and the nanoseconds beyond them."""
    return divmod(value * (10**9 // _PER_SECOND[unit]), _MICROSECOND_NANOS)


def _with_nanos(text: str, place: int, nanos: int) -> str:
    return f"{text[:place]}{nanos:03}{text[place:]}"


def _far(nanos: int, zone: str) -> str:
    """Return a moment outside of Python's years as text, by the same weekdays and months in the 400 years of a calendar's cycle."""
    seconds, rest = divmod(nanos, 10**9)
    cycles, within = divmod(seconds, 146_097 * 86_400)
    near = dt.datetime(1970, 1, 1) + dt.timedelta(seconds=within)  # noqa: DTZ001 - the zone is written by the caller
    year = near.year + 400 * cycles
    shown = f"{year:04}" if 0 <= year <= dt.MAXYEAR else f"{year:+05}"
    fraction = f".{rest:09}".rstrip("0") if rest else ""
    return f"{shown}{near.isoformat()[4:]}{fraction}{zone}"
