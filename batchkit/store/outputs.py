"""Annotated tables in the results database: typed tables beside those of batchkit.

Each has a constraint that marks it as ours: only a marked table is ever replaced or dropped, because the database may hold tables of
others.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Final, Self

import pyarrow as pa
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Integer,
    MetaData,
    Table,
    Text,
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
from batchkit.store.output_columns import check_names, sql_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection
    from sqlalchemy.engine.reflection import Inspector

    from batchkit.store.engine import Store

_MARK: Final = "written_by_batchkit"
#: The prefix of the name of a table that is being written; with the name of its writer it has less than 63 bytes.
_UNFINISHED: Final = "batchkit_new_"


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
        check_names(schema, name)
        self._numbers = "batchkit_row" if "row_number" in {column.lower() for column in schema.names} else "row_number"
        self._new = Table(
            f"{_UNFINISHED}{new_writer()}",
            MetaData(),
            # SQLite makes its own row number of exactly this type.
            Column(self._numbers, BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
            *(Column(field.name, sql_type(field.type)) for field in schema),
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
    if isinstance(sql_type(kind), Text):
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
