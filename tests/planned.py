"""Filled databases for tests of query plans, which must hold without statistics of SQLite, too: a user's file is never analysed."""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import event

from batchkit.store.engine import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest
    from sqlalchemy.engine import Connection

T = TypeVar("T")

#: The parameters of a fixture that calls ``filled_store``.
KINDS = ("sqlite", "sqlite analysed", "postgres analysed")
#: The tables with a row per request.
BIG = ("requests", "results", "bodies", "attempts")


@contextmanager
def filled_store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, fill: Callable[[Store], T]
) -> Iterator[tuple[Store, T]]:
    """Open a database of the kind that is the fixture's parameter; yield it when ``fill`` has filled it, with what that returned."""
    kind, _, analysed = request.param.partition(" ")
    server = None
    if kind == "sqlite":
        path = tmp_path_factory.mktemp("plans") / "batchkit.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        url = f"sqlite:///{path}"
    else:
        server = request.getfixturevalue("postgres_server")
        name = server.create(template=request.getfixturevalue("postgres_template"))
        url = server.url_of(name)
    store = Store(url)
    filled = fill(store)
    if analysed:
        _analyse(store)
    yield store, filled
    store.close()
    if server is not None:
        server.drop(name)


def _analyse(store: Store) -> None:
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not store.is_sqlite:
            # Otherwise the server collects statistics again after tests have changed many rows and rolled back.
            for table in BIG:
                connection.exec_driver_sql(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        connection.exec_driver_sql("ANALYZE" if store.is_sqlite else "VACUUM ANALYZE")


def plans(store: Store, call: Callable[[Connection], object], *, with_inserts: bool = False) -> list[str]:
    """Run a call, roll back its changes, and explain each statement that it sent; of INSERTs only ``with_inserts``."""
    sent: list[tuple[str, Any]] = []

    def note(_connection, _cursor, statement, parameters, _context, many):
        sent.append((statement, parameters[0] if many else parameters))

    explain = "EXPLAIN QUERY PLAN" if store.is_sqlite else "EXPLAIN"
    kinds = "SELECT|UPDATE|DELETE|WITH" + ("|INSERT" if with_inserts else "")
    with store.engine.connect() as connection, connection.begin() as transaction:
        event.listen(store.engine, "before_cursor_execute", note)
        try:
            call(connection)
        finally:
            event.remove(store.engine, "before_cursor_execute", note)
        explained = [
            "\n".join(row[-1] for row in connection.exec_driver_sql(f"{explain} {statement}", parameters))
            for statement, parameters in sent
            if re.match(rf"\s*({kinds})\b", statement)
        ]
        transaction.rollback()
    assert explained
    return explained
