"""The columns of annotated tables in the results database: their types, and what a database does not take."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import (
    BigInteger,
    Boolean,
    Date,
    DateTime,
    Double,
    LargeBinary,
    Numeric,
    Text,
    Time,
    TypeDecorator,
)

from batchkit.datasets.rows import plain_type
from batchkit.datasets.values import text_of
from batchkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy.engine import Dialect
    from sqlalchemy.types import TypeEngine

_MOST_NAME_BYTES: Final = 63  # Postgres cuts longer names silently
_MOST_COLUMNS_SQLITE: Final = 2_000
_MOST_COLUMNS_POSTGRES: Final = 1_600
#: Of a row in a page of Postgres; a value of more than 24 bytes may be stored elsewhere.
_ROW_BYTES: Final = 8_160
_HEAD_BYTES: Final = 40
_REFERENCE_BYTES: Final = 24
_ALIGNED_BYTES: Final = 8
#: Of values that are never stored elsewhere.
_WIDTHS: Final[dict[type, int]] = {Boolean: 1, BigInteger: 8, Double: 8, DateTime: 8, Date: 4, Time: 8}


class _Unsigned(TypeDecorator[int]):
    """Unsigned integers up to 2**64 - 1; text on SQLite, which rounds large ones."""

    impl = Numeric(20, 0)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else Numeric(20, 0))

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Any:
        return str(value) if value is not None and dialect.name == "sqlite" else value


class _Decimal(TypeDecorator[Decimal]):
    """Decimals with all their digits; text on SQLite, which has no decimals."""

    impl = Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else self.impl_instance)

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        return text_of(value) if value is not None and dialect.name == "sqlite" else value


def sql_type(kind: pa.DataType) -> TypeEngine[Any]:
    """Return the type of a column in the database."""
    kind = plain_type(kind)
    types = pa.types
    choices: tuple[tuple[bool, TypeEngine[Any]], ...] = (
        (types.is_boolean(kind), Boolean()),
        (types.is_uint64(kind), _Unsigned()),
        (types.is_integer(kind), BigInteger()),
        (types.is_floating(kind) or types.is_duration(kind), Double()),
        (types.is_decimal(kind), _decimal_type(kind)),
        (types.is_timestamp(kind), DateTime(timezone=types.is_timestamp(kind) and kind.tz is not None)),
        (types.is_date(kind), Date()),
        (types.is_time(kind), Time()),
        (types.is_binary(kind), LargeBinary()),
    )
    return next((chosen for is_it, chosen in choices if is_it), Text())


def _decimal_type(kind: pa.DataType) -> TypeEngine[Any]:
    # Arrow also knows scales outside of the precision.
    is_usual = pa.types.is_decimal(kind) and 0 <= kind.scale <= kind.precision
    return _Decimal(kind.precision, kind.scale) if is_usual else _Decimal()


def check_names(schema: pa.Schema, name: str) -> None:
    """Raise ``UsageError`` when the table ``name`` cannot have columns with these names."""
    seen: dict[str, str] = {}
    for column in schema.names:
        # For SQLite names that differ only in case are equal.
        if (other := seen.setdefault(column.lower(), column)) != column:
            raise UsageError(
                f"the columns {other!r} and {column!r} differ only in case, which a database table cannot have",
                hint="write a file, or rename one",
            )
        if len(column.encode()) > _MOST_NAME_BYTES or not column.isprintable():
            raise UsageError(
                f"{column!r} cannot be the name of a column of the table {name!r}", hint="write a file, or rename it"
            )


def check_columns(
    schema: pa.Schema, name: str, *, is_postgres: bool, rows: Callable[[], Iterable[pa.RecordBatch]]
) -> None:
    """Raise ``UsageError`` when the table ``name`` cannot have the columns of ``schema``, by their names, their number or their width.

    ``rows`` are the rows with the first columns of the schema. They are read only if it depends on them whether a row fits.
    """
    check_names(schema, name)
    most = (_MOST_COLUMNS_POSTGRES if is_postgres else _MOST_COLUMNS_SQLITE) - 1  # one has the row's number
    if len(schema) > most:
        raise UsageError(
            f"the table {name!r} would have {len(schema):,} columns with the answers, and the database takes {most:,}",
            hint="write a file, as .parquet, or leave columns out",
        )
    if is_postgres:
        _check_width(schema, name, rows)


def _check_width(schema: pa.Schema, name: str, rows: Callable[[], Iterable[pa.RecordBatch]]) -> None:
    """Check that each row fits into a page of Postgres: long texts are stored elsewhere, and leave a reference behind."""
    widths = [_WIDTHS.get(type(sql_type(field.type)), _REFERENCE_BYTES) for field in schema]
    # Eight bytes begin at a multiple of eight.
    widths = [
        width + 7 * (width == _ALIGNED_BYTES != before)
        for before, width in zip([_ALIGNED_BYTES, *widths], widths, strict=False)
    ]
    head = _HEAD_BYTES + len(schema) // 8
    if head + sum(widths) <= _ROW_BYTES:
        return
    number = 0
    for batch in rows():
        used = pa.array([head + sum(widths[batch.num_columns :])] * len(batch), pa.int64())
        for column, width in zip(batch.columns, widths, strict=False):
            used = pc.add(used, _used(column, width))
        too_wide = pc.index(pc.greater(used, _ROW_BYTES), value=True).as_py()
        if too_wide >= 0:
            raise UsageError(
                f"row {number + too_wide + 1:,} has too many columns for a row of the database: {len(schema):,} of the table"
                f" {name!r} with the answers need {used[too_wide].as_py():,} bytes, and a row has {_ROW_BYTES:,}",
                hint="write a file, as .parquet, or leave columns out",
            )
        number += len(batch)


def _used(column: pa.Array, width: int) -> pa.Array:
    """Return how many bytes of a row each value needs at most."""
    most = pc.multiply(pc.cast(column.is_valid(), pa.int64()), width)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return most
    lengths = pc.add(pc.cast(pc.fill_null(pc.binary_length(column), -1), pa.int64()), 1)
    return pc.min_element_wise(most, lengths)
