"""The leases of a process: renewed while it works, given up at its end, taken over from another process."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import select, update

from batchkit.engine.leases import LeaseKeeper, ProcessLeases
from batchkit.files.spool import Spool
from batchkit.models import ShardState
from batchkit.store import shards, workloads
from batchkit.store.tables import shards as shard_rows
from batchkit.store.tables import workloads as workload_rows
from tests.factories import NOW, add_shard, add_workload


@pytest.fixture
def leases(store, tmp_path):
    """Return the leases of an owner ``us``, of 60 s, which are not renewed automatically."""
    return ProcessLeases(store, Spool(tmp_path), owner="us", clock=lambda: NOW, lease_seconds=60)


def lease_of(store, table):
    """Return the lease of the only row of a table."""
    with store.read() as connection:
        return tuple(connection.execute(select(table.c.lease_owner, table.c.lease_until)).one())


def held_by(store, owner, *, state=ShardState.ENDED):
    """Add a workload with a shard, both held by an owner whose lease is about to expire."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload, state=state)
        for table in (shard_rows, workload_rows):
            connection.execute(update(table).values(lease_owner=owner, lease_until=NOW + 1))
    return workload, shard


def test_a_renewal_extends_the_leases_of_shards_and_workloads(store, leases):
    """Both then end a whole lease from now."""
    held_by(store, "us")
    leases._renew()
    assert lease_of(store, shard_rows) == lease_of(store, workload_rows) == ("us", NOW + 60)


def test_an_orderly_end_gives_all_leases_up(store, leases):
    """Other processes need not wait until they expire, and the grace period of a creation starts again."""
    _, shard = held_by(store, "us", state=ShardState.SUBMITTING)
    leases.hold()
    leases.give_up()
    assert lease_of(store, shard_rows) == lease_of(store, workload_rows) == (None, None)
    with store.read() as connection:
        assert shards.get(connection, shard.id).submitting_since == NOW


def test_shards_that_another_process_still_holds_are_taken_over(store, leases):
    """A shard that the process has lost is left alone."""
    _, shard = held_by(store, "them")
    assert leases.take_over([shard.id], owner="somebody") == ()
    assert lease_of(store, shard_rows) == ("them", NOW + 1)
    assert leases.take_over([shard.id], owner="them") == (shard.id,)
    assert lease_of(store, shard_rows) == ("us", NOW + 60)


def test_an_interrupted_split_is_taken_over_only_when_its_lease_is_free(store, leases):
    """A running lease belongs to its holder."""
    workload, _ = held_by(store, "them")
    assert not leases.take_split(workload.id)
    with store.write() as connection:
        workloads.release_lease(connection, "them")
    assert leases.take_split(workload.id)
    assert lease_of(store, workload_rows) == ("us", NOW + 60)


def test_leases_are_renewed_periodically():
    """The keeper renews leases at its interval until it is closed, and never after that."""
    before = set(threading.enumerate())
    calls = threading.Semaphore(0)
    keeper = LeaseKeeper(calls.release, 0.001)
    for _ in range(3):
        assert calls.acquire(timeout=10)
    keeper.close()
    assert set(threading.enumerate()) <= before
    while calls.acquire(blocking=False):
        pass
    assert not calls.acquire(timeout=0.02)


def test_failed_renewal_does_not_end_the_renewing():
    """A short outage of the database costs one renewal, not all."""
    calls = threading.Semaphore(0)

    def renew() -> None:
        calls.release()
        raise ConnectionError

    keeper = LeaseKeeper(renew, 0.001)
    for _ in range(3):
        assert calls.acquire(timeout=10)
    keeper.close()


def test_nothing_is_renewed_before_its_time():
    """The first renewal comes after the interval, and closing does not wait for it."""
    calls = threading.Semaphore(0)
    keeper = LeaseKeeper(calls.release, 3_600)
    keeper.close()
    assert not calls.acquire(blocking=False)


def test_unclosed_keeper_does_not_keep_the_process_alive():
    """Its thread ends with the process."""
    before = set(threading.enumerate())
    keeper = LeaseKeeper(lambda: None, 3_600)
    try:
        (thread,) = set(threading.enumerate()) - before
        assert thread.daemon
    finally:
        keeper.close()
