"""Postgres only: time limits for every transaction, detection of dead connections, and the holders of locks."""

from __future__ import annotations

import os
import re
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy.engine import URL, Connection, Engine

    from batchkit.store.engine import TransactionLimits

_MOST_NAME_BYTES: Final = 63
_CONNECT_SECONDS: Final = 10
#: How long a server may take to report that a statement exceeded its limit, or to answer an empty statement.
_REPLY_SECONDS: Final = 60.0
_SHOWN_QUERY_CHARS: Final = 80
_SHOWN_HOLDERS: Final = 3
#: A dead machine is noticed after 25 s of silence, or 30 s after the first unacknowledged byte.
_LINE: Final = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
_LITERAL: Final = re.compile(
    r"\$(\w*)\$.*?(?:\$\1\$|$)|'(?:[^']|'')*(?:'|$)|\b\d[\w.]*|/\*.*?(?:\*/|$)|--[^\n]*", re.DOTALL
)
_WRONG_URL: Final = re.compile(
    r'FATAL: +(?:database "[^"]*" does not exist|no such database|role "[^"]*" does not exist|no such user'
    r"|bouncer config error|password authentication failed|no pg_hba\.conf entry|\w+ authentication failed|auth failed)"
    r"|no password supplied|failed to resolve host .*\[Errno -[25]\]|could not translate host name .*not known",
    re.DOTALL,
)


def open_engine(url: URL, limits: TransactionLimits, *, is_readonly: bool = False) -> Engine:
    """Return the engine of a database; it does not connect yet. An ``is_readonly`` one can write nothing."""
    given = {"connect_timeout": _CONNECT_SECONDS, "application_name": _application_name(), **_LINE}
    engine = create_engine(
        url,
        pool_size=5,
        max_overflow=32,
        connect_args={
            # A pooler gives every transaction another session, which does not know statements prepared in earlier ones.
            "prepare_threshold": None,
            **{name: value for name, value in given.items() if name not in url.query},
        },
    )

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: Any, _record: Any, arguments: Any, keywords: Any) -> Any:
        # The driver would send a BEGIN of its own, in a message of its own.
        return _Connection.connect(*arguments, autocommit=True, **keywords)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if options.get("isolation_level") == "AUTOCOMMIT":
            return
        driver: Any = connection.connection.driver_connection
        if not driver.autocommit:  # SQLAlchemy has undone it after the option above
            driver.autocommit = True
        chosen: TransactionLimits = options.get("batchkit_limits", limits)
        settings = {"lock_timeout": chosen.lock_seconds}
        if is_readonly:
            settings["statement_timeout"] = chosen.statement_seconds
        if options.get("batchkit_writes"):
            settings["idle_in_transaction_session_timeout"] = chosen.idle_seconds
            settings["statement_timeout"] = chosen.statement_seconds
        # By default every statement would read a new snapshot.
        level = " ISOLATION LEVEL REPEATABLE READ" if options.get("batchkit_is_snapshot") else ""
        # In one message, and for this transaction only: a pooler may give the session to another client afterwards.
        begin = (
            f"BEGIN{level}{' READ ONLY' if is_readonly else ''}",
            *(f"SET LOCAL {name} = {round(seconds * 1_000)}" for name, seconds in settings.items()),
        )
        connection.exec_driver_sql("; ".join(begin))
        driver.statement_seconds = chosen.statement_seconds

    return engine


def _application_name() -> str:
    return f"batchkit {socket.gethostname()[:40]} {os.getpid()}"[:_MOST_NAME_BYTES]


class _Connection(psycopg.Connection[Any]):
    """A connection that is closed when the server is silent for longer than its own time limits allow.

    The kernel notices a dead machine, but not a tunnel or a pooler that accepts data and forwards nothing.
    """

    #: How long a statement of the current transaction may take; 0 means no limit.
    statement_seconds = 0.0

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **keywords: Any) -> Any:
        """Wait for the server as psycopg does. Raises ``OperationalError`` when the server is silent for too long."""
        if self.pgconn.transaction_status == TransactionStatus.IDLE:
            return super().wait(self._watched(gen, _REPLY_SECONDS), *arguments, **keywords)
        if self.statement_seconds:
            return super().wait(self._watched(gen, self.statement_seconds + _REPLY_SECONDS), *arguments, **keywords)
        return super().wait(gen, *arguments, **keywords)

    def _watched(self, steps: Generator[Any, Any, Any], seconds: float) -> Generator[Any, Any, Any]:
        """Forward steps of the driver; it polls every tenth of a second when there is nothing to read or write."""
        try:
            step = next(steps)
            heard_at = time.monotonic()
            while True:
                ready = yield step
                now = time.monotonic()
                if ready:
                    heard_at = now
                elif now - heard_at > seconds:
                    self.close()
                    raise psycopg.OperationalError(f"the server has not answered for {seconds:.0f} s")
                step = steps.send(ready)
        except StopIteration as stop:
            return stop.value


def is_wrong_url(error: DBAPIError) -> bool:
    """Return whether no connection was made because the database, user, password or host does not exist.

    The driver does not pass on the server's code, so the English message decides.
    """
    return getattr(error.orig, "sqlstate", None) is None and _WRONG_URL.search(str(error.orig)) is not None


_HOLDERS = text("""
    SELECT a.pid, a.application_name, host(a.client_addr), a.state, a.wait_event, extract(epoch FROM now() - a.xact_start),
        extract(epoch FROM now() - a.query_start), left(a.query, 1000), bool_or(l.mode <> 'AccessShareLock') AS writes
    FROM pg_stat_activity a JOIN pg_locks l USING (pid)
    WHERE l.granted AND l.locktype IN ('relation', 'advisory') AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND a.pid <> pg_backend_pid() AND a.wait_event_type IS DISTINCT FROM 'Lock' AND a.xact_start <= now() - make_interval(secs => :seconds)
        AND (CAST(:table AS text) IS NULL OR (l.relation = to_regclass(:table) AND l.mode <> 'AccessShareLock'))
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, a.xact_start
    ORDER BY bool_or(l.mode <> 'AccessShareLock') DESC, a.wait_event IS DISTINCT FROM 'ClientRead', a.xact_start
    LIMIT :limit
""")


def holders(engine: Engine, limits: TransactionLimits, *, table: str | None = None) -> list[str]:
    """Return descriptions of the sessions that may hold the lock that was just waited for, the most likely one first.

    Those are sessions whose transaction is as old as the wait; with ``table`` only those that may have locked its rows. A
    session of batchkit that is stuck in a COPY for longer than a statement may take is ended: the server does not enforce that
    limit while it waits for data. Empty when no holder can be determined.
    """
    values = {"seconds": limits.lock_seconds * 0.9, "table": table, "limit": _SHOWN_HOLDERS}
    with suppress(DBAPIError, PoolTimeout), engine.connect() as connection, connection.begin():
        rows = connection.execute(_HOLDERS, values).all()
        # Without a writer among them a reader blocks a change of the table itself.
        writers = [row for row in rows if row.writes] or rows
        return [_description(connection, row, limits) for row in writers]
    return []


def _description(connection: Connection, row: Any, limits: TransactionLimits) -> str:
    pid, name, address, state, wait_event, open_seconds, query_seconds, query, _ = row
    where = f" at {address}" if address else ""
    ended = ""
    if (
        (name or "").startswith("batchkit ")
        and row.writes
        and state == "active"
        and wait_event in {"ClientRead", "ClientWrite"}
        and 0 < limits.statement_seconds < query_seconds
    ):
        connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        ended = "; it sent nothing for too long and was ended"
    return (
        f"session {pid} ({name or 'without a name'}{where}, {state or 'state unknown'}, its transaction open for"
        f" {open_seconds:.0f} s: {_without_values(query or '')}){ended}"
    )


def _without_values(query: str) -> str:
    shown = " ".join(_LITERAL.sub("?", query).split())
    return shown if len(shown) <= _SHOWN_QUERY_CHARS else f"{shown[: _SHOWN_QUERY_CHARS - 3]}..."
