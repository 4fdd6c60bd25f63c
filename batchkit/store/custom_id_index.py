"""The index by which a request is found by its ``custom_id``: built on demand, because most databases never need it.

It takes about 40 bytes and the custom_id for each request, and each later split a tenth longer. It is no part of the schema.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select, text

from batchkit.store.tables import requests, workloads

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from batchkit.store.engine import Store

NAME: Final = "requests_workload_id_custom_id"
#: What an entry needs beside its custom_id: the key, the place, and the room that pages leave.
_ENTRY_BYTES: Final = 40
_SAMPLE: Final = 1_000
_EXISTS = {
    "sqlite": text("SELECT count(*) FROM sqlite_master WHERE type = 'index' AND name = :name"),
    "postgresql": text("SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass(:name) AND indisvalid"),
}


def exists(connection: Connection) -> bool:
    """Return whether the index is there and whole."""
    return bool(connection.execute(_EXISTS[connection.dialect.name], {"name": NAME}).scalar_one())


def estimated_bytes(connection: Connection) -> int:
    """Return about how large the index is or would be."""
    count = connection.execute(select(func.coalesce(func.sum(workloads.c.request_count), 0))).scalar_one()
    some = select(func.length(requests.c.custom_id).label("chars")).limit(_SAMPLE).subquery("some")
    chars = connection.execute(select(func.coalesce(func.avg(some.c.chars), 0))).scalar_one()
    return int(count) * (_ENTRY_BYTES + round(float(chars)))


def build(store: Store) -> None:
    """Build the index; a whole one is left alone. On SQLite nothing else can be written meanwhile."""
    with store.read() as connection:
        if exists(connection):
            return
    drop(store)  # what an interrupted build on Postgres left
    if store.is_sqlite:
        with store.write(is_upgrade=True) as connection:
            connection.execute(text(f"CREATE INDEX {NAME} ON requests (workload_id, custom_id)"))
        return
    # With the operator class a prefix is found, too, whatever the collation of the database.
    built = f"INDEX {{}} {NAME} ON requests (workload_id, custom_id text_pattern_ops)"
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        kind = connection.execute(text("SELECT relkind FROM pg_class WHERE oid = to_regclass('requests')")).scalar_one()
        connection.exec_driver_sql("SET statement_timeout = 0")
        # A partitioned table takes no concurrent build.
        at_once = "" if kind in {"p", b"p"} else "CONCURRENTLY"
        connection.exec_driver_sql("CREATE " + built.format(at_once))


def drop(store: Store) -> None:
    """Remove the index, if it is there."""
    with store.write() as connection:
        connection.execute(text(f"DROP INDEX IF EXISTS {NAME}"))
