"""``python -m tests.scale.sizes``: bytes of a request in the database, by table, for workloads of several sizes.

Requests are inserted as a split does and changed as merges do, shard by shard; every answer has the same length.
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from batchkit.store import migrate
from batchkit.store.engine import Store
from tests.scale.fill import Filling, fill, merge
from tests.scale.temporary_databases import DATABASES, TableSize, TemporaryDatabase, table_sizes, temporary_database

TABLES = ("requests", "results", "bodies", "shards", "batches", "events")


def workload_table_sizes(
    place: TemporaryDatabase, *, requests: int, lines: int, body_bytes: int
) -> dict[str, TableSize]:
    """Return the table sizes of a store with one workload in which every request has its answer."""
    filling = Filling(submitted=requests // lines, lines=lines, body_bytes=body_bytes)
    store = Store(place.url)
    try:
        migrate.upgrade(store)
        merge(store, fill(store, filling), filling)
        return table_sizes(store)
    finally:
        store.close()


def main(
    requests: Annotated[list[int] | None, typer.Option(help="The number of requests; may be repeated.")] = None,
    body_bytes: Annotated[int, typer.Option(help="The length of each answer's body in bytes.")] = 1_000,
    lines: Annotated[int, typer.Option(help="Requests in each shard.")] = 1_000,
) -> None:
    """Print the bytes per request of each table, rows and indexes separately."""
    console = Console(width=10_000)
    for line in (f"| requests | database | {' | '.join(TABLES)} | all |", f"|{'---|' * (len(TABLES) + 3)}"):
        console.print(line, markup=False, highlight=False)
    for count in requests or [100_000, 1_000_000]:
        for database in DATABASES:
            with temporary_database(database) as place:
                sizes = workload_table_sizes(place, requests=count, lines=lines, body_bytes=body_bytes)
            cells = [f"{sizes[name].rows / count:.1f} + {sizes[name].indexes / count:.1f}" for name in TABLES]
            whole = sum(size.rows + size.indexes for size in sizes.values())
            row = " | ".join((f"{count:,}", database, *cells, f"{whole / count:,.0f} B ({whole / 1e6:,.0f} MB)"))
            console.print(f"| {row} |", markup=False, highlight=False)


if __name__ == "__main__":
    typer.run(main)
