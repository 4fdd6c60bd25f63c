"""New databases of either kind in their own folder, and the sizes of their tables."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import text

from tests.postgres import PostgresServer, own_server
from tests.temporary_folders import base_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.store.engine import Store

#: The kinds of database, as the commands accept them.
DATABASES = ("sqlite", "postgres")


class TemporaryDatabase(NamedTuple):
    """An empty database and a folder beside it."""

    database: str
    url: str
    folder: Path


@contextmanager
def temporary_database(database: str) -> Iterator[TemporaryDatabase]:
    """Create an empty database for one measurement, and delete it afterwards."""
    with tempfile.TemporaryDirectory(prefix="batchkit-scale-", dir=base_folder()) as path:
        folder = Path(path)
        if database == "sqlite":
            yield TemporaryDatabase(database, f"sqlite:///{folder / 'batchkit.db'}", folder)
            return
        with own_server() as server, new_database(server) as url:
            yield TemporaryDatabase(database, url, folder)


@contextmanager
def new_database(server: PostgresServer) -> Iterator[str]:
    """Create a database on a server, yield its URL, and drop it afterwards."""
    name = server.create()
    try:
        yield server.url_of(name)
    finally:
        server.drop(name)


class TableSize(NamedTuple):
    """The bytes of a table's rows (with their TOAST data), and of its indexes."""

    rows: int
    indexes: int


def table_sizes(store: Store) -> dict[str, TableSize]:
    """Return the size of every table of batchkit on disk, after a vacuum."""
    if store.is_sqlite:
        return _sqlite_table_sizes(store)
    query = text(
        "SELECT relname, pg_table_size(oid), pg_indexes_size(oid) FROM pg_class"
        " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    vacuum(store)
    with store.read() as connection:
        return {name: TableSize(rows, indexes) for name, rows, indexes in connection.execute(query)}


def vacuum(store: Store) -> None:
    """Run VACUUM ANALYZE at once, which Postgres does by itself after a while."""
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def _sqlite_table_sizes(store: Store) -> dict[str, TableSize]:
    query = text(
        "SELECT schema.tbl_name, sum(CASE WHEN schema.type = 'table' THEN pages.pgsize ELSE 0 END),"
        " sum(CASE WHEN schema.type = 'index' THEN pages.pgsize ELSE 0 END)"
        " FROM dbstat AS pages JOIN sqlite_master AS schema ON schema.name = pages.name"
        " WHERE pages.aggregate = TRUE GROUP BY schema.tbl_name"
    )
    with store.read() as connection:
        return {name: TableSize(rows, indexes) for name, rows, indexes in connection.execute(query)}
