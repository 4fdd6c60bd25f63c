"""Columns of answers' values: what fits a column's type, and what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from batchkit.answers.moments import as_date, as_datetime, as_time
from batchkit.datasets.rows import is_json, json_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def filled(field: pa.Field, values: Sequence[Any]) -> tuple[pa.Array, list[int]]:
    """Return a column of values, and the places of values that do not fit its type and became null.

    Texts become dates and times where the column has them.
    """
    if is_json(field):
        return pa.array(json_texts(values), pa.string()), []
    if _has_moments(field.type):
        values = [_with_moments(value, field.type) for value in values]
    try:
        return pa.array(values, field.type), []
    except (pa.ArrowException, OverflowError):
        cells = [fitted(value, field.type) for value in values]
        pairs = enumerate(zip(values, cells, strict=True))
        unfit = [place for place, (value, cell) in pairs if value is not None and cell is None]
        return pa.array(cells, field.type), unfit


def fitted(value: Any, kind: pa.DataType) -> Any:
    """Return a value as its type accepts it, or None if it does not fit."""
    value = _with_moments(value, kind)
    try:
        pa.scalar(value, kind)
    except (pa.ArrowException, OverflowError):
        try:
            rounded = _rounded(value, kind)
            pa.scalar(rounded, kind)
        except (pa.ArrowException, OverflowError):
            return None
        return rounded
    return value


def _rounded(value: Any, kind: pa.DataType) -> Any:
    """Convert whole numbers to decimals where the type is decimal: Arrow refuses numbers that a double cannot hold exactly."""
    if isinstance(value, int) and pa.types.is_floating(kind):
        return float(value)
    return _members(value, kind, _rounded)


def _with_moments(value: Any, kind: pa.DataType) -> Any:
    """Return a value with dates and times for their texts; a text that is none stays a text."""
    read = _reader(kind)
    if read is None:
        return _members(value, kind, _with_moments)
    try:
        return read(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _members(value: Any, kind: pa.DataType, convert: Callable[[Any, pa.DataType], Any]) -> Any:
    """Return a list or an object with converted members; an object has the members of its type."""
    if isinstance(value, list) and pa.types.is_list(kind):
        return [convert(item, kind.value_type) for item in value]
    if isinstance(value, dict) and pa.types.is_struct(kind):
        return {field.name: convert(value.get(field.name), field.type) for field in kind}
    return value


def _reader(kind: pa.DataType) -> Callable[[str], Any] | None:
    if pa.types.is_date(kind):
        return as_date
    if pa.types.is_timestamp(kind):
        return as_datetime
    return as_time if pa.types.is_time(kind) else None


def _has_moments(kind: pa.DataType) -> bool:
    if kind.num_fields:
        return any(_has_moments(kind.field(place).type) for place in range(kind.num_fields))
    return _reader(kind) is not None
