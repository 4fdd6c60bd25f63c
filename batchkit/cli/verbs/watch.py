"""``watch``: driving what is there until it is done."""

from __future__ import annotations

from typing import Annotated

import typer

from batchkit.cli.options import completion
from batchkit.cli.options.flags import DriveFlags, spread
from batchkit.cli.render import console

MaybeName = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="The workload's name (default all that are open).",
        show_default=False,
        autocompletion=completion.workload_names,
    ),
]


@spread
def watch(
    name: MaybeName = None,
    *,
    flags: DriveFlags,
) -> None:
    """Drive a workload until it is done, with live progress. Without NAME all open workloads, at the same time.

    Watching is working: what is due is submitted, fetched, merged and sent again. Several commands may watch one workload
    from several machines. A finished workload is only reported. Several workloads at once are driven by plain loops;
    `batchkit serve` does it as Prefect flows. One that fails is tried again later, and the others continue.

    Exit codes: 0 every request succeeded; 3 finished, but some requests failed; 4 not finished, and the same command goes
    on; 130 interrupted. Of several workloads the worst counts, and those that failed are named.

    For example:

        batchkit watch nightly
        batchkit watch --timeout 3600
    """
    with console.busy(console.stderr(), "loading"):
        from batchkit.cli import job  # noqa: PLC0415 - --help need not wait for the database and the provider

    raise typer.Exit(job.watch(name, flags.settings(), flags.manner()))
