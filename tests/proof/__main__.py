"""``python -m tests.proof``: plays the whole proof and prints the matrix; exit code 1 when anything was found."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.postgres import running_server
from tests.proof.matrix import FULL, QUICK, Row, as_table, prove
from tests.proof.storm import weather_storm
from tests.proof.sweep import Backend


class Databases(StrEnum):
    """On which databases the proof is played."""

    BOTH = "both"
    SQLITE = "sqlite"
    POSTGRES = "postgres"


def main(
    database: Annotated[Databases, typer.Option(help="On which databases.")] = Databases.BOTH,
    quick: Annotated[bool, typer.Option("--quick", help="A sample of everything, in a minute.")] = False,
    only: Annotated[str, typer.Option(help="Only lines whose name holds this, such as 'storms'.")] = "",
    jobs: Annotated[int, typer.Option(help="How many runs at the same time.")] = os.cpu_count() or 1,
    seed: Annotated[int, typer.Option(help="Draws the samples, pairs and storms.")] = 0,
    storm: Annotated[int | None, typer.Option(help="Repeat only the storm of this seed.")] = None,
) -> None:
    """Kill batchkit at every point there is, start it again, and look for anything lost, bought twice or misplaced."""
    out, err = Console(width=140), Console(stderr=True)
    with ExitStack() as stack:
        backends = []
        if database is not Databases.POSTGRES:
            backends.append(Backend("SQLite"))
        if database is not Databases.SQLITE:
            backends.append(Backend("Postgres", stack.enter_context(running_server()).server_url))
        if storm is not None:
            passages = [weather_storm(storm, backend) for backend in backends]
            for passage in passages:
                out.print(f"{passage.weather}: {passage.verdict}", markup=False)
            raise typer.Exit(any(not passage.verdict.is_clean for passage in passages))
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=err) as progress:
            bars: dict[str, int] = {}
            shown: set[str] = set()

            def show(row: Row, done: int, total: int) -> None:
                if row.what not in bars:
                    bars[row.what] = progress.add_task(row.what, total=total)
                    if not err.is_terminal:
                        err.print(f"{row.what}: {total} runs")
                progress.update(bars[row.what], completed=done)  # type: ignore[arg-type]
                if row.failures and row.failures[-1] not in shown:
                    shown.add(row.failures[-1])
                    err.print(f"{row.what}: {row.failures[-1]}", markup=False, style="red")

            extent = replace(QUICK if quick else FULL, seed=seed)
            rows = list(prove(backends, extent, only=only, jobs=jobs, show=show))
    if not rows:
        raise typer.BadParameter(f"no line's name holds {only!r}", param_hint="--only")
    out.print(as_table(rows))
    raise typer.Exit(not all(row.is_clean for row in rows))


if __name__ == "__main__":
    typer.run(main)
