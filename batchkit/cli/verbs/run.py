"""``run`` and ``submit``: a workload from its input."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batchkit.cli.options import common
from batchkit.cli.options.flags import CutFlags, DriveFlags, spread
from batchkit.cli.render import console

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help="JSON Lines files of requests, plain, .gz or .zst; several are read as one. A dash (-) is stdin.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Where the results go, .jsonl, .csv or .parquet (default NAME.results.jsonl in the working directory).",
        show_default=False,
    ),
]
RememberedOutput = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Where the results go when the workload is finished: .jsonl, .csv or .parquet (default nowhere).",
        show_default=False,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        metavar="",
        help="Check the input and show the plan (shards, bytes, endpoints, models, tokens); send nothing.",
    ),
]


@spread
def run(
    sources: Sources,
    *,
    name: common.WorkloadName = None,
    output: Output = None,
    raw_csv: common.RawCsv = False,
    dry_run: DryRun = False,
    cut: CutFlags,
    flags: DriveFlags,
) -> None:
    """Run all requests in SOURCE until each has a final result, and write the results in input order.

    Checks the whole input, splits it into shards, submits each shard as a batch, merges the answers, resends expired requests,
    and writes one line per request. Stop it at any time: the same command resumes, and after completion it sends nothing and
    writes the same file. A different input under a used name is refused.

    Exit codes: 0 every request succeeded; 2 bad usage or input, nothing was sent; 3 finished, but some requests failed;
    4 not finished, and the same command resumes; 130 interrupted.

    For example:

        batchkit run requests.jsonl
        batchkit run part-*.jsonl.zst --name nightly --output nightly.csv
        batchkit run requests.jsonl --dry-run
        zcat big.jsonl.gz | batchkit run - --name big --json
    """
    with console.busy(console.stderr(), "loading"):
        from batchkit.cli import job  # noqa: PLC0415 - --help need not wait for the database and the provider

    order = job.Order(sources, name, output, cut.options(), raw_csv=raw_csv)
    carry_out = job.show_plan if dry_run else job.carry_out
    raise typer.Exit(carry_out(order, flags.settings(cut), flags.manner()))


@spread
def submit(
    sources: Sources,
    *,
    name: common.WorkloadName = None,
    output: RememberedOutput = None,
    raw_csv: common.RawCsv = False,
    dry_run: DryRun = False,
    cut: CutFlags,
    flags: DriveFlags,
) -> None:
    """Submit all requests in SOURCE, then return.

    The batches run at the provider. `batchkit watch`, `batchkit run` with the same input, or a running `batchkit serve` does the
    rest. With --output, the command that finishes the workload on this machine writes the results there (on any machine, if the
    file lies in BATCHKIT_SHARED_FOLDER); the same command with another --output changes it.

    Exit codes: 0 every shard has its batch; 2 bad usage or input, nothing was sent; 4 some shards could not be submitted
    yet, and the same command resumes; 130 interrupted.

    For example:

        batchkit submit requests.jsonl --name nightly --output nightly.csv
        batchkit submit requests.jsonl --window 48h --shard-lines 500
    """
    with console.busy(console.stderr(), "loading"):
        from batchkit.cli import job  # noqa: PLC0415 - as for run
        from batchkit.engine.waves import DriveUntil  # noqa: PLC0415 - as for run

    order = job.Order(sources, name, output, cut.options(), until=DriveUntil.SUBMITTED, raw_csv=raw_csv)
    carry_out = job.show_plan if dry_run else job.carry_out
    raise typer.Exit(carry_out(order, flags.settings(cut), flags.manner()))
