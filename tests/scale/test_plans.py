"""Query plans with thousands of shards: each query of a pass uses an index, however much of the workload is done."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from batchkit.models import ShardState
from batchkit.store import batches, shard_leases, shards, workloads
from tests.factories import NOW
from tests.planned import KINDS, filled_store, plans
from tests.scale.fill import Filling, fill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Connection

    from batchkit.models import WorkloadId
    from batchkit.store.engine import Store


@dataclass
class Filled:
    """A store with one large workload that is mostly done."""

    store: Store
    workload_id: WorkloadId


@pytest.fixture(scope="module", params=KINDS)
def filled(request, tmp_path_factory) -> Iterator[Filled]:
    """Fill a database once for all plans."""
    with filled_store(request, tmp_path_factory, _fill) as (store, workload_id):
        yield Filled(store, workload_id)


def _fill(store: Store) -> WorkloadId:
    for number in range(4):
        fill(store, Filling(merged=500, lines=1), name=f"done-{number}")
    return fill(store, Filling(merged=6_000, submitted=100, planned=2_000, lines=1))


BY_STATE = "shards_workload_id_state_number"

CALLS: dict[str, tuple[Callable[[Connection, WorkloadId], object], str]] = {
    "claim": (
        lambda c, own: shard_leases.claim(c, own, ShardState.PLANNED, owner="a", now=NOW, lease_seconds=9, limit=20),
        BY_STATE,
    ),
    "count_claimable": (
        lambda c, own: shard_leases.count_claimable(c, own, (ShardState.ENDED,), owner="a", now=NOW, at_most=200),
        BY_STATE,
    ),
    "next_due": (lambda c, own: shards.next_due(c, own, ShardState.PLANNED, ShardState.ENDED), BY_STATE),
    "has_any": (lambda c, own: shards.has_any(c, own, (ShardState.ENDED, ShardState.SUBMITTING)), BY_STATE),
    "open batches": (batches.open_of_workload, BY_STATE),
    "open statuses": (batches.open_statuses, BY_STATE),
    "lease owners": (lambda c, _: shard_leases.lease_owners(c), "shards_leased"),
    "renew leases": (lambda c, _: shard_leases.renew_leases(c, "a", NOW), "shards_leased"),
    "release": (lambda c, _: shard_leases.release(c, "a"), "shards_leased"),
    "troubled": (lambda c, own: batches.troubled(c, own, limit=50), "batches_troubled"),
    "failure reasons": (workloads.failure_reasons, "results_failed"),
}


@pytest.mark.parametrize("name", CALLS)
def test_finished_work_is_not_read_again(filled, name):
    """Each query has an index that holds little more than the result."""
    call, index = CALLS[name]

    explained = plans(filled.store, lambda connection: call(connection, filled.workload_id))

    assert any(index in plan for plan in explained), explained
    assert not [
        plan
        for plan in explained
        if re.search(r"SCAN (shards|batches)$|Seq Scan on (shards|batches)\b", plan, re.MULTILINE)
    ]


def test_a_claim_stops_when_it_has_enough(filled):
    """The index returns the shards of a state by number, so a claim does not sort thousands of them."""
    (plan,) = plans(filled.store, lambda connection: CALLS["claim"][0](connection, filled.workload_id))

    candidates = plan.split("CTE candidates")[-1]
    assert "TEMP B-TREE FOR ORDER BY" not in candidates
    assert "Sort" not in candidates
