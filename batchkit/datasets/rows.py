"""Conversions between Arrow's columns and Python's values, for templates, scores and outputs that are text.

Columns keep the types of their source. What is read of them are Python's values, of the few types of ``plain_type``. Marks in the
metadata of a field say what its type does not:

- JSON: a text column that holds JSON, because its values are of several kinds, or of a kind without an Arrow type.
- absent: null means that the row did not have the column. A null that the row did have is the JSON text ``null``.
- numbers: how the source wrote the whole numbers among decimals, as ``1`` or as ``1.0``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from batchkit.datasets.metadata import namers
from batchkit.datasets.temporal import exact_values
from batchkit.datasets.values import FractionalFloat, Row, as_json, is_whole, json_text, present
from batchkit.errors import UsageError
from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_JSON: Final = b"batchkit.json"
_ABSENT: Final = b"batchkit.absent"
_NUMBERS: Final = b"batchkit.numbers"
_WHOLE: Final = b"whole"
_FRACTIONAL: Final = b"fractional"


def json_field(name: str) -> pa.Field:
    """Return a text column that holds JSON."""
    return pa.field(name, pa.string(), metadata={_JSON: b"1"})


def decimals_field(name: str, *, are_whole_without_fraction: bool) -> pa.Field:
    """Return a column of floats with the way in which whole numbers are written."""
    return pa.field(name, pa.float64(), metadata={_NUMBERS: _WHOLE if are_whole_without_fraction else _FRACTIONAL})


def absent_field(field: pa.Field) -> pa.Field:
    """Return a column in which null means that the row does not have it."""
    return field.with_metadata({**(field.metadata or {}), _ABSENT: b"1"})


def is_json(field: pa.Field) -> bool:
    """Whether a column's text is JSON."""
    return _has(field, _JSON) and _is_text(field.type)


def is_absent(field: pa.Field) -> bool:
    """Whether null means that a row does not have the column."""
    return _has(field, _ABSENT)


def _has(field: pa.Field, mark: bytes, value: bytes = b"1") -> bool:
    return bool(field.metadata) and field.metadata.get(mark) == value


def rows_of(batch: pa.RecordBatch) -> Sequence[dict[str, Any]]:
    """Return a batch as dictionaries: JSON texts parsed, class labels by their names; a ``Row`` where columns may be absent.

    A time that Python cannot hold (nanoseconds, years beyond 9999) is a text in ISO 8601.
    """
    columns = values_of(batch)
    for place, namer in namers(batch.schema).items():
        columns[place] = list(map(namer, columns[place]))
    names = batch.schema.names
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return _with_absent(batch, rows)


def _with_absent(batch: pa.RecordBatch, rows: list[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    nulls = {
        field.name: column.is_null().to_pylist()
        for field, column in zip(batch.schema, batch.columns, strict=True)
        if is_absent(field)
    }
    if not nulls:
        return rows
    return [
        Row(row, absent=[name for name, are_null in nulls.items() if are_null[place]]) for place, row in enumerate(rows)
    ]


def records_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return a batch as the objects of JSON Lines: values that JSON can express, without absent columns."""
    names = batch.schema.names
    columns = [
        list(map(as_json, values)) if _needs_conversion(field) else values
        for field, values in zip(batch.schema, values_of(batch), strict=True)
    ]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return list(map(present, _with_absent(batch, rows)))


def values_of(batch: pa.RecordBatch) -> list[list[Any]]:
    """Return a batch as columns of values."""
    return [column_values(field, column) for field, column in zip(batch.schema, batch.columns, strict=True)]


def column_values(field: pa.Field, column: pa.Array) -> list[Any]:
    """Return the values of one column."""
    try:
        values = _python_values(column)
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the column {field.name!r} has text that is not UTF-8", hint="save it as bytes, or convert it"
        ) from error
    if is_json(field):
        return [None if text is None else _parsed(text) for text in values]
    if not pa.types.is_floating(field.type):
        return values
    if _has(field, _NUMBERS, _WHOLE):
        return [int(value) if value is not None and is_whole(value) else value for value in values]
    if _has(field, _NUMBERS, _FRACTIONAL):
        return [value if value is None else FractionalFloat(value) for value in values]
    return values


def _parsed(text: str) -> Any:
    try:
        return jsonl.loads_exactly(text)
    except jsonl.MalformedJson:
        # Another program has changed the text, and kept the mark.
        return text


def _python_values(column: pa.Array) -> list[Any]:
    plain = plain_type(column.type)
    try:
        if _has_views_of_lists(column.type):
            return exact_values(column)
        return list((column if column.type == plain else column.cast(plain)).to_pylist())
    except UnicodeDecodeError:
        raise
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError, OverflowError):
        # A time that Python does not have, or a conversion that Arrow does not.
        return exact_values(column)


def json_texts(values: Iterable[Any]) -> list[str | None]:
    """Return values as the texts of a JSON column; None stays None."""
    return [None if value is None else json_text(value) for value in values]


def _needs_conversion(field: pa.Field) -> bool:
    kind = field.type
    if kind.num_fields:
        return any(_needs_conversion(kind.field(place)) for place in range(kind.num_fields))
    types = pa.types
    # The writer of JSON knows these, and writes NaN as null.
    known = (
        types.is_boolean,
        types.is_integer,
        types.is_floating,
        types.is_string,
        types.is_large_string,
        types.is_date,
    )
    return _has(field, _NUMBERS, _FRACTIONAL) or not any(test(kind) for test in known)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the one type for the many forms of a type: text is ``string``, a dictionary its values, a map a list of pairs.

    Times have microseconds, the limit of Python's times. Types without another form are as they are.
    """
    types = pa.types
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if isinstance(kind, (pa.UuidType, pa.Bool8Type)):
        return kind
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if types.is_nested(kind):
        return _plain_nested(kind)
    for is_it, plain in (
        (_is_text, pa.string()),
        (_is_bytes, pa.binary()),
        (types.is_timestamp, pa.timestamp("us", getattr(kind, "tz", None))),
        (types.is_time, pa.time64("us")),
        (types.is_duration, pa.duration("us")),
    ):
        if is_it(kind):
            return plain
    return kind


def _plain_nested(kind: pa.DataType) -> pa.DataType:
    types = pa.types

    if types.is_struct(kind):
        return pa.struct([pa.field(field.name, plain_type(field.type)) for field in kind])
    if types.is_map(kind):
        return pa.list_(pa.struct([("key", plain_type(kind.key_type)), ("value", plain_type(kind.item_type))]))
    # Arrow converts no union, and a list view with the wrong values (arrow 26: [[1, 2], None, [3]] loses its 3).
    is_kept = types.is_union(kind) or types.is_list_view(kind) or types.is_large_list_view(kind)
    return kind if is_kept else pa.list_(plain_type(kind.value_type))


def _has_views_of_lists(kind: pa.DataType) -> bool:
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        return True
    return any(_has_views_of_lists(kind.field(place).type) for place in range(kind.num_fields))


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return any(test(kind) for test in (types.is_null, types.is_string, types.is_large_string, types.is_string_view))


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    tests = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def bring_to(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Convert a batch with the same columns, in any order, to a schema of equal or wider types. Raises ``pyarrow.ArrowInvalid``."""
    columns = [batch.column(field.name) for field in schema]
    return pa.RecordBatch.from_arrays(
        [
            column if column.type == field.type else column.cast(field.type)
            for column, field in zip(columns, schema, strict=True)
        ],
        schema=schema,
    )
