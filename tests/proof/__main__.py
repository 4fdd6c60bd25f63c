"""``python -m tests.proof``: run the proof and print the matrix; exit code 1 if a promise was broken."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from tests.postgres import running_server
from tests.proof.matrix import FULL, QUICK, ProofRow, as_table, prove
from tests.proof.storm import run_storm
from tests.proof.sweep import Backend


class Databases(StrEnum):
    """The databases on which the proof runs."""

    BOTH = "both"
    SQLITE = "sqlite"
    POSTGRES = "postgres"


def main(
    database: Annotated[Databases, typer.Option(help="The databases to run on.")] = Databases.BOTH,
    quick: Annotated[bool, typer.Option("--quick", help="Run a sample of everything, in about a minute.")] = False,
    only: Annotated[
        str,
        typer.Option(help="Only rows whose name contains this, such as 'storms'; '=NAME' only the row of that name."),
    ] = "",
    jobs: Annotated[int, typer.Option(help="The number of runs at the same time.")] = os.cpu_count() or 1,
    seed: Annotated[int, typer.Option(help="The seed of the samples, pairs and storms.")] = 0,
    storm: Annotated[int | None, typer.Option(help="Repeat only the storm of this seed.")] = None,
    deadline: Annotated[bool, typer.Option("--deadline", help="With --storm: the one with a deadline.")] = False,
) -> None:
    """Kill batchkit at every fault point, start it again, and report everything lost, bought twice or misplaced."""
    out, err = Console(width=140), Console(stderr=True)
    with ExitStack() as stack:
        backends = []
        if database is not Databases.POSTGRES:
            backends.append(Backend("SQLite"))
        if database is not Databases.SQLITE:
            backends.append(Backend("Postgres", stack.enter_context(running_server()).server_url))
        if storm is not None:
            outcomes = [run_storm(storm, backend, has_deadline=deadline) for backend in backends]
            for outcome in outcomes:
                out.print(f"{outcome.plan}: {outcome.violations}", markup=False)
            raise typer.Exit(any(not outcome.violations.is_clean for outcome in outcomes))
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=err) as progress:
            bars: dict[str, TaskID] = {}
            shown: set[str] = set()

            def show(row: ProofRow, done: int, total: int) -> None:
                if row.name not in bars:
                    bars[row.name] = progress.add_task(row.name, total=total)
                    if not err.is_terminal:
                        err.print(f"{row.name}: {total} runs")
                progress.update(bars[row.name], completed=done)
                if row.failures and row.failures[-1] not in shown:
                    shown.add(row.failures[-1])
                    err.print(f"{row.name}: {row.failures[-1]}", markup=False, style="red")

            sizes = replace(QUICK if quick else FULL, seed=seed)
            rows = []
            for row in prove(backends, sizes, only=only, jobs=jobs, show=show):
                rows.append(row)
                if not err.is_terminal:
                    # A proof that is stopped leaves the rows that it has finished.
                    err.print(f"{row.name}: {row.met} met, {len(row.failures)} not clean, {row.seconds:.0f} s")
    if not rows:
        raise typer.BadParameter(f"no row's name contains {only!r}", param_hint="--only")
    out.print(as_table(rows))
    raise typer.Exit(not all(row.is_clean for row in rows))


if __name__ == "__main__":
    typer.run(main)
