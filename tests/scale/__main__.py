"""``python -m tests.scale``: run many batches through the real state machine in simulated time, and print the figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tests.scale.simulation import simulate
from tests.scale.temporary_databases import DATABASES, temporary_database

if TYPE_CHECKING:
    from tests.scale.simulation import Figures

_HEAD = (
    "shards",
    "database",
    "batches made",
    "requests",
    "transitions",
    "fake hours",
    "status calls",
    "list pages",
    "uploads",
    "creates",
    "downloads",
    "idle passes: number, median, worst",
    "busy passes: number, median, worst",
    "CPU: split, the rest",
    "bytes per batch",
    "all of the database",
)


def as_row(figures: Figures) -> tuple[str, ...]:
    """Return the cells of one simulation."""
    counts, calls = figures.progress.counts, figures.calls
    size = sum(size.rows + size.indexes for size in figures.sizes.values())
    return (
        f"{figures.shards:,}",
        figures.database,
        f"{figures.batches:,}",
        f"{counts.total:,}: {counts.succeeded:,} succeeded, {counts.failed:,} failed",
        f"{figures.transitions:,}",
        f"{figures.hours:.0f}",
        f"{calls['status call']:,}",
        f"{calls['list page']:,}",
        f"{calls['upload']:,}",
        f"{calls['create']:,}",
        f"{calls['download']:,}",
        _passes(figures.idle_seconds),
        _passes(figures.busy_seconds),
        f"{figures.split_seconds:.1f} s, {figures.total_seconds:.1f} s",
        f"{figures.bytes_per_batch:,.0f}",
        f"{size / 1e6:,.1f} MB",
    )


def _passes(seconds: list[float]) -> str:
    if not seconds:
        return "0"
    ordered = sorted(seconds)
    return f"{len(ordered):,}, {ordered[len(ordered) // 2]:.3f} s, {ordered[-1]:.2f} s"


def main(
    batches: Annotated[int, typer.Option(help="The number of shards; each becomes a batch.")] = 2_000,
    lines: Annotated[int, typer.Option(help="Requests in each shard; real shards have 1,000 to 50,000.")] = 10,
    database: Annotated[str, typer.Option(help="sqlite, postgres, or both.")] = "both",
    poll: Annotated[
        float | None,
        typer.Option(
            help="Seconds between two polls; more seconds make fewer polls a day. By default the same as for users."
        ),
    ] = None,
) -> None:
    """Simulate a workload of many batches in its own database, and print its figures as a Markdown table."""
    console = Console(width=10_000)
    console.print(f"| {' | '.join(_HEAD)} |", markup=False, highlight=False)
    console.print(f"|{'---|' * len(_HEAD)}", markup=False, highlight=False)
    for kind in DATABASES if database == "both" else (database,):
        with temporary_database(kind) as place:
            row = as_row(simulate(place, batches=batches, lines=lines, poll_seconds=poll))
        console.print(f"| {' | '.join(row)} |", markup=False, highlight=False)


if __name__ == "__main__":
    typer.run(main)
