"""What measurements stand on: a new store of either kind in a folder of its own, and what its tables weigh."""

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

#: The kinds of database, by the names that the commands take.
DATABASES = ("sqlite", "postgres")


class Ground(NamedTuple):
    """An empty database and a folder beside it."""

    database: str
    url: str
    folder: Path


@contextmanager
def ground(database: str) -> Iterator[Ground]:
    """Make the ground for one measurement; it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="batchkit-scale-", dir=base_folder()) as room:
        folder = Path(room)
        if database == "sqlite":
            yield Ground(database, f"sqlite:///{folder / 'batchkit.db'}", folder)
            return
        with own_server() as server, new_database(server) as url:
            yield Ground(database, url, folder)


@contextmanager
def new_database(server: PostgresServer) -> Iterator[str]:
    """Make a database on a server and give its URL; it is gone afterwards."""
    name = server.create()
    try:
        yield server.url_of(name)
    finally:
        server.drop(name)


class Weight(NamedTuple):
    """Bytes of a table's rows (with what is stored beside them), and of its indexes."""

    rows: int
    indexes: int


def weigh(store: Store) -> dict[str, Weight]:
    """Weigh every table of batchkit's as it lies on disk, after the writes have settled."""
    if store.is_sqlite:
        return _weigh_sqlite(store)
    query = text(
        "SELECT relname, pg_table_size(oid), pg_indexes_size(oid) FROM pg_class"
        " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    vacuum(store)
    with store.read() as connection:
        return {name: Weight(rows, indexes) for name, rows, indexes in connection.execute(query)}


def vacuum(store: Store) -> None:
    """Do at once what a Postgres server does by itself after a while."""
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def _weigh_sqlite(store: Store) -> dict[str, Weight]:
    query = text(
        "SELECT schema.tbl_name, sum(CASE WHEN schema.type = 'table' THEN pages.pgsize ELSE 0 END),"
        " sum(CASE WHEN schema.type = 'index' THEN pages.pgsize ELSE 0 END)"
        " FROM dbstat AS pages JOIN sqlite_master AS schema ON schema.name = pages.name"
        " WHERE pages.aggregate = TRUE GROUP BY schema.tbl_name"
    )
    with store.read() as connection:
        return {name: Weight(rows, indexes) for name, rows, indexes in connection.execute(query)}
