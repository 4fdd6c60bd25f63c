"""Conversions between Arrow's columns and Python's values: plain types, and columns of JSON.

A column whose values are of several kinds, or of a kind without an Arrow type, is a text column that holds JSON, with a mark in its
field's metadata. Reading rows returns the values; JSON Lines are written with the values.
"""

from __future__ import annotations

import base64
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from batchkit.errors import UsageError
from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Iterable

_JSON_MARK = {b"batchkit.json": b"1"}


def json_field(name: str) -> pa.Field:
    """Return a text column that holds JSON."""
    return pa.field(name, pa.string(), metadata=_JSON_MARK)


def is_json(field: pa.Field) -> bool:
    """Whether a column's text is JSON."""
    return bool(field.metadata) and b"batchkit.json" in field.metadata


def rows_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return a batch as dictionaries: JSON texts parsed, times as ``datetime``."""
    names = batch.schema.names
    return [dict(zip(names, row, strict=True)) for row in zip(*values_of(batch), strict=True)]


def values_of(batch: pa.RecordBatch) -> list[list[Any]]:
    """Return a batch as columns of values."""
    return [_values(field, column) for field, column in zip(batch.schema, batch.columns, strict=True)]


def _values(field: pa.Field, column: pa.Array) -> list[Any]:
    values: list[Any] = column.to_pylist()
    if is_json(field):
        return [None if text is None else jsonl.loads(text) for text in values]
    return values


def json_texts(values: Iterable[Any]) -> list[str | None]:
    """Return values as the texts of a JSON column; None stays None."""
    return [None if value is None else jsonl.dumps(value).decode() for value in values]


def readable(field: pa.Field, values: list[Any]) -> list[Any]:
    """Return values that JSON can express: bytes as base64, decimals as text, durations as seconds."""
    return [_as_json(value) for value in values] if _needs_conversion(field.type) else values


def _needs_conversion(kind: pa.DataType) -> bool:
    if kind.num_fields:
        return any(_needs_conversion(kind.field(place).type) for place in range(kind.num_fields))
    types = pa.types
    return bool(types.is_binary(kind) or types.is_decimal(kind) or types.is_duration(kind))


def _as_json(value: Any) -> Any:
    match value:
        case bytes():
            return base64.b64encode(value).decode()
        case Decimal():
            return str(value)
        case timedelta():
            return value.total_seconds()
        case list():
            return [_as_json(item) for item in value]
        case dict():
            return {name: _as_json(member) for name, member in value.items()}
    return value


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema to which batches are converted: ``plain_type`` everywhere, no metadata but the JSON mark.

    Raises ``UsageError`` for a type that is not supported.
    """
    return pa.schema(
        [
            pa.field(field.name, plain_type(field.type, field.name), metadata=_JSON_MARK if is_json(field) else None)
            for field in schema
        ]
    )


def plain_type(kind: pa.DataType, column: str) -> pa.DataType:
    """Return the one type for the many forms of a type: text is ``string``, a dictionary its values, a map a list of pairs.

    Nanoseconds become microseconds, the limit of Python's times. Raises ``UsageError`` as ``plain_schema``.
    """
    types = pa.types
    if types.is_dictionary(kind):
        return plain_type(kind.value_type, column)
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type, column)
    if types.is_nested(kind):
        return _plain_nested(kind, column)
    if types.is_run_end_encoded(kind) or types.is_interval(kind):
        raise _not_read(kind, column)
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


def _plain_nested(kind: pa.DataType, column: str) -> pa.DataType:
    types = pa.types
    if types.is_struct(kind):
        return pa.struct([pa.field(field.name, plain_type(field.type, column)) for field in kind])
    if types.is_map(kind):
        pair = [("key", plain_type(kind.key_type, column)), ("value", plain_type(kind.item_type, column))]
        return pa.list_(pa.struct(pair))
    if types.is_union(kind):
        raise _not_read(kind, column)
    return pa.list_(plain_type(kind.value_type, column))


def _not_read(kind: pa.DataType, column: str) -> UsageError:
    return UsageError(
        f"column {column!r} has the type {kind}, which is not supported", hint="leave it out, or save it as text"
    )


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return any(test(kind) for test in (types.is_null, types.is_string, types.is_large_string, types.is_string_view))


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    tests = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def bring_to(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Convert a batch with the same columns, in any order, to a schema of equal or wider types. Raises ``pyarrow.ArrowInvalid``."""
    # A wider number loses nothing; times may lose nanoseconds.
    columns = [batch.column(field.name) for field in schema]
    return pa.RecordBatch.from_arrays(
        [
            column if column.type == field.type else column.cast(field.type, safe=not _has_times(field.type))
            for column, field in zip(columns, schema, strict=True)
        ],
        schema=schema,
    )


def _has_times(kind: pa.DataType) -> bool:
    if kind.num_fields:
        return any(_has_times(kind.field(place).type) for place in range(kind.num_fields))
    return bool(pa.types.is_temporal(kind))
