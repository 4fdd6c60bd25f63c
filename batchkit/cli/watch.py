"""``watch``: driving what is there until it is done."""

from __future__ import annotations

from typing import Annotated

import typer

from batchkit.cli import options

MaybeName = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help="The workload's name (default all that are open).", show_default=False),
]


def watch(
    name: MaybeName = None,
    *,
    json: options.Json = False,
    no_prefect: options.NoPrefect = False,
    verbose: options.Verbose = False,
    poll_interval: options.PollInterval = None,
    timeout: options.Timeout = None,
    home: options.Home = None,
    database_url: options.DatabaseUrl = None,
    base_url: options.BaseUrl = None,
    accept_other_key: options.AcceptOtherKey = False,
) -> None:
    """Drive a workload until it is done, with live progress. Without NAME all open workloads, in turn.

    Watching is working: what is due is submitted, fetched, merged and sent again. Several commands may watch one workload
    from several machines. A finished workload is only reported. Several workloads at once are driven by the plain
    loop; `batchkit serve` does it as Prefect flows.

    Exit codes: 0 every request succeeded; 3 finished, but some requests failed; 4 not finished, and the same command goes
    on; 130 interrupted. Of several workloads the worst counts.

    For example:

        batchkit watch nightly
        batchkit watch --timeout 3600
    """
    from batchkit.cli import job  # noqa: PLC0415 - --help need not wait for the database and the provider

    where = options.Where(home, database_url, base_url, accept_other_key)
    manner = job.Manner(where, not no_prefect, verbose, json, timeout)
    raise typer.Exit(job.watch(name, where.settings(poll_interval_seconds=poll_interval), manner))
