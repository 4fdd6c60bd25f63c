"""Connections: an engine for SQLite or Postgres, and a ``Store`` that opens transactions."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from traceback import clear_frames
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, InternalError, NoSuchModuleError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from batchkit.errors import ConfigurationError, RowsHeld, StoreError, StoreUnavailable, StoreUnusable
from batchkit.files.sqlite_urls import sqlite_file
from batchkit.store.fair_lock import FairLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Connection, Engine

_BUSY_TIMEOUT_MILLISECONDS = 60_000
_WAL_PAUSE_SECONDS = 0.02
_PRIMARY_CODE = 0xFF  # the primary code of a SQLite error; higher bits have details
_CACHE_KIBIBYTES = 8_000
#: Answers have a kilobyte or more: with SQLite's default of 4 kB a fifth of each page would stay empty, and every shard would
#: fill a log of 1,000 pages.
_PAGE_BYTES = 16_384
#: Postgres' codes. Any other code of the class of the first one is a bug of ours.
_INSUFFICIENT_PRIVILEGE = "42501"
_LOCK_NOT_AVAILABLE = "55P03"
_DEADLOCK = "40P01"
_SQLITE_REMEDIES = {
    sqlite3.SQLITE_BUSY: "end the other program that holds the file",
    sqlite3.SQLITE_FULL: "make room on its disk",
    sqlite3.SQLITE_IOERR: "make room on its disk, or mend it",
    sqlite3.SQLITE_READONLY: "make it and its folder writable",
    sqlite3.SQLITE_CANTOPEN: "make it and its folder writable",
}
_IS_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_SECRET_OPTIONS = ("password", "sslpassword")


@dataclass(frozen=True, slots=True)
class TransactionLimits:
    """Time limits of a transaction on Postgres, in seconds; 0 means none.

    ``lock_seconds`` is how long a statement waits for a lock. ``idle_seconds`` is how long a write transaction may do nothing
    between two statements: the merge of a large shard parses answers there. ``statement_seconds`` is how long one statement of a
    write transaction may take, and how long the server may send nothing.
    """

    lock_seconds: float = 10.0
    idle_seconds: float = 120.0
    statement_seconds: float = 600.0


def keeps_alive(
    connection: Connection, *, every_seconds: float = 5.0, timer: Callable[[], float] = time.monotonic
) -> Callable[[], None]:
    """Return a function to call during a long pause in a transaction, so that Postgres does not end it as idle."""
    if connection.dialect.name != "postgresql":
        return lambda: None
    last = timer()

    def keep_alive() -> None:
        nonlocal last
        if timer() - last >= every_seconds:
            connection.exec_driver_sql("SELECT 1")
            last = timer()

    return keep_alive


def parse_url(database_url: str) -> URL:
    """Read a database URL; Postgres means psycopg 3, whatever driver is named. Raises ``ConfigurationError``."""
    try:
        path = sqlite_file(database_url)
        # The library takes a question mark in a path for the beginning of options.
        url = make_url(database_url) if path is None else URL.create("sqlite", database=path)
    except (ArgumentError, ValueError):
        # The cause quotes the part that cannot be read, which may be a password.
        raise ConfigurationError(
            "the database URL cannot be read",
            hint="use sqlite:///path/to/file.db or postgresql+psycopg://user:password@host/database",
        ) from None
    if url.get_backend_name() in {"postgres", "postgresql"}:
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() not in {"sqlite", "postgresql"}:
        raise ConfigurationError(
            f"{url.get_backend_name()} is not a database that batchkit knows",
            hint="use a sqlite:/// or a postgresql+psycopg:// URL",
        )
    if url.get_backend_name() == "sqlite" and (not url.database or url.database == ":memory:"):
        raise ConfigurationError(
            "an in-memory database would lose paid results", hint="name a file: sqlite:///batchkit.db"
        )
    if url.get_backend_name() == "postgresql" and database_url.partition("://")[2].partition(":")[2].count("@") > 1:
        # The parser ends a password at its first @ and takes the rest for a host or a name, which would be shown.
        raise ConfigurationError(
            "the database URL has an @ too many", hint="write every @ but the one before the host as %40"
        )
    return url


def displayed(url: URL) -> str:
    """Return a database URL without its password, in whichever part it is."""
    return url.difference_update_query(_SECRET_OPTIONS).render_as_string(hide_password=True)


def _open_engine(url: URL, limits: TransactionLimits, *, is_readonly: bool) -> Engine:
    try:
        if url.get_backend_name() == "sqlite":
            if not is_readonly:
                _make_private(url.database or "")
            engine = create_engine(url, pool_size=2, max_overflow=64, pool_use_lifo=True)
            _configure_sqlite(engine, url.database or "", is_readonly=is_readonly)
            return engine
        from batchkit.store import postgres  # noqa: PLC0415 - its driver is an extra

        return postgres.open_engine(url, limits, is_readonly=is_readonly)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise ConfigurationError(
            "the Postgres driver is not installed", hint="pip install 'groq-batchkit[postgres]'"
        ) from error


def _make_private(path: str) -> None:
    """Create the database file readable by its owner only: answers may be confidential."""
    try:
        file = Path(path)
        if file.absolute().parent.exists() and not file.absolute().parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{file.parent} is a file, not a folder")
        file.absolute().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        # An existing file is not opened: closing it would drop the locks that this process holds on it through other
        # connections, and endanger their commits (sqlite.org/howtocorrupt.html, 2.2).
        with suppress(FileExistsError):
            os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        if not os.access(file, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise StoreUnavailable(
            f"the database file {path} cannot be opened: {error.strerror}",
            hint="check the folder's permissions and free space, or set BATCHKIT_DATABASE_URL",
        ) from error


def _configure_sqlite(engine: Engine, path: str, *, is_readonly: bool) -> None:
    if is_readonly:

        @event.listens_for(engine, "do_connect")
        def _connect(_dialect: Any, _record: Any, _arguments: Any, _keywords: Any) -> Any:
            # The pool gives a connection to one thread at a time.
            return sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, check_same_thread=False)

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        # The driver must not open transactions by itself: _on_begin opens the right kind.
        connection.isolation_level = None
        cursor = connection.cursor()
        # FULL, not NORMAL: the intent to submit must survive a power cut, or the batch would be bought again.
        for pragma in (
            f"busy_timeout = {_BUSY_TIMEOUT_MILLISECONDS}",
            f"page_size = {_PAGE_BYTES}",  # of a file that is still empty
            "synchronous = FULL",
            f"cache_size = -{_CACHE_KIBIBYTES}",
            "foreign_keys = ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        if is_readonly:
            cursor.execute("PRAGMA query_only = ON")
        else:
            _switch_to_wal(cursor)
        cursor.close()

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        # In SQLite a read transaction that starts to write fails instead of waiting for the lock: writers take it first.
        writes = connection.get_execution_options().get("batchkit_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _switch_to_wal(cursor: sqlite3.Cursor) -> None:
    """Switch to WAL, so that readers and the writer do not wait for each other.

    On a new file that others are opening as well, this statement fails at once, whatever the busy timeout.
    """
    deadline = time.monotonic() + _BUSY_TIMEOUT_MILLISECONDS / 1_000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & _PRIMARY_CODE != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            threading.Event().wait(_WAL_PAUSE_SECONDS)
        else:
            return


class Store:
    """The results store. Cheap to create; connections are pooled and may be used from several threads, one each.

    Raises ``RowsHeld`` when a lock is not given within ``limits``, ``ConfigurationError`` when the URL names a database, user,
    password or host that does not exist, ``StoreUnusable`` for errors that waiting does not fix, and else ``StoreUnavailable``.
    The sessions of an ``is_readonly`` store cannot write, whatever is asked of them; it creates no file.
    """

    def __init__(
        self, database_url: str, *, limits: TransactionLimits | None = None, is_readonly: bool = False
    ) -> None:
        self.url = parse_url(database_url)
        self.limits = limits or TransactionLimits()
        self.is_readonly = is_readonly
        self.engine = _open_engine(self.url, self.limits, is_readonly=is_readonly)
        self._write_lock = FairLock() if self.is_sqlite else None
        #: The connections that write now, by thread.
        self._writing: dict[int, Connection] = {}
        self._was_connected = False
        self._is_closed = False
        event.listen(self.engine, "connect", self._note_connection)
        event.listen(self.engine, "checkin", self._close_late)

    @property
    def is_sqlite(self) -> bool:
        """Return whether the database is a SQLite file."""
        return self.engine.dialect.name == "sqlite"

    @property
    def display_url(self) -> str:
        """Return the database URL without its password."""
        return displayed(self.url)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a read transaction: one consistent snapshot."""
        with self._translated(), self._begun(batchkit_is_snapshot=True) as connection:
            yield connection

    @contextmanager
    def write(self, *, is_upgrade: bool = False) -> Iterator[Connection]:
        """Open a write transaction, committed at the end, rolled back on any error. Do not nest.

        SQLite has one writer at a time: the threads of this process write in the order in which they ask. Statements of an
        upgrade, which may rewrite a large table, have no time limit. Raises ``StoreUnusable`` for a store that is only read.
        """
        if self.is_readonly:
            raise StoreUnusable(f"the database {self.display_url} is only read here", hint="nothing was changed")
        limits = replace(self.limits, statement_seconds=0) if is_upgrade else self.limits
        thread = threading.get_ident()
        # A Ctrl-C between the begin of a transaction and its `with` block keeps the transaction open as long as the traceback
        # lives: no thread could write, not even this one.
        if (interrupted := self._writing.pop(thread, None)) is not None:
            interrupted.close()
        with (
            self._write_lock.hold(_BUSY_TIMEOUT_MILLISECONDS / 1_000)
            if self._write_lock is not None
            else nullcontext(),
            self._translated(),
            self._begun(writing_thread=thread, batchkit_writes=True, batchkit_limits=limits) as connection,
        ):
            yield connection

    @contextmanager
    def _begun(self, *, writing_thread: int | None = None, **options: object) -> Iterator[Connection]:
        """Open a transaction with execution options, committed at the end, rolled back on any error.

        The server may have closed a pooled connection since its last use. The first statement shows it, and a new connection is tried.
        """
        connection = self._connected(writing_thread, options)
        try:
            try:
                transaction = connection.begin()
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                connection.close()
                connection = self._connected(writing_thread, options)
                transaction = connection.begin()
            with transaction:
                yield connection
        finally:
            if writing_thread is not None and self._writing.get(writing_thread) is connection:
                del self._writing[writing_thread]
            connection.close()

    def _connected(self, writing_thread: int | None, options: dict[str, object]) -> Connection:
        connection = self.engine.connect().execution_options(**options)
        if writing_thread is not None:
            self._writing[writing_thread] = connection
        return connection

    def held_for_long(self, table: str) -> RowsHeld | None:
        """Return an error that names who holds rows of a table for longer than a lock is waited for; None without such a holder.

        For callers that skip locked rows, and so never wait for them. Returned, not raised.
        """
        if self.is_sqlite:
            return None
        from batchkit.store import postgres  # noqa: PLC0415 - its driver is an extra

        holders = postgres.holders(self.engine, self.limits, table=table)
        return self._held(f"rows of {table} that are due cannot be taken", holders) if holders else None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt as interrupt:
            # SQLAlchemy has closed a connection that was interrupted in a statement, but SQLite keeps its transaction as long as
            # there is a cursor: in a frame of the traceback.
            clear_frames(interrupt.__traceback__)
            raise
        except PoolTimeout as error:
            raise StoreUnavailable(
                f"the database {self.display_url} cannot be used: all connections of this process are in use",
                hint="nothing is lost: run the same command again",
            ) from error
        except DBAPIError as error:
            if not _is_the_databases_trouble(error):
                raise
            raise self._explained(error) from error

    def _explained(self, error: DBAPIError) -> StoreError | ConfigurationError:
        """Return the error for a failure of the database, with a hint."""
        if self.is_sqlite:
            return self._explained_by_sqlite(error)
        from batchkit.store import postgres  # noqa: PLC0415 - its driver is an extra

        place, said = self.display_url, _first_line(error)
        code = getattr(error.orig, "sqlstate", None)
        if code in {_LOCK_NOT_AVAILABLE, _DEADLOCK}:
            what = (
                "this command and another one waited for each other's rows"
                if code == _DEADLOCK
                else f"a lock was not given within {self.limits.lock_seconds:g} s"
            )
            return self._held(what, postgres.holders(self.engine, self.limits))
        if not self._was_connected and postgres.is_wrong_url(error):
            return ConfigurationError(
                f"the database {place} cannot be used: {said}",
                hint="correct BATCHKIT_DATABASE_URL or --database-url; createdb NAME makes a database that is missing",
            )
        if code == _INSUFFICIENT_PRIVILEGE:
            return StoreUnusable(
                f"the database {place} cannot be used: {said}",
                hint="have the database's owner grant this user the missing right, then run the same command again",
            )
        return StoreUnavailable(
            f"the database {place} cannot be used: {said}",
            hint="nothing is lost: wait until the database is back, then run the same command again;"
            " `batchkit doctor` shows details",
        )

    def _explained_by_sqlite(self, error: DBAPIError) -> StoreError:
        code = getattr(error.orig, "sqlite_errorcode", 0) & _PRIMARY_CODE
        remedy = _SQLITE_REMEDIES.get(code, "put the file right")
        kind = RowsHeld if code in _IS_BUSY else StoreUnusable
        return kind(
            f"the database {self.display_url} cannot be used: {_first_line(error)}",
            hint=f"nothing is lost: {remedy}, then run the same command again; `batchkit doctor` shows details",
        )

    def _held(self, what: str, holders: list[str]) -> RowsHeld:
        by_whom = f"; held by {'; or '.join(holders)}" if holders else ""
        return RowsHeld(
            f"the database {self.display_url} is locked: {what}{by_whom}",
            hint="nothing is lost: end the program that holds them (SELECT pg_terminate_backend(SESSION) does it from the"
            " database), or run the same command again later",
        )

    def _note_connection(self, _connection: Any, _record: Any) -> None:
        self._was_connected = True

    def _close_late(self, _connection: Any, record: Any) -> None:
        # The pool of a closed engine would keep what a thread gives back to it.
        if self._is_closed:
            record.invalidate()

    def close(self) -> None:
        """Close the pooled connections; those that threads still use are closed when they are given back."""
        self._is_closed = True
        self.engine.dispose()


def _is_the_databases_trouble(error: DBAPIError) -> bool:
    return (
        error.connection_invalidated
        or isinstance(error, OperationalError | InternalError)
        or type(error) is DatabaseError  # a file that is damaged or is no database
        or getattr(error.orig, "sqlstate", None) == _INSUFFICIENT_PRIVILEGE
    )


def _first_line(error: DBAPIError) -> str:
    lines = str(error.orig).strip().splitlines()
    return lines[0] if lines else type(error.orig).__name__
