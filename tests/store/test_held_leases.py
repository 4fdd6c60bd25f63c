"""On Postgres: a lease row that another session locks does not keep other leases from being renewed or given up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select, update

from batchkit.models import ShardState
from batchkit.store import shard_leases
from batchkit.store.engine import Store, keeps_alive
from batchkit.store.tables import shards as shard_rows
from tests.factories import NOW, add_shard, add_workload


@pytest.mark.parametrize("action", ["renew", "release"])
def test_a_locked_lease_row_keeps_no_other_lease_waiting(postgres_url, action):
    """The other lease is renewed or given up at once, without a wait."""
    store, other = Store(postgres_url), Store(postgres_url)
    store.limits = replace(store.limits, lock_seconds=0.2)
    with store.write() as connection:
        workload = add_workload(connection)
        made = [add_shard(connection, workload, state=ShardState.ENDED) for _ in range(2)]
        connection.execute(update(shard_rows).values(lease_owner="us", lease_until=NOW))
    with other.write() as holder:
        holder.execute(select(shard_rows.c.id).where(shard_rows.c.id == made[0].id).with_for_update())
        with store.write() as connection:
            if action == "renew":
                shard_leases.renew_leases(connection, "us", NOW + 60)
            else:
                shard_leases.release(connection, "us")
    with store.read() as connection:
        query = select(shard_rows.c.lease_until).order_by(shard_rows.c.id)
        found = list(connection.scalars(query))
    store.close()
    other.close()

    assert found == [NOW, NOW + 60 if action == "renew" else None]


def test_a_transaction_that_is_kept_alive_is_not_ended_as_idle(postgres_url, monkeypatch):
    """It sends a statement now and then, and not more often than necessary."""
    store = Store(postgres_url)
    moments = iter([0.0, 1.0, 6.0, 6.0, 7.0])
    said: list[str] = []
    with store.read() as connection:
        keep_alive = keeps_alive(connection, every_seconds=5, timer=lambda: next(moments))
        monkeypatch.setattr(connection, "exec_driver_sql", said.append)
        for _ in range(3):
            keep_alive()
    store.close()

    assert said == ["SELECT 1"]
