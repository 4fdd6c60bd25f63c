"""Times beyond what Python's types hold: nanoseconds, and years after 9999 or before 1."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Callable

_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_MICROSECOND_NANOS: Final = 1_000
#: The characters of ``2024-05-01T12:30:00.123456`` and of ``12:30:00.123456``.
_DATE_TIME_CHARS: Final = 26
_TIME_CHARS: Final = 15


def exact_values(column: pa.Array) -> list[Any]:
    """Return the values of a column whose times do not all fit into Python's types; slower than Arrow's ``to_pylist``.

    A time that does not fit is a text in ISO 8601, such a duration a ``Decimal`` of seconds. A map is a list of objects with ``key`` and
    ``value``.
    """
    types, kind = pa.types, column.type
    if isinstance(column, pa.ExtensionArray) and not isinstance(kind, (pa.UuidType, pa.Bool8Type)):
        return exact_values(column.storage)
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return exact_values(column.dictionary_decode() if types.is_dictionary(kind) else pc.run_end_decode(column))
    if types.is_struct(kind):
        parts = [exact_values(column.field(place)) for place in range(kind.num_fields)]
        rows = zip(*parts, strict=True) if parts else ((),) * len(column)
        return _where_valid(column, [dict(zip(kind.names, row, strict=True)) for row in rows])
    if types.is_union(kind) or not kind.num_fields:
        restore = next((made for is_it, made in _RESTORED if is_it(kind)), None)
        if restore is None:
            return list(column.to_pylist())
        integers = column.view(pa.int32() if kind.bit_width == 32 else pa.int64()).to_pylist()  # noqa: PLR2004 - bits
        return [None if value is None else restore(value, kind) for value in integers]
    return _where_valid(column, _items(column))


def _where_valid(column: pa.Array, values: list[Any]) -> list[Any]:
    return [value if is_valid else None for value, is_valid in zip(values, column.is_valid().to_pylist(), strict=True)]


def _items(column: pa.Array) -> list[list[Any]]:
    """Return the items of lists, also for lists that are null."""
    kind = column.type
    if pa.types.is_fixed_size_list(kind):
        size = kind.list_size
        starts = [(column.offset + place) * size for place in range(len(column))]
        ends = [start + size for start in starts]
    else:
        starts = column.offsets.to_pylist()
        is_view = pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind)
        ends = (
            [start + size for start, size in zip(starts, column.sizes.to_pylist(), strict=True)]
            if is_view
            else starts[1:]
        )
        starts = starts[: len(column)]
    first, last = min(starts, default=0), max(ends, default=0)
    if pa.types.is_map(kind):
        pairs = [exact_values(part.slice(first, last - first)) for part in (column.keys, column.items)]
        inner: list[Any] = [{"key": key, "value": value} for key, value in zip(*pairs, strict=True)]
    else:
        inner = exact_values(column.values.slice(first, last - first))
    return [inner[start - first : end - first] for start, end in zip(starts, ends, strict=True)]


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


_RESTORED: Final[tuple[tuple[Callable[[pa.DataType], bool], Callable[[int, pa.DataType], Any]], ...]] = (
    (pa.types.is_timestamp, _date_time),
    (pa.types.is_time, _time),
    (pa.types.is_duration, _duration),
    (pa.types.is_date, _date),
)
