"""How a value of a table reads as text: the only place that decides it, for prompts, keys, scores, slices and CSV."""

from __future__ import annotations

import base64
import datetime as dt
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

#: From here on the digits of a whole float are not all known.
_LARGEST_WHOLE: Final = 1e16


class Row(dict[str, Any]):
    """A row of which some columns are ``absent``: JSON Lines whose object does not have them. Their value here is None."""

    def __init__(self, values: Mapping[str, Any], *, absent: Collection[str]) -> None:
        super().__init__(values)
        self.absent = absent


class FractionalFloat(float):
    """A float whose text has a fraction even if it is whole, as its source wrote it (``3750.0``)."""

    __slots__ = ()


def text_of(value: Any) -> str:
    """Return a value as text.

    None and NaN are empty. Numbers have no empty fraction, decimals have all their digits. Booleans are ``true`` and ``false``, dates and times
    ISO 8601, durations seconds, bytes base64. Lists and objects are JSON.
    """
    match value:
        case str():
            text = value
        case None:
            text = ""
        case bool():
            text = "true" if value else "false"
        case float():
            text = text_of_float(value)
        case Decimal():
            text = f"{value:f}" if value.is_finite() else "" if value.is_nan() else str(value)
        case dt.timedelta():
            text = text_of_float(value.total_seconds())
        case bytes() | dt.date() | dt.time():
            text = str(as_json(value))
        case list() | dict() | tuple():
            text = json_text(value)
        case _:
            text = str(value)
    return text


def json_text(value: Any) -> str:
    """Return a value as compact JSON: a column that is absent in a ``Row`` is left out, scalars are as ``as_json`` returns them."""
    if isinstance(value, Row):
        value = present(value)
    try:
        return jsonl.dumps(value).decode()
    except TypeError:
        return jsonl.dumps(as_json(value)).decode()


def present(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without the columns that it does not have."""
    if not isinstance(row, Row) or not row.absent:
        return row
    return {name: value for name, value in row.items() if name not in row.absent}


def as_json(value: Any) -> Any:
    """Return a value that JSON can express: bytes as base64, decimals and times as text, durations as seconds, NaN as None."""
    found = value
    match value:
        case float():
            found = float(value) if math.isfinite(value) else None
        case bytes():
            found = base64.b64encode(value).decode()
        case Decimal():
            found = text_of(value) or None
        case dt.timedelta():
            found = value.total_seconds()
        case dt.date() | dt.time():
            found = value.isoformat()
        case UUID():
            found = str(value)
        case list() | tuple():
            found = [as_json(item) for item in value]
        case dict():
            found = {name: as_json(member) for name, member in value.items()}
    return found


def text_of_float(value: float) -> str:
    """Return ``text_of`` a float."""
    if math.isnan(value):
        return ""
    if type(value) is float and is_whole(value):
        return f"{value:.0f}"
    return float.__repr__(value)


def is_whole(value: float) -> bool:
    """Whether a float is written as a whole number."""
    return value.is_integer() and abs(value) < _LARGEST_WHOLE
