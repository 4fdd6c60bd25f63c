"""The columns of a query: types learned from its first rows, and values brought to them."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

import pyarrow as pa

from batchkit.datasets.rows import decimals_field, is_json, json_field, json_texts
from batchkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

#: The rows that types are learned from.
ROWS_FOR_TYPES: Final = 10_000
_SHOWN_CHARS: Final = 40
#: Type codes of Postgres.
_JSON_CODES: Final = frozenset({114, 3802})
_NUMERIC_CODE: Final = 1700
_DECIMAL_DIGITS: Final = 38
_MOST_DECIMAL_DIGITS: Final = 76
_EXACT: Final = 2**53  # the integers that a double holds without loss
#: Stands for an integer that no double holds, until it is clear that the column has no doubles.
_WIDE: Final = pa.uint64()
_TYPES: Final[dict[type, pa.DataType]] = {
    bool: pa.bool_(),
    float: pa.float64(),
    str: pa.string(),
    bytes: pa.binary(),
    dt.date: pa.date32(),
    dt.timedelta: pa.duration("us"),
}


class Described(NamedTuple):
    """What the database says about a column: its type's code, and the digits and decimal places of a ``numeric``."""

    name: str
    code: Any = None
    precision: int | None = None
    scale: int | None = None


def column(described: Described, values: Iterable[Any]) -> pa.Field:
    """Return the column for the values that were seen in it; values without a common type make it text, or JSON if they are nested."""
    name = described.name
    seen = [value for value in values if value is not None]
    if described.code in _JSON_CODES or any(isinstance(value, (dict, tuple)) for value in seen):
        return json_field(name)
    found = {type_of(value) for value in seen}
    if found == {pa.int64(), pa.float64()}:
        return decimals_field(name, are_whole_without_fraction=True)
    kind = _common(found)
    if kind is None:
        return json_field(name) if any(isinstance(value, list) for value in seen) else pa.field(name, pa.string())
    return pa.field(name, _final(kind, described))


def type_of(value: Any) -> pa.DataType | None:
    """Return the type of a value, text for values without an Arrow type; None for one that only JSON holds."""
    found: pa.DataType | None = _TYPES.get(type(value), pa.string())
    match value:
        case None:
            found = pa.null()
        case dt.datetime():
            found = pa.timestamp("us", None if value.tzinfo is None else "UTC")
        case dt.time() if value.tzinfo is None:
            found = pa.time64("us")
        case list():
            inner = _common({type_of(item) for item in value})
            found = None if inner is None else pa.list_(inner)
        case dict() | tuple():
            found = None
        case Decimal():
            found = _decimal(value)
        case int() if type(value) is int:
            found = _integer(value)
    return found


def _integer(value: int) -> pa.DataType:
    if not -(2**63) <= value < 2**63:
        return pa.string()
    return pa.int64() if -_EXACT <= value <= _EXACT else _WIDE


def _decimal(value: Decimal) -> pa.DataType:
    if not value.is_finite():
        return pa.string()
    _, digits, exponent = value.as_tuple()
    scale = max(-int(exponent), 0)
    precision = max(len(digits) + max(int(exponent), 0), scale, 1)
    return pa.string() if precision > _MOST_DECIMAL_DIGITS else pa.decimal256(precision, scale)


def _common(types: Collection[pa.DataType | None]) -> pa.DataType | None:
    """Return the type that holds the values of all; null for none, None if there is no such type."""
    if None in types:
        return None
    known = {kind for kind in types if kind is not None and not pa.types.is_null(kind)}
    if len(known) < 2:  # noqa: PLR2004 - one type alone is that of all
        return next(iter(known), pa.null())
    if all(map(pa.types.is_list, known)):
        inner = _common({kind.value_type for kind in known})
        return None if inner is None else pa.list_(inner)
    if all(map(pa.types.is_decimal, known)):
        return _common_decimal(known)
    return {frozenset({pa.int64(), _WIDE}): _WIDE, frozenset({pa.int64(), pa.float64()}): pa.float64()}.get(
        frozenset(known)
    )


def _common_decimal(types: Collection[pa.DataType]) -> pa.DataType | None:
    scale = max(kind.scale for kind in types)
    precision = scale + max(kind.precision - kind.scale for kind in types)
    return pa.decimal256(precision, scale) if precision <= _MOST_DECIMAL_DIGITS else None


def _final(kind: pa.DataType, described: Described) -> pa.DataType:
    """Return the type of a column whose values have the type ``kind``; a decimal has room for more digits than were seen."""
    if pa.types.is_list(kind):
        return pa.list_(_final(kind.value_type, described._replace(code=None)))
    if pa.types.is_null(kind):
        kind = pa.decimal128(1, 0) if described.code == _NUMERIC_CODE else pa.string()
    if kind == _WIDE:
        return pa.int64()
    if not pa.types.is_decimal(kind):
        return kind
    precision, scale = described.precision, described.scale
    if described.code != _NUMERIC_CODE or precision is None or scale is None or not 0 <= scale <= precision:
        precision, scale = kind.precision, kind.scale
        precision = _DECIMAL_DIGITS if precision <= _DECIMAL_DIGITS else _MOST_DECIMAL_DIGITS
    if precision > _MOST_DECIMAL_DIGITS:
        return pa.string()
    return (pa.decimal128 if precision <= _DECIMAL_DIGITS else pa.decimal256)(precision, scale)


def array(field: pa.Field, values: Sequence[Any], first_row: int) -> pa.Array:
    """Return a column of a block that begins with row ``first_row``. Raises ``UsageError`` for a value that does not fit the type."""
    if is_json(field):
        return pa.array(json_texts(_json_value(value) for value in values), pa.string())
    if field.type == pa.string():
        return pa.array([value if value is None else _text(value) for value in values], pa.string())
    for row, value in enumerate(values, first_row):
        if value is not None and not _fits(type_of(value), field.type):
            _fail(field, row, value)
    if pa.types.is_list(field.type):
        values = [_listed(value, field.type) for value in values]
    return pa.array(values, field.type)


def _fits(found: pa.DataType | None, wanted: pa.DataType) -> bool:
    if found is None or found == wanted:
        return found is not None
    if pa.types.is_list(wanted) and pa.types.is_list(found):
        return _fits(found.value_type, wanted.value_type)
    if pa.types.is_decimal(wanted) and pa.types.is_decimal(found):
        whole, room = found.precision - found.scale, wanted.precision - wanted.scale
        return bool(found.scale <= wanted.scale and whole <= room)
    fitting = {pa.int64(): [_WIDE], pa.float64(): [pa.int64()]}
    return bool(pa.types.is_null(found) or wanted == pa.string() or found in fitting.get(wanted, []))


def _listed(value: Any, kind: pa.DataType) -> Any:
    if isinstance(value, list) and pa.types.is_list(kind):
        return [_listed(item, kind.value_type) for item in value]
    return _text(value) if value is not None and kind == pa.string() else value


def _fail(field: pa.Field, row: int, value: Any) -> NoReturn:
    shown = repr(value)[:_SHOWN_CHARS]
    raise UsageError(
        f"row {row:,} of the query has {shown} in the column {field.name!r}, whose first {ROWS_FOR_TYPES:,} values are"
        f" {field.type}",
        hint=f"convert it in the query: cast({field.name} as text) as {field.name}",
    )


def _text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _json_value(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(name): _json_value(member) for name, member in value.items()}
    return [_json_value(item) for item in value] if isinstance(value, (list, tuple)) else _text(value)
