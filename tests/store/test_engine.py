"""Opening connections: URLs, files, transactions, and the errors when the database is unreachable."""

from __future__ import annotations

import gc
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import ProgrammingError

from batchkit.errors import ConfigurationError, RowsHeld, StoreUnavailable
from batchkit.store import engine, migrate, workloads
from batchkit.store.bulk import bulk_for
from batchkit.store.engine import Store, parse_url
from tests.factories import add_shard, add_workload

SECRET = "s3cr3t-of-the-database"


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("sqlite:///some/file.db", "sqlite"),
        ("postgres://host/name", "postgresql+psycopg"),
        ("postgresql://host/name", "postgresql+psycopg"),
        ("postgresql+psycopg://host/name", "postgresql+psycopg"),
        ("postgresql+psycopg2://host/name", "postgresql+psycopg"),
        ("postgresql+asyncpg://host/name", "postgresql+psycopg"),
    ],
)
def test_url_chooses_the_driver_we_use(given, driver):
    """Whichever Postgres driver a copied URL names, psycopg 3 is used."""
    assert parse_url(given).drivername == driver


@pytest.mark.parametrize("folder", ["what?", "a#b", "50%25 of it", "x?a=b", "x?a=b&c=d", "%3F", "sqlite:///y?", "é ü"])
def test_the_path_of_a_sqlite_file_may_hold_any_character(folder):
    """A question mark begins options only where options follow."""
    assert parse_url(f"sqlite:////tmp/{folder}/batchkit.db").database == f"/tmp/{folder}/batchkit.db"  # noqa: S108 - not used
    with_options = parse_url("sqlite:///some/file.db?timeout=5&cached=1")
    assert (with_options.database, dict(with_options.query)) == ("some/file.db", {"timeout": "5", "cached": "1"})


@pytest.mark.parametrize(
    "given",
    [
        "",
        "batchkit.db",
        f"postgresql://user:{SECRET}@host:{SECRET}/name",
        f"mysql://user:{SECRET}@host/name",
        f"oracle+nothing://user:{SECRET}@host/name",
        "sqlite://",
        "sqlite:///:memory:",
    ],
)
def test_unusable_url_is_refused_with_a_hint(given):
    """Nonsense, other databases and in-memory databases are refused with a hint, without repeating what may be a password."""
    with pytest.raises(ConfigurationError) as caught:
        parse_url(given)
    assert caught.value.hint
    assert "sqlite:///" in caught.value.hint
    shown = "".join([str(caught.value), caught.value.hint, str(caught.value.__cause__)])
    assert SECRET not in shown
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{SECRET}@127.0.0.1:1/name",
        f"postgresql://127.0.0.1:1/name?user=user&password={SECRET}",
        f"postgresql://127.0.0.1:1/name?sslpassword={SECRET}",
    ],
)
def test_unreachable_server_is_named_without_its_password(url):
    """The message names the server and its error, with a hint, and shows no password, wherever the URL had it."""
    store = Store(url)
    try:
        with pytest.raises(StoreUnavailable) as caught, store.read():
            pytest.fail("there is no such server")
    finally:
        store.close()
    assert "127.0.0.1" in str(caught.value)
    assert caught.value.hint
    assert SECRET not in str(caught.value)
    assert SECRET not in store.display_url


def test_sqlite_file_is_readable_by_its_owner_only(tmp_path):
    """The database, its log and its folder are made unreadable to others."""
    path = tmp_path / "home" / "batchkit.db"
    store = Store(f"sqlite:///{path}")
    migrate.upgrade(store)
    with store.write() as connection:
        add_workload(connection)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    store.close()
    assert modes["batchkit.db"] == 0o600
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_sqlite_file_that_cannot_be_made_is_unavailable(tmp_path):
    """A path through a file, or to a folder, is an error of ours that names the path."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "batchkit.db", tmp_path):
        with pytest.raises(StoreUnavailable, match="cannot be opened") as caught:
            Store(f"sqlite:///{path}")
        assert str(path) in str(caught.value)


def test_sqlite_file_without_permission_is_unavailable(tmp_path, monkeypatch):
    """A file without read or write permission is reported before anything is done with it."""
    path = tmp_path / "batchkit.db"
    path.touch()
    monkeypatch.setattr(os, "access", lambda _file, mode: mode != os.R_OK | os.W_OK)
    with pytest.raises(StoreUnavailable, match="Permission denied") as caught:
        Store(f"sqlite:///{path}")
    assert caught.value.hint


def test_file_that_is_no_database_is_unavailable(tmp_path):
    """A file of another kind is named and left unchanged."""
    path = tmp_path / "batchkit.db"
    path.write_bytes(b"this is not a database, it is a diary. " * 50)
    before = path.read_bytes()
    store = Store(f"sqlite:///{path}")
    with pytest.raises(StoreUnavailable, match="not a database"):
        migrate.upgrade(store)
    store.close()
    assert path.read_bytes() == before


def test_database_that_refuses_to_write_is_unavailable(postgres_store):
    """A server that has become read-only, such as a standby, is a database error and not a bug."""

    def write() -> None:
        with postgres_store.write() as connection:
            connection.execute(text("SET TRANSACTION READ ONLY"))
            add_workload(connection)

    with pytest.raises(StoreUnavailable, match="read-only"):
        write()


def test_missing_privileges_are_unavailable(postgres_store):
    """A user without the privilege to read the tables gets a one-line error."""

    def read() -> None:
        with postgres_store.write() as connection:
            connection.execute(text("CREATE ROLE batchkit_test_nobody"))
            connection.execute(text("SET LOCAL ROLE batchkit_test_nobody"))
            workloads.every(connection)

    with pytest.raises(StoreUnavailable, match="permission denied") as caught:
        read()
    assert "\n" not in str(caught.value)


def test_mistake_in_a_statement_is_not_hidden(postgres_store):
    """A bug of ours is raised unchanged where the database reports it as one: the server is not blamed."""
    with pytest.raises(ProgrammingError, match="syntax"), postgres_store.read() as connection:
        connection.execute(text("SELEKT 1"))


def test_cut_connection_is_unavailable_and_the_next_works(postgres_store):
    """A connection cut in the middle of a bulk write is reported, the write is rolled back, and the store continues."""
    store = postgres_store
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload, lines=1)

    def write_and_be_cut() -> None:
        with store.write() as connection:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            with store.write() as other:
                other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
            bulk_for(connection).add_requests(workload.id, [(seq, "x", shard.id, 0, 1) for seq in range(10, 5_000)])

    with pytest.raises(StoreUnavailable):
        write_and_be_cut()
    with store.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM requests")).scalar_one() == 1


def test_a_new_file_has_pages_for_whole_answers(sqlite_store):
    """Pages of 16 kB fit answers of a kilobyte or more better than smaller pages."""
    with sqlite_store.read() as connection:
        assert connection.execute(text("PRAGMA page_size")).scalar_one() == 16_384


def test_write_is_kept_whole_or_not_at_all(store):
    """An error in the middle rolls everything back; without one, the next reader sees everything."""

    def write_and_break() -> None:
        with store.write() as connection:
            add_workload(connection, "lost")
            raise InterruptedError

    with pytest.raises(InterruptedError):
        write_and_break()
    with store.write() as connection:
        add_workload(connection, "kept")
    with store.read() as connection:
        assert [workload.name for workload in workloads.every(connection)] == ["kept"]


_HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("INSERT INTO events (at, workload_id, kind) VALUES (1, 1, 'of the other process')")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
connection.close()
"""


def test_writer_waits_for_another_process(sqlite_store):
    """While another process holds SQLite's lock, a write waits for it, and then sees what that process wrote."""
    path = sqlite_store.url.database

    def write() -> int:
        with sqlite_store.write() as connection:
            return int(connection.execute(text("SELECT count(*) FROM events")).scalar_one())

    with (
        subprocess.Popen(
            [sys.executable, "-c", _HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as holder,
        ThreadPoolExecutor(1) as pool,
    ):
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        writing = pool.submit(write)
        try:
            # Long enough that a writer which does not wait would have failed.
            assert wait([writing], timeout=0.3).not_done == {writing}
        finally:
            holder.stdin.write("\n")
            holder.stdin.flush()
        assert writing.result(timeout=30) == 1


def test_second_store_does_not_release_the_lock_of_the_first(sqlite_store):
    """Opening and closing the file a second time in a process keeps the first store's locks: no commit is lost."""
    path = sqlite_store.url.database
    with sqlite_store.write() as connection:
        add_workload(connection, "before")
    Store(f"sqlite:///{path}").close()
    # To the other process it seems to be the last one, unless our lock holds: then it may not delete the log.
    subprocess.run([sys.executable, "-c", _HOLDER, path], input="\n", stdout=subprocess.DEVNULL, text=True, check=True)
    with sqlite_store.write() as connection:
        add_workload(connection, "after")
    seen = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT name FROM workloads ORDER BY id').fetchall())"
    told = subprocess.run([sys.executable, "-c", seen, path], capture_output=True, text=True, check=True)
    assert told.stdout == "[('before',), ('after',)]\n"


def test_many_may_open_a_new_file_at_once(tmp_path):
    """The first one creates it; the others wait instead of failing."""
    rounds, runners = 12, 4

    def read(url: str, start: threading.Barrier) -> int:
        store = Store(url)
        try:
            start.wait()
            with store.read() as connection:
                return int(connection.execute(text("SELECT 1")).scalar_one())
        finally:
            store.close()

    with ThreadPoolExecutor(runners) as pool:
        for number in range(rounds):
            start = threading.Barrier(runners)
            url = f"sqlite:///{tmp_path}/{number}.db"
            reading = [pool.submit(read, url, start) for _ in range(runners)]
            assert [future.result() for future in reading] == [1] * runners


class BusyCursor:
    """Refuses the first statements with a SQLite error code, then accepts them."""

    def __init__(self, code: int, times: int) -> None:
        self.errors = [sqlite3.OperationalError("refused") for _ in range(times)]
        for error in self.errors:
            error.sqlite_errorcode = code
        self.taken: list[str] = []

    def execute(self, statement: str) -> None:
        """Accept or refuse a statement."""
        if self.errors:
            raise self.errors.pop()
        self.taken.append(statement)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY])
def test_refused_wal_switch_of_a_new_file_is_retried(code):
    """Two connections that switch the same new file refuse each other at once: the loser retries until it succeeds."""
    cursor = BusyCursor(code, times=3)
    engine._switch_to_wal(cursor)  # type: ignore[arg-type] # it is used like one
    assert cursor.taken == ["PRAGMA journal_mode = WAL"]


def test_other_errors_of_a_new_file_are_raised_at_once():
    """Only "busy" passes by itself."""
    with pytest.raises(sqlite3.OperationalError, match="refused"):
        engine._switch_to_wal(BusyCursor(sqlite3.SQLITE_READONLY, times=1))  # type: ignore[arg-type] # as above


def test_file_that_stays_locked_is_held(tmp_path, monkeypatch):
    """Waiting for another program's lock ends with an error that names the cause."""
    path = tmp_path / "batchkit.db"
    monkeypatch.setattr(engine, "_BUSY_TIMEOUT_MILLISECONDS", 30)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    store = Store(f"sqlite:///{path}")
    with pytest.raises(RowsHeld, match="locked") as caught, store.read():
        pytest.fail("the file is locked")
    assert caught.value.exit_code == 4
    assert "end the other program" in (caught.value.hint or "")
    store.close()
    holder.close()


def test_reader_does_not_wait_for_a_writer(store):
    """A status can be read while a merge writes; it shows the last committed state."""
    with store.write() as writing:
        add_workload(writing)
        with store.read() as reading:
            assert workloads.every(reading) == []
    with store.read() as reading:
        assert len(workloads.every(reading)) == 1


def test_sqlite_survives_a_power_cut(sqlite_store):
    """Commits are fully synced: the note that a batch is about to be created must be on disk before the creation."""
    with sqlite_store.read() as connection:
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert connection.execute(text("PRAGMA foreign_keys")).scalar_one() == 1


def test_store_can_be_closed_twice_and_leaves_no_log_behind(sqlite_url):
    """After closing, the database file alone holds everything."""
    store = Store(sqlite_url)
    with store.write() as connection:
        add_workload(connection)
    store.close()
    store.close()
    path = Path(store.url.database or "")
    assert [file.name for file in path.parent.iterdir() if file.name.startswith(path.name)] == [path.name]
    file = sqlite3.connect(path)
    assert file.execute("SELECT count(*) FROM workloads").fetchone() == (1,)
    file.close()


def test_a_write_that_an_interrupt_left_open_is_rolled_back_by_the_next(store):
    """Ctrl-C between the begin of a transaction and its block leaves it open as long as the traceback exists."""
    with store.write() as connection:
        name = add_workload(connection).name

    def interrupted():
        transaction = store.write()
        transaction.__enter__().execute(text("UPDATE workloads SET name = 'lost'"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as raised:
        interrupted()
    with store.write() as connection:
        assert connection.execute(text("SELECT name FROM workloads")).scalar_one() == name
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(_rename, store).result(20) == 1

    del raised
    gc.collect()
    with store.read() as connection:
        assert connection.execute(text("SELECT name FROM workloads")).scalar_one() == "renamed"


def _rename(store):
    with store.write() as connection:
        return connection.execute(text("UPDATE workloads SET name = 'renamed'")).rowcount


def test_a_write_that_is_interrupted_in_a_statement_is_rolled_back_at_once(database_url, monkeypatch):
    """This holds even though a kept traceback references a cursor."""
    monkeypatch.setattr(engine, "_BUSY_TIMEOUT_MILLISECONDS", 500)
    store = Store(database_url)
    do_execute = store.engine.dialect.do_execute

    def interrupted(cursor, statement, parameters, context=None):
        do_execute(cursor, statement, parameters, context)
        if "lost" in statement:
            raise KeyboardInterrupt

    monkeypatch.setattr(store.engine.dialect, "do_execute", interrupted)
    with store.write() as connection:
        add_workload(connection)
    with pytest.raises(KeyboardInterrupt) as raised, store.write() as connection:
        connection.execute(text("UPDATE workloads SET name = 'lost' RETURNING id"))
    assert _rename(store) == 1
    assert raised.value is not None
    store.close()


def test_a_connection_that_outlives_its_store_is_closed_when_its_transaction_ends(database_url):
    """A thread that still reads while its store is closed leaves no connection behind."""
    store = Store(database_url)
    given: list[object] = []
    event.listen(store.engine, "close", lambda connection, _record: given.append(connection))
    with store.read() as connection:
        used = connection.connection.driver_connection
        store.close()
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
        assert used not in given
    assert given == [used]
