"""A database that is unreachable when a command begins is waited for like one that becomes unreachable later."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from batchkit.engine.runtime import Runner
from batchkit.errors import ConfigurationError, RowsHeld, SpoolError, StoreUnavailable, StoreUnusable
from batchkit.settings import load_settings
from batchkit.store import engine, shard_leases
from batchkit.store.engine import Store
from tests.factories import add_shard, add_workload

if TYPE_CHECKING:
    from tests.clock import FakeClock


class Waits:
    """Waits on a clock that otherwise stands still; the ``last`` wait calls ``then``."""

    def __init__(self, clock: FakeClock, *, last: int = 0, then=lambda: None) -> None:
        self._clock = clock
        self._last = last
        self._then = then
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        """Advance the clock."""
        self.seconds.append(seconds)
        self._clock.advance(seconds)
        if len(self.seconds) == self._last:
            self._then()


@pytest.fixture
def settings_of(tmp_path):
    """Return a function that makes the settings for a database."""

    def make(url, **given):
        return load_settings(home=tmp_path / "home", database_url=url, outage_seconds=60, **given)

    return make


def test_server_that_comes_back_is_waited_for(own_postgres, own_database, settings_of, clock, caplog):
    """A command that begins in an outage reports it once, waits, reports the end of the outage, and continues."""
    own_postgres.stop()
    waits = Waits(clock, last=3, then=own_postgres.start)
    try:
        with Runner(settings_of(own_postgres.url_of(own_database)), clock=clock, wait=waits) as runner:
            assert runner.all_workloads() == []
    finally:
        own_postgres.start()
    assert waits.seconds == [1, 2, 4]
    began, ended = [record.getMessage() for record in caplog.records if record.name == "batchkit.engine.outage"]
    assert own_database in began
    assert "waiting for it, up to 1 min" in began
    assert "is back" in ended


def test_server_that_goes_away_before_the_first_read_is_waited_for(own_postgres, own_database, settings_of, clock):
    """This includes an outage between the opening of a runner and its first read."""
    waits = Waits(clock, last=1, then=own_postgres.start)
    with Runner(settings_of(own_postgres.url_of(own_database)), clock=clock, wait=waits) as runner:
        own_postgres.stop()
        try:
            assert runner.known("nightly") is None
        finally:
            own_postgres.start()
    assert waits.seconds == [1]


def test_server_that_stays_unreachable_ends_the_command(settings_of, clock):
    """The command ends after ``outage_seconds``."""
    waits = Waits(clock)
    with pytest.raises(StoreUnavailable, match="for 61 s now") as caught:
        Runner(settings_of("postgresql://127.0.0.1:1/name"), clock=clock, wait=waits)
    assert caught.value.exit_code == 4
    assert waits.seconds == [1, 2, 4, 8, 16, 30]


def test_permanent_errors_are_not_waited_for(own_postgres, settings_of, clock, tmp_path):
    """A wrong URL and a file that is no database are reported at once."""
    waits = Waits(clock)
    with pytest.raises(ConfigurationError):
        Runner(settings_of(own_postgres.url_of("no_such_database")), clock=clock, wait=waits)
    (tmp_path / "diary.db").write_bytes(b"this is not a database, it is a diary. " * 50)
    with pytest.raises(StoreUnusable):
        Runner(settings_of(f"sqlite:///{tmp_path}/diary.db"), clock=clock, wait=waits)
    assert waits.seconds == []


def test_file_that_another_program_locks_is_waited_for(settings_of, sqlite_url, clock, monkeypatch):
    """SQLite's lock is waited for as long as an outage."""
    monkeypatch.setattr(engine, "_BUSY_TIMEOUT_MILLISECONDS", 10)
    path = sqlite_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("PRAGMA journal_mode = DELETE")
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RowsHeld, match=r"locked.*for 61 s now"):
            Runner(settings_of(sqlite_url), clock=clock, wait=Waits(clock))
        waits = Waits(clock, last=2, then=lambda: holder.execute("COMMIT"))
        Runner(settings_of(sqlite_url), clock=clock, wait=waits).close()
        assert waits.seconds == [1, 2]


@pytest.fixture
def leased(database_url, monkeypatch):
    """Return the URL of a database in which a dead process holds a shard, and a function that returns the holder."""
    monkeypatch.setattr("batchkit.owners.is_certainly_dead", lambda owner: owner == "the dead one")
    store = Store(database_url)
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload, lines=1)
        shard_leases.claim(
            connection, workload.id, shard.state, owner="the dead one", now=0, lease_seconds=1e12, limit=1
        )

    def owners():
        with store.read() as connection:
            return shard_leases.lease_owners(connection)

    yield database_url, owners
    store.close()


def test_leases_of_the_dead_are_freed_when_the_spool_cannot_be_swept(leased, settings_of, clock, monkeypatch, caplog):
    """Files that others left on the disk block nothing."""
    url, owners = leased
    with Runner(settings_of(url), clock=clock, wait=Waits(clock)) as runner:

        def refuse(_is_dead):
            raise SpoolError("cannot delete the left-overs")

        monkeypatch.setattr(runner.spool, "sweep", refuse)
        runner._leases.hold()
        assert owners() == set()
    assert "cannot delete the left-overs" in caplog.text


def test_leases_of_the_dead_are_freed_when_the_first_try_failed(leased, settings_of, clock, monkeypatch):
    """An outage of the database at the first moment does not leave the leases held."""
    url, owners = leased
    with Runner(settings_of(url), clock=clock, wait=Waits(clock)) as runner:
        with monkeypatch.context() as patch:
            patch.setattr(shard_leases, "lease_owners", _away)
            with pytest.raises(StoreUnavailable):
                runner._leases.hold()
        assert owners() == {"the dead one"}
        runner._leases.hold()
        assert owners() == set()


def _away(_connection):
    raise StoreUnavailable("the database is away")
