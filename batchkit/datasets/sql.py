"""The result of an SQL query on a user's database as a table."""

from __future__ import annotations

import hashlib
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from sqlalchemy import create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from batchkit.datasets.sql_types import ROWS_FOR_TYPES, Described, array, column
from batchkit.datasets.table import Table
from batchkit.errors import UsageError
from batchkit.files.sqlite_urls import sqlite_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection, CursorResult

_CONNECT_SECONDS: Final = 10
_SECRET_OPTIONS: Final = ("password", "sslpassword")


class RowsDigest:
    """A digest of rows in their order: of the columns' names and values, whatever batches they come in."""

    def __init__(self) -> None:
        self._columns: dict[str, Any] = {}

    def update(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        for name, cells in zip(batch.schema.names, batch.columns, strict=True):
            # Without brackets, the texts of two batches are that of both together.
            text = "".join(f"{value!r}," for value in cells.to_pylist())
            self._columns.setdefault(name, hashlib.sha256()).update(text.encode("utf-8", "surrogatepass"))

    def hexdigest(self) -> str:
        """Return it in hex."""
        parts = [f"{name!r}:{digest.hexdigest()}" for name, digest in self._columns.items()]
        return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


class SqlTable(Table):
    """The rows of one query, streamed from the server; every pass runs the query again.

    Types are learned from the first 10,000 rows; a later value of another type is a ``UsageError`` with row and column. A ``numeric`` is
    a decimal, an array a list; UUIDs and the like are text, objects and JSON are JSON columns (see ``rows``). The query only
    reads: the database refuses to write. Without ``order by`` the database chooses the order of the rows.
    """

    def __init__(self, url: str, query: str) -> None:
        self._url = _parse(url)
        database = Path(self._url.database or "query")
        super().__init__(database.stem if self._url.get_backend_name() == "sqlite" else database.name)
        self._query = query.strip().rstrip(";")

    def _find_schema(self) -> pa.Schema:
        with self._result(ROWS_FOR_TYPES) as result:
            names = list(result.keys())
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise UsageError(
                    f"the query returns the column {repeated[0]!r} twice",
                    hint="give each column its own name: select ... as ...",
                )
            # Read before the rows: the cursor is closed with the last one.
            described = [Described(*found[:2], *found[4:6]) for found in result.cursor.description]
            block = result.fetchmany(ROWS_FOR_TYPES if self.limit is None else min(ROWS_FOR_TYPES, self.limit))
            columns = zip(*block, strict=True) if block else ((),) * len(names)
            return pa.schema(list(map(column, described, columns)))

    def _read(self, rows: int) -> Iterator[pa.RecordBatch]:
        schema = self.schema
        start = 1
        with self._result(rows) as result:
            while block := result.fetchmany(rows if self.limit is None else min(rows, self.limit + 1 - start)):
                columns = zip(*block, strict=True)
                yield pa.RecordBatch.from_arrays(
                    [array(field, values, start) for field, values in zip(schema, columns, strict=True)], schema=schema
                )
                start += len(block)

    def query_digest(self) -> str:
        """Return a SHA-256 in hex of the query and its database, whatever the rows."""
        return hashlib.sha256(f"sql\n{self._shown_url}\n{self._query}".encode()).hexdigest()

    def _content_digest(self) -> str:
        digest = RowsDigest()
        for batch in self.batches():
            digest.update(batch)
        return digest.hexdigest()

    @property
    def _shown_url(self) -> str:
        return self._url.difference_update_query(_SECRET_OPTIONS)._replace(password=None).render_as_string()

    @contextmanager
    def _result(self, rows: int) -> Iterator[CursorResult[Any]]:
        try:
            timeouts = {} if self._url.get_backend_name() == "sqlite" else {"connect_timeout": _CONNECT_SECONDS}
            engine = create_engine(self._url, poolclass=NullPool, connect_args=timeouts)
        except (ModuleNotFoundError, NoSuchModuleError) as error:
            raise UsageError(
                f"the driver for {self._url.get_backend_name()} is not installed",
                hint="for Postgres: pip install 'groq-batchkit[postgres]'",
            ) from error
        try:
            with engine.connect() as connection:
                _only_read(connection)
                # A % or a : in the query is literal.
                options = {"no_parameters": True, "stream_results": True, "max_row_buffer": rows}
                result = connection.execution_options(**options).exec_driver_sql(self._query)
                if not result.returns_rows:
                    raise UsageError("the query returns no rows", hint="begin it with select")
                with closing(result):
                    yield result
        except DBAPIError as error:
            reason = str(error.orig).strip().partition("\n")[0]
            raise UsageError(
                f"the query on {self._shown_url} failed: {reason}", hint="check the address and the query"
            ) from error
        except SQLAlchemyError as error:
            raise UsageError(
                f"the query on {self._shown_url} failed", hint="check the address and the query"
            ) from error
        finally:
            engine.dispose()


def _parse(url: str) -> URL:
    try:
        path = sqlite_file(url)
        # The library takes a question mark in a path for the beginning of options.
        parsed = make_url(url) if path is None else URL.create("sqlite", database=path)
    except (ArgumentError, ValueError):
        # The cause quotes the invalid part, which may be a password.
        raise UsageError(
            "the database URL cannot be read", hint="use sqlite:///file.db or postgresql://user:password@host/database"
        ) from None
    if parsed.get_backend_name() in {"postgres", "postgresql"}:
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() != "sqlite":
        raise UsageError(
            f"{parsed.get_backend_name()} is not a supported database",
            hint="use sqlite:///file.db or postgresql://user:password@host/database, or export the rows to a file",
        )
    try:
        is_there = Path(parsed.database or "").is_file()
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"the database file {parsed.database} cannot be opened: {reason}") from error
    if not is_there:
        # The driver would create an empty one.
        raise UsageError(
            f"there is no database file {parsed.database}", hint="check the name and the working directory"
        )
    return parsed


def _only_read(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA query_only = ON")
    elif connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
