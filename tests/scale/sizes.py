"""``python -m tests.scale.sizes``: what a request weighs in the database, table by table, as a workload grows.

Requests are inserted as a split does and changed as merges do, shard by shard; every answer has the same length.
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from batchkit.store import migrate
from batchkit.store.engine import Store
from tests.scale.fill import Filling, fill, merge
from tests.scale.ground import DATABASES, Ground, Weight, ground, weigh

TABLES = ("requests", "results", "bodies", "shards", "batches", "events")


def weigh_workload(place: Ground, *, requests: int, lines: int, body_bytes: int) -> dict[str, Weight]:
    """Weigh a store with one workload of which every request has its answer."""
    filling = Filling(submitted=requests // lines, lines=lines, body_bytes=body_bytes)
    store = Store(place.url)
    try:
        migrate.upgrade(store)
        merge(store, fill(store, filling), filling)
        return weigh(store)
    finally:
        store.close()


def main(
    requests: Annotated[list[int] | None, typer.Option(help="How many requests; may be given several times.")] = None,
    body_bytes: Annotated[int, typer.Option(help="Bytes of each answer's body.")] = 1_000,
    lines: Annotated[int, typer.Option(help="Requests in each shard.")] = 1_000,
) -> None:
    """Print bytes per request of each table, rows and indexes apart."""
    console = Console(width=10_000)
    for line in (f"| requests | database | {' | '.join(TABLES)} | all |", f"|{'---|' * (len(TABLES) + 3)}"):
        console.print(line, markup=False, highlight=False)
    for count in requests or [100_000, 1_000_000]:
        for database in DATABASES:
            with ground(database) as place:
                weights = weigh_workload(place, requests=count, lines=lines, body_bytes=body_bytes)
            cells = [f"{weights[name].rows / count:.1f} + {weights[name].indexes / count:.1f}" for name in TABLES]
            whole = sum(weight.rows + weight.indexes for weight in weights.values())
            row = " | ".join((f"{count:,}", database, *cells, f"{whole / count:,.0f} B ({whole / 1e6:,.0f} MB)"))
            console.print(f"| {row} |", markup=False, highlight=False)


if __name__ == "__main__":
    typer.run(main)
