"""Query plans of reuse beside 15,000 requests of another workload: no statement reads whole tables."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from batchkit.store import reuse, workloads
from batchkit.store.bulk import bulk_for
from batchkit.store.reuse import AnsweredBy
from tests.factories import add_shard, lost_attempt
from tests.planned import BIG, KINDS, filled_store, plans
from tests.store.reusing import digest, donor, follow, heir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Connection

    from batchkit.models import Shard, Workload
    from batchkit.store.engine import Store

BIG_SHARDS, LINES = 150, 100


@dataclass
class Loaded:
    """A large workload with digests and followers, and a small one, of whose answers another one has reused some."""

    store: Store
    large: Workload
    open_shard: Shard
    small: Workload


@pytest.fixture(scope="module", params=KINDS)
def loaded(request, tmp_path_factory) -> Iterator[Loaded]:
    """Fill a database once for all plans."""
    with filled_store(request, tmp_path_factory, _fill) as (_, filled):
        yield filled


def _fill(store: Store) -> Loaded:
    with store.write() as connection:
        large = donor(connection, "large", shards=BIG_SHARDS, lines=LINES)
        open_shard = add_shard(connection, large, lines=LINES)
        follow(connection, open_shard, 500, first_seq=BIG_SHARDS * LINES + LINES)
        small = donor(connection, "small", shards=2, lines=10)
        heir(connection, "heir", [f"small {seq}" for seq in range(20)])
        heir(connection, "another", [f"large {seq}" for seq in range(2_000)])
        lost = [lost_attempt(open_shard, seq) for seq in range(BIG_SHARDS * LINES)]
        bulk_for(connection).add_attempts(lost)
        # Some answers of workloads that were cleaned.
        gone = donor(connection, "gone", lines=10)
        heir(connection, "heir of it", [f"gone {seq}" for seq in range(10)])
        workloads.remove(connection, gone.id)
        large, small = (workloads.get(connection, workload.id) for workload in (large, small))
    return Loaded(store, large, open_shard, small)


def scans(plan: str) -> list[str]:
    """Return the lines of a plan that read a whole table of requests, or all requests of a workload in SQLite."""
    big = "|".join(BIG)
    whole = rf"\bSCAN ({big}|mine|own|heir|answered|leader)\b|Seq Scan on ({big})\b"
    return re.findall(rf".*(?:{whole}).*", plan)


CALLS: dict[str, tuple[Callable[[Loaded], Callable[[Connection], object]], str]] = {
    "find_known": (
        lambda _on: lambda c: list(reuse.find_known(c, [digest(f"large {seq}") for seq in range(0, 9_000, 45)])),
        "requests_digest",
    ),
    "add_answered": (
        lambda on: (
            lambda c: reuse.add_answered(
                c,
                on.small.id,
                [
                    AnsweredBy(100 + place, found.workload_id, found.seq, found.result_shard_id)
                    for place, found in enumerate(reuse.find_known(c, [digest(f"large {seq}") for seq in range(300)]))
                    if found.result_shard_id is not None
                ],
            )
        ),
        "results_pkey|answered USING PRIMARY KEY",
    ),
    "kept_answers": (
        lambda _on: (
            lambda c: reuse.kept_answers(c, list(reuse.find_known(c, [digest(f"large {seq}") for seq in range(9)])))
        ),
        "bodies_pkey|sqlite_autoindex_bodies_1",
    ),
    "settle_followers": (
        lambda on: (
            lambda c: reuse.settle_followers(
                c, on.large.id, first_seq=on.open_shard.first_seq, last_seq=on.open_shard.last_seq
            )
        ),
        "requests_followers",
    ),
    "settle_followers of all": (lambda on: lambda c: reuse.settle_followers(c, on.large.id), "requests_followers"),
    "reopen_followers": (lambda on: lambda c: reuse.reopen_followers(c, on.large.id), "requests_"),
    "waiting_followers": (lambda on: lambda c: reuse.waiting_followers(c, on.large.id), "requests_followers"),
    "hand_on": (lambda on: lambda c: reuse.hand_on(c, on.small.id), "results_reused"),
}


@pytest.mark.parametrize("name", CALLS)
def test_no_statement_of_reuse_reads_whole_tables(loaded, name):
    """Beside 15,000 requests of another workload, each of them is found by an index."""
    make, index = CALLS[name]
    plan = "\n\n".join(plans(loaded.store, make(loaded), with_inserts=True))
    assert scans(plan) == [], plan
    assert re.search(index, plan), plan
