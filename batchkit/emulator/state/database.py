"""The emulator's SQLite database: tables, connections and transactions.

Writers wait for a lock, readers never wait for them (WAL). A killed process loses nothing that was committed; a power failure may
lose commits, which is acceptable for an emulator and makes it fast.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_TABLES = (
    "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """
    CREATE TABLE IF NOT EXISTS files (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        purpose TEXT NOT NULL CHECK (purpose IN ('batch', 'batch_output')),
        filename TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        deleted_at INTEGER,
        ready_at REAL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS batches (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        endpoint TEXT NOT NULL,
        input_file_id TEXT NOT NULL,
        completion_window TEXT NOT NULL,
        metadata TEXT,
        status TEXT NOT NULL CHECK (status IN (
            'validating', 'failed', 'in_progress', 'finalizing', 'completed', 'expired', 'cancelling', 'cancelled')),
        output_file_id TEXT,
        error_file_id TEXT,
        created_at REAL NOT NULL,
        in_progress_at REAL,
        finalizing_at REAL,
        completed_at REAL,
        failed_at REAL,
        cancelling_at REAL,
        cancelled_at REAL,
        expires_at REAL NOT NULL,
        expired_at REAL,
        completed INTEGER NOT NULL DEFAULT 0,
        failed INTEGER NOT NULL DEFAULT 0,
        total INTEGER NOT NULL DEFAULT 0,
        errors TEXT,
        skipped_lines TEXT NOT NULL DEFAULT '[]',
        listings_before INTEGER NOT NULL,
        due_at REAL,
        input_offset INTEGER NOT NULL DEFAULT 0,
        line_number INTEGER NOT NULL DEFAULT 0,
        lines_done INTEGER NOT NULL DEFAULT 0,
        held INTEGER NOT NULL DEFAULT 0,
        output_bytes INTEGER NOT NULL DEFAULT 0,
        error_bytes INTEGER NOT NULL DEFAULT 0,
        held_bytes INTEGER NOT NULL DEFAULT 0,
        model TEXT,
        idempotency_key TEXT
    )
    """,
    "CREATE INDEX IF NOT EXISTS batches_due ON batches (due_at) WHERE due_at IS NOT NULL",
    """
    CREATE TABLE IF NOT EXISTS executions (
        custom_id TEXT PRIMARY KEY,
        carried INTEGER NOT NULL,
        executed INTEGER NOT NULL,
        succeeded INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE IF NOT EXISTS synchronous (
        request TEXT PRIMARY KEY,
        executed INTEGER NOT NULL,
        succeeded INTEGER NOT NULL,
        delivered INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE TABLE IF NOT EXISTS calls (operation TEXT PRIMARY KEY, total INTEGER NOT NULL, baseline INTEGER NOT NULL) WITHOUT ROWID",
)


_LATER_COLUMNS = (("files", "ready_at", "REAL"), ("batches", "model", "TEXT"), ("batches", "idempotency_key", "TEXT"))
"""Columns that the directory of an older emulator lacks."""


def connect(path: Path) -> sqlite3.Connection:
    """Open a connection that any thread may use, one at a time."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    return connection


class Database:
    """One writing and one reading connection to ``path``, each behind its lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = connect(path)
        self._reader = connect(path)
        self._write_lock = Lock()
        self._read_lock = Lock()
        with self.write() as connection:
            for statement in _TABLES:
                connection.execute(statement)
            for table, column, kind in _LATER_COLUMNS:
                known = {row["name"] for row in connection.execute(f"PRAGMA table_info({table})")}
                if column not in known:
                    connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction that commits when the block ends and rolls back when it raises."""
        with self._write_lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
            except BaseException:
                self._writer.execute("ROLLBACK")
                raise
            self._writer.execute("COMMIT")

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Read a few rows."""
        with self._read_lock:
            return self._reader.execute(sql, parameters).fetchall()

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Row | None:
        """Read one row, or None."""
        found = self.rows(sql, parameters)
        return found[0] if found else None

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Open a separate connection that sees one state of the database, however long the reading takes."""
        connection = connect(self.path)
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            connection.close()

    def close(self) -> None:
        """Close both connections."""
        with self._write_lock, self._read_lock:
            self._writer.close()
            self._reader.close()
