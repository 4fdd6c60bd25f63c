"""Annotated tables in the results database: typed tables beside those of batchkit.

Each has a constraint that marks it as ours: only a marked table is ever replaced or dropped, because the database may hold tables of
others.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Self

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    Time,
    TypeDecorator,
    insert,
    inspect,
    text,
)

from batchkit.datasets.rows import column_values, is_json, plain_type
from batchkit.datasets.values import json_text, text_of
from batchkit.errors import StoreError, UsageError
from batchkit.files.jsonl import storable_json, storable_text
from batchkit.owners import is_writer_dead, new_writer
from batchkit.store.driver import copy_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy.engine import Connection, Dialect
    from sqlalchemy.engine.reflection import Inspector
    from sqlalchemy.types import TypeEngine

    from batchkit.store.engine import Store

_MARK: Final = "written_by_batchkit"
#: The prefix of the name of a table that is being written; with the name of its writer it has less than 63 bytes.
_UNFINISHED: Final = "batchkit_new_"
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


class OutputTable:
    """Writes batches of ``schema`` into the table ``name`` (in lower case), replacing an annotated table of that name.

    A context manager like ``TableWriter``: the rows go into a table of this writer in one transaction per batch. When the
    ``with`` block succeeds, that table replaces the one called ``name`` in one transaction; otherwise it is dropped.
    Several writers may have the same ``name`` at the same time: the last one to end decides what the table holds. Tables of
    processes that are certainly dead are dropped. Nested values and columns of JSON become JSON text, times with a zone become
    UTC with microseconds, null where the year is beyond 9999; decimals and unsigned integers are text on SQLite. A column ``row_number`` (``batchkit_row`` if the table has a ``row_number``)
    keeps the order, from 1. Raises ``UsageError`` when another table has the name, and ``StoreError``.
    """

    def __init__(self, store: Store, name: str, schema: pa.Schema) -> None:
        self._store = store
        self._name = name = name.lower()
        self._schema = schema
        self._count = 0
        _check_names(schema, name)
        self._numbers = "batchkit_row" if "row_number" in {column.lower() for column in schema.names} else "row_number"
        self._new = Table(
            f"{_UNFINISHED}{new_writer()}",
            MetaData(),
            # SQLite makes its own row number of exactly this type.
            Column(self._numbers, BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
            *(Column(field.name, _sql_type(field.type)) for field in schema),
            CheckConstraint("1 = 1", name=_MARK),
        )

    def __enter__(self) -> Self:
        with self._store.write() as connection:
            _serialize(connection, self._name)
            _check_ours(connection, self._name)
            self._new.create(connection)
        # An error here must not stop the writer.
        with suppress(StoreError), self._store.write() as connection:
            _drop_tables_of_the_dead(connection)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        try:
            if kind is None:
                with self._store.write() as connection:
                    self._publish(connection)
                return
        except BaseException:
            self._drop()
            raise
        self._drop()

    def _publish(self, connection: Connection) -> None:
        _serialize(connection, self._name)
        quoted = connection.dialect.identifier_preparer.quote
        _check_ours(connection, self._name)
        connection.execute(text(f"DROP TABLE IF EXISTS {quoted(self._name)}"))
        connection.execute(text(f"ALTER TABLE {quoted(self._new.name)} RENAME TO {quoted(self._name)}"))

    def _drop(self) -> None:
        # If it cannot be dropped now, a later writer drops it after this process has ended.
        with suppress(StoreError), self._store.write() as connection:
            self._new.drop(connection, checkfirst=True)

    def write(self, batch: pa.RecordBatch) -> None:
        """Write some rows, which have the writer's schema."""
        columns = [_cells(field, column) for field, column in zip(batch.schema, batch.columns, strict=True)]
        numbers = range(self._count + 1, self._count + len(batch) + 1)
        rows = list(zip(numbers, *columns, strict=True))
        with self._store.write() as connection:
            if connection.dialect.name == "postgresql":
                _copy(connection, self._new, rows)
            else:
                names = self._new.columns.keys()
                connection.execute(insert(self._new), [dict(zip(names, row, strict=True)) for row in rows])
        self._count += len(batch)


def _copy(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    names = ", ".join(map(_quoted, table.columns.keys()))

    def write(copy: Any) -> None:
        for row in rows:
            copy.write_row(row)

    copy_in(connection, f"COPY {_quoted(table.name)} ({names}) FROM STDIN", write)


def _quoted(name: str) -> str:
    # SQLAlchemy's own quoting also doubles a %, for statements with parameters.
    return '"' + name.replace('"', '""') + '"'


def _check_names(schema: pa.Schema, name: str) -> None:
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
    _check_names(schema, name)
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
    widths = [_WIDTHS.get(type(_sql_type(field.type)), _REFERENCE_BYTES) for field in schema]
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


def check_table(connection: Connection, name: str) -> None:
    """Raise ``UsageError`` when ``OutputTable`` would refuse the name, because another table has it."""
    _check_ours(connection, name.lower())


def _check_ours(connection: Connection, name: str) -> None:
    """Raise ``UsageError`` when a table or view has the name that no ``OutputTable`` wrote."""
    inspector = inspect(connection)
    if not inspector.has_table(name):
        return
    # SQLite finds a table in any case, but its constraints only by the exact name. Views are not in the list of tables.
    tables = [found for found in inspector.get_table_names() if found == name or found.lower() == name]
    if not any(_is_ours(inspector, found) for found in tables):
        raise UsageError(
            f"the database has a table {name!r} that is no annotated table; it was not touched",
            hint="choose another name: table:NAME",
        )


def _is_ours(inspector: Inspector, table: str) -> bool:
    return any(constraint["name"] == _MARK for constraint in inspector.get_check_constraints(table))


def _drop_tables_of_the_dead(connection: Connection) -> None:
    inspector = inspect(connection)
    for name in inspector.get_table_names():
        is_left = name.startswith(_UNFINISHED) and is_writer_dead(name.removeprefix(_UNFINISHED))
        if is_left and _is_ours(inspector, name):
            connection.execute(text(f"DROP TABLE IF EXISTS {_quoted(name)}"))


def _serialize(connection: Connection, name: str) -> None:
    """Wait for other transactions that check or replace the table ``name``; later ones wait for this transaction."""
    if connection.dialect.name == "postgresql":
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


def _sql_type(kind: pa.DataType) -> TypeEngine[Any]:
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


def _cells(field: pa.Field, column: pa.Array) -> list[Any]:
    if is_json(field):
        return [storable_json(text) for text in column.to_pylist()]
    types = pa.types
    kind = plain_type(field.type)
    if (types.is_timestamp(kind) or types.is_time(kind)) and field.type != kind and not types.is_nested(field.type):
        # A database has no nanoseconds.
        column = column.cast(kind, safe=False)
    values = column_values(field, column)
    if types.is_timestamp(kind) or types.is_date(kind) or types.is_time(kind):
        return list(map(_moment, values))
    if types.is_nested(kind):
        return [None if value is None else storable_json(json_text(value)) for value in values]
    if isinstance(_sql_type(kind), Text):
        return [None if value is None else storable_text(text_of(value)) or "" for value in values]
    if types.is_duration(kind):
        return [None if value is None else _seconds(value) for value in values]
    return values


def _moment(value: Any) -> Any:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    return value if isinstance(value, (date, time)) else None


def _seconds(value: Any) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)
