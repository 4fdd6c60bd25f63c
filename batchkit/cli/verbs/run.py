"""``run`` and ``submit``: a workload from its input."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batchkit.cli.options import common
from batchkit.cli.options.flags import CutFlags, DriveFlags, spread
from batchkit.cli.render import console, exits

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help="JSON Lines files of requests, plain, .gz or .zst; several are read as one, and blank lines are skipped. A dash (-) is stdin.",
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
    4 not finished, and the same command resumes; 6 stopped by the budget; 130 interrupted.

    For example:

        batchkit run requests.jsonl
        batchkit run part-*.jsonl.zst --name nightly --output nightly.csv
        batchkit run requests.jsonl --dry-run
        zcat big.jsonl.gz | batchkit run - --name big --json
    """
    code = _run(sources, name, output, raw_csv=raw_csv, dry_run=dry_run, is_submit_only=False, cut=cut, flags=flags)
    raise typer.Exit(code)


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
    yet, and the same command resumes; 6 stopped by the budget; 130 interrupted.

    For example:

        batchkit submit requests.jsonl --name nightly --output nightly.csv
        batchkit submit requests.jsonl --window 48h --shard-lines 500
    """
    code = _run(sources, name, output, raw_csv=raw_csv, dry_run=dry_run, is_submit_only=True, cut=cut, flags=flags)
    raise typer.Exit(code)


def _run(
    sources: list[str],
    name: str | None,
    output: Path | None,
    *,
    raw_csv: bool,
    dry_run: bool,
    is_submit_only: bool,
    cut: CutFlags,
    flags: DriveFlags,
) -> int:
    with console.busy(console.stderr(), "loading"):
        from batchkit.api import running  # noqa: PLC0415 - --help need not wait for the database and the provider
        from batchkit.api.deadlines import deadline_lines  # noqa: PLC0415 - as above
        from batchkit.api.modes import RunMode  # noqa: PLC0415 - as above
        from batchkit.cli.calls import call, terminal_of  # noqa: PLC0415 - as above
        from batchkit.cli.options import inputs  # noqa: PLC0415 - as above
        from batchkit.cli.render import conclusion, display, machine, priced  # noqa: PLC0415 - as above
        from batchkit.engine.waves import DriveUntil  # noqa: PLC0415 - as above

    settings = flags.settings(cut)
    terminal = terminal_of(flags, is_piped=inputs.STDIN in sources)
    if dry_run:
        with inputs.opened(sources, folder=None) as paths:
            planned, plan, promise = running.plan_input(
                paths,
                name=inputs.workload_name(name, sources, paths),
                output=output,
                has_default_output=not is_submit_only,
                options=cut.options(),
                settings=settings,
                mode=RunMode(observer=terminal),
            )
        estimate = priced.estimate_of(plan, settings.provider)
        deadline = [] if promise is None else [*deadline_lines(settings, plan.shares, promise)]
        if flags.json:
            console.write_json(machine.plan(planned, plan, estimate, promise))
        else:
            console.show(console.stdout(), display.plan_view(planned, plan, estimate, deadline))
        return exits.SUCCEEDED
    until = DriveUntil.SUBMITTED if is_submit_only else DriveUntil.FINISHED
    with call(terminal, settings, flags, until) as mode, inputs.opened(sources, folder=settings.home) as paths:
        report = running.run_input(
            paths,
            name=inputs.workload_name(name, sources, paths),
            output=output,
            has_default_output=not is_submit_only,
            raw_csv=raw_csv,
            options=cut.options(),
            until=until,
            settings=settings,
            mode=mode,
        )
    return conclusion.conclude(report, terminal, until=until)
