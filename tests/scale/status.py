"""``python -m tests.scale.status``: the time of the queries of ``status`` and of every pass on a store of ten million requests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from batchkit.engine.progress import read_progress
from batchkit.models import ShardState
from batchkit.store import batches, migrate, requests, shard_leases, shards, workloads
from batchkit.store.engine import Store
from tests.factories import NOW
from tests.scale.fill import Filling, fill
from tests.scale.temporary_databases import DATABASES, temporary_database, vacuum

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from batchkit.models import WorkloadId

#: How many of 1,000 shards are submitted and planned, and how many of 1,000 merged requests are pending.
SUBMITTED, PLANNED, PENDING = 20, 10, 15


def filling_of(requests_in_all: int, lines: int) -> Filling:
    """Return a store that is mostly done: 1 % of the requests failed, 1.5 % are pending again."""
    count = requests_in_all // lines
    submitted, planned = max(count * SUBMITTED // 1_000, 1), max(count * PLANNED // 1_000, 1)
    return Filling(count - submitted - planned, submitted, planned, lines=lines, pending_per_mille=PENDING)


def _status(connection: Connection, workload_id: WorkloadId) -> object:
    return read_progress(connection, workloads.get(connection, workload_id), now=NOW)


def _all(connection: Connection, _: WorkloadId) -> object:
    return [read_progress(connection, workload, now=NOW) for workload in workloads.every(connection)]


def _first_pending(connection: Connection, workload_id: WorkloadId) -> object:
    among = requests.resubmit_groups(connection, workload_id, now=NOW)[0].shard_ids
    return requests.pending_after(connection, workload_id, shard_ids=among, after_seq=-1, limit=1_000)


def _next_due(connection: Connection, workload_id: WorkloadId) -> object:
    return shards.next_due(connection, workload_id, ShardState.PLANNED, ShardState.ENDED)


def _claim(connection: Connection, own: WorkloadId) -> object:
    return shard_leases.claim(connection, own, ShardState.PLANNED, owner="a", now=NOW, lease_seconds=9, limit=200)


#: The queries, by the name in the table.
QUERIES: dict[str, Callable[[Connection, WorkloadId], object]] = {
    "status NAME": _status,
    "status": _all,
    "requests by state": lambda c, own: workloads.count_requests(c, workloads.get(c, own)),
    "reasons of failure": workloads.failure_reasons,
    "open workloads": lambda c, _: workloads.open_workloads(c),
    "open batches": batches.open_of_workload,
    "next_due": _next_due,
    "next_resubmit_due": requests.next_resubmit_due,
    "resubmit_groups": lambda c, own: requests.resubmit_groups(c, own, now=NOW),
    "the first 1,000 pending": _first_pending,
    "claim 200": _claim,
    "renew leases": lambda c, _: shard_leases.renew_leases(c, "nobody", NOW),
}


def time_queries(store: Store, workload_id: WorkloadId, *, rounds: int) -> dict[str, float]:
    """Run every query ``rounds`` times and roll back; return the seconds of the fastest run."""
    seconds: dict[str, float] = {}
    for name, query in QUERIES.items():
        for _ in range(rounds):
            with store.engine.connect() as connection, connection.begin() as transaction:
                began = time.perf_counter()
                query(connection, workload_id)
                took = time.perf_counter() - began
                transaction.rollback()
            seconds[name] = min(took, seconds.get(name, took))
    return seconds


def main(
    requests_in_all: Annotated[int, typer.Option("--requests", help="Requests in the store.")] = 10_000_000,
    lines: Annotated[int, typer.Option(help="Requests in each shard.")] = 1_000,
    rounds: Annotated[int, typer.Option(help="How often each query runs; the fastest run counts.")] = 3,
) -> None:
    """Fill a store on each kind of database, run the queries, and print a Markdown table of milliseconds."""
    console = Console(width=10_000)
    for line in (f"| {requests_in_all:,} requests | {' | '.join(QUERIES)} |", f"|{'---|' * (len(QUERIES) + 1)}"):
        console.print(line, markup=False, highlight=False)
    for database in DATABASES:
        with temporary_database(database) as place:
            store = Store(place.url)
            migrate.upgrade(store)
            workload_id = fill(store, filling_of(requests_in_all, lines))
            console.print(
                _row(database, time_queries(store, workload_id, rounds=rounds)), markup=False, highlight=False
            )
            if database == "postgres":  # it vacuums by itself after a while
                vacuum(store)
                seconds = time_queries(store, workload_id, rounds=rounds)
                console.print(_row("postgres, vacuumed", seconds), markup=False, highlight=False)
            store.close()


def _row(database: str, seconds: dict[str, float]) -> str:
    return f"| {database} | {' | '.join(f'{1_000 * seconds[name]:.1f}' for name in QUERIES)} |"


if __name__ == "__main__":
    typer.run(main)
