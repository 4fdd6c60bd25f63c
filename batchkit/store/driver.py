"""Direct use of the database driver, where SQLAlchemy's rows would take most of the time."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy import Select
    from sqlalchemy.engine import Connection


def rows_of(
    connection: Connection, query: Select[Any], bound: Mapping[str, Any] | None = None
) -> list[tuple[Any, ...]]:
    """Run a query with its ``bound`` values and return its rows as the driver returns them, without SQLAlchemy's type conversion."""
    result = connection.execute(query, bound)
    with driver_errors(connection, query):
        cursor: Any = result.cursor
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    result.close()
    return rows


def copy_in(connection: Connection, sql: str, write: Callable[[Any], None]) -> None:
    """Run a ``COPY ... FROM STDIN`` on Postgres; ``write`` gets psycopg's copy object to write the rows to."""
    driver: Any = connection.connection.driver_connection
    with driver_errors(connection, sql), driver.cursor() as cursor, cursor.copy(sql) as copy:
        write(copy)


@contextmanager
def driver_errors(connection: Connection, sql: str | Select[Any]) -> Iterator[None]:
    """Raise the driver's errors as SQLAlchemy's, which the store translates. A query becomes text only for an error."""
    dbapi: Any = connection.dialect.dbapi
    try:
        yield
    except dbapi.Error as error:
        is_lost = connection.dialect.is_disconnect(error, connection.connection.dbapi_connection, None)
        if is_lost:
            connection.invalidate(error)
        raise DBAPIError.instance(
            str(sql), None, error, dbapi.Error, connection_invalidated=is_lost, dialect=connection.dialect
        ) from error
