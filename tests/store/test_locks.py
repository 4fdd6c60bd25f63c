"""Lock time limits on Postgres: a waiting process gives up in time, reports the lock's holder, and continues with other work."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest
from sqlalchemy import text

from batchkit.errors import RowsHeld, StoreUnavailable
from batchkit.store import migrate, postgres
from batchkit.store.engine import Store, TransactionLimits
from tests.factories import add_workload
from tests.surroundings.cut_postgres import CutPostgres

SHORT = TransactionLimits(lock_seconds=0.3, idle_seconds=0.5, statement_seconds=1)
UPDATE = "UPDATE workloads SET created_at = created_at WHERE name = 'held'"


@pytest.fixture
def held_url(postgres_url):
    """Return the URL of a database with one workload, whose row others lock."""
    store = Store(postgres_url)
    with store.write() as connection:
        add_workload(connection, "held")
    store.close()
    return postgres_url


@contextmanager
def opened(url, limits=SHORT):
    """Open a store with short limits."""
    store = Store(url, limits=limits)
    try:
        yield store
    finally:
        store.close()


def write(store):
    """Change the row that others lock."""
    with store.write() as connection:
        connection.execute(text(UPDATE))


def driver_url(url):
    """Return a URL in psycopg's form."""
    return url.replace("+psycopg", "")


def test_writer_gives_up_in_time_and_reports_who_holds_the_row(held_url):
    """The error has the holder's session, program and statement without its values; afterwards the row is free again."""
    with (
        psycopg.connect(driver_url(held_url), application_name="psql of an administrator") as holder,
        opened(held_url) as store,
    ):
        holder.execute(
            "UPDATE workloads SET name = 'held' /* by me */ WHERE name = 'held' AND 17 < 18 AND source <> $$x$$"
        )
        with pytest.raises(RowsHeld, match="is locked") as caught:
            write(store)
        assert caught.value.exit_code == 4
        assert "0.3 s" in caught.value.message
        assert (
            f"session {holder.info.backend_pid} (psql of an administrator, idle in transaction" in caught.value.message
        )
        assert "UPDATE workloads SET name = ? ? WHERE name = ? AND ? < ? AND source <> ?" in caught.value.message
        assert "terminate" in (caught.value.hint or "")
        holder.rollback()
        write(store)


def test_reader_that_keeps_a_table_from_being_changed_is_named(held_url):
    """A transaction that only reads blocks nothing but a change of the table itself."""
    with psycopg.connect(driver_url(held_url), application_name="a reader") as holder, opened(held_url) as store:
        holder.execute("SELECT 1 FROM workloads")
        write(store)
        with pytest.raises(RowsHeld, match="a reader"), store.write() as connection:
            connection.execute(text("ALTER TABLE workloads ADD COLUMN more integer"))


def test_deadlock_is_no_outage(held_url):
    """The server aborts one of the two transactions: that is no bug, and the other one continues."""
    with opened(held_url, TransactionLimits(lock_seconds=20)) as store:
        with store.write() as connection:
            add_workload(connection, "other")
        met = threading.Barrier(2, timeout=20)
        errors = []

        def write_both(first, second):
            try:
                with store.write() as connection:
                    for name in (first, second):
                        connection.execute(
                            text("UPDATE workloads SET created_at = 1 WHERE name = :name"), {"name": name}
                        )
                        if name == first:
                            met.wait()
            except RowsHeld as error:
                errors.append(error)

        threads = [threading.Thread(target=write_both, args=names) for names in (("held", "other"), ("other", "held"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (error,) = errors
        assert "waited for each other" in error.message


_PEER = """
import sys
from sqlalchemy import text
from batchkit.store.driver import copy_in
from batchkit.store.engine import TransactionLimits, Store
store = Store(sys.argv[1], limits=TransactionLimits(lock_seconds=0.3, idle_seconds=0.5, statement_seconds=1))
try:
    with store.write() as connection:
        connection.execute(text(sys.argv[2]))
        if sys.argv[3] == "in a statement":
            def write(copy):
                copy.write_row((1, 1, "kind"))
                print("stopped", flush=True)
                sys.stdin.readline()
            copy_in(connection, "COPY events (at, workload_id, kind) FROM STDIN", write)
        else:
            print("stopped", flush=True)
            sys.stdin.readline()
            connection.execute(text("SELECT 1"))
except Exception as error:
    print(type(error).__name__, flush=True)
"""


@pytest.mark.parametrize("where", ["between statements", "in a statement"])
def test_stopped_peer_holds_its_rows_for_a_limited_time(held_url, where):
    """A process stopped inside a transaction is reported, is ended after its limits, and learns of it when it wakes up."""
    with (
        subprocess.Popen(
            [sys.executable, "-c", _PEER, held_url, UPDATE, where],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as peer,
        opened(held_url) as store,
    ):
        assert peer.stdout is not None
        assert peer.stdout.readline() == "stopped\n"
        os.kill(peer.pid, signal.SIGSTOP)
        try:
            told = []
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                try:
                    write(store)
                    break
                except RowsHeld as error:
                    told.append(error.message)
            else:
                pytest.fail("the rows are never free again")
        finally:
            os.kill(peer.pid, signal.SIGCONT)
        assert f"batchkit {socket.gethostname()[:40]} {peer.pid}" in told[0]
        assert peer.communicate("\n")[0] == "StoreUnavailable\n"


def test_peer_within_its_time_limit_is_left_alone(held_url):
    """A COPY within the statement timeout is waited for, and not ended."""
    with (
        subprocess.Popen(
            [sys.executable, "-c", _PEER, held_url, UPDATE, "in a statement"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as peer,
        opened(held_url, TransactionLimits(lock_seconds=0.3)) as store,
    ):
        assert peer.stdout is not None
        assert peer.stdout.readline() == "stopped\n"
        for _ in range(2):
            with pytest.raises(RowsHeld) as caught:
                write(store)
            assert "was ended" not in caught.value.message
        peer.kill()


def test_cut_line_ends_on_both_sides(held_url):
    """When a connection silently passes no more data, the server frees the rows and the client reports an outage."""
    with CutPostgres(held_url) as line, opened(line.url) as store, opened(held_url) as other:

        def write_and_be_cut():
            with store.write() as connection:
                connection.execute(text(UPDATE))
                line.cut()
                connection.execute(text(UPDATE))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(postgres, "_REPLY_SECONDS", 0.5)
            with pytest.raises(StoreUnavailable, match="has not answered"):
                write_and_be_cut()
        deadline = time.monotonic() + 30
        while True:
            try:
                write(other)
                break
            except RowsHeld:
                assert time.monotonic() < deadline


def test_statement_that_takes_too_long_is_an_outage_and_a_read_is_not_limited(held_url):
    """A write ends after its limit; an export, which is a read, has no limit."""
    with opened(held_url) as store:
        with pytest.raises(StoreUnavailable, match="statement timeout"), store.write() as connection:
            connection.execute(text("SELECT pg_sleep(5)"))
        with store.read() as connection:
            connection.execute(text("SELECT pg_sleep(1.2)"))


def test_upgrade_waits_for_another_one_without_a_limit(held_url):
    """The lock of an upgrade is no row lock: the second upgrade waits until the first is finished."""
    limits = replace(SHORT, idle_seconds=30)
    with opened(held_url, limits) as store, opened(held_url, limits) as other:
        done = threading.Event()

        def upgrade():
            with other.write(is_upgrade=True) as connection:
                migrate.wait_for_upgrades(connection, other)
            done.set()

        with store.write(is_upgrade=True) as connection:
            migrate.wait_for_upgrades(connection, store)
            thread = threading.Thread(target=upgrade)
            thread.start()
            connection.execute(text("SELECT pg_sleep(1.5)"))
            assert not done.is_set()
        thread.join()
        assert done.is_set()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("55P03", RowsHeld),
        ("40P01", RowsHeld),
        ("40001", StoreUnavailable),
        ("25006", StoreUnavailable),
        ("25P03", StoreUnavailable),
        ("53300", StoreUnavailable),
        ("53100", StoreUnavailable),
        ("57014", StoreUnavailable),
        ("57P01", StoreUnavailable),
        ("57P02", StoreUnavailable),
        ("57P03", StoreUnavailable),
        ("57P05", StoreUnavailable),
        ("08006", StoreUnavailable),
        ("08P01", StoreUnavailable),
        ("58030", StoreUnavailable),
        ("XX000", StoreUnavailable),
    ],
)
def test_refusals_by_a_server_or_a_pooler_are_no_bug(held_url, code, kind):
    """Timeouts, an administrator's shutdown, a failover, too many connections."""
    with opened(held_url) as store, pytest.raises(kind) as caught, store.write() as connection:
        connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '{code}'; END $$"))
    assert caught.value.exit_code == 4
