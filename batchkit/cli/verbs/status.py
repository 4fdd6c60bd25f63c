"""``status`` and ``export``: looking at what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batchkit import formatting
from batchkit.cli.options import common, completion
from batchkit.cli.render import console, exits
from batchkit.errors import UsageError

MaybeName = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="The workload's name (default all, a line each).",
        show_default=False,
        autocompletion=completion.workload_names,
    ),
]
Target = Annotated[
    Path, typer.Argument(metavar="OUT", help="The file to write: .jsonl, .csv or .parquet.", show_default=False)
]
Scored = Annotated[
    bool,
    typer.Option(
        "--scored",
        metavar="",
        help="Write the scored rows of the evaluation run NAME: one for each row, prompt, model and sample.",
    ),
]


def status(
    name: MaybeName = None,
    *,
    json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print one line of JSON on stdout, with a schema_version.")
    ] = False,
    use_exit_code: Annotated[
        bool,
        typer.Option(
            "--exit-code",
            metavar="",
            help="Exit with 0 if all requests succeeded, 3 if some failed, 4 if it is not finished; of several workloads the worst counts.",
        ),
    ] = False,
    history: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Also show the last N events of the workload NAME.", show_default=False),
    ] = 0,
    home: common.Home = None,
    database_url: common.DatabaseUrl = None,
) -> None:
    """Show the state of a workload, or a line for each workload.

    A workload of an evaluation is shown with its run and the verdict.

    It reads the results database only: it needs no key, sends nothing to the provider, and creates nothing.

    For example:

        batchkit status
        batchkit status nightly --json | jq .requests.failed
        batchkit status nightly --history 20
    """
    from batchkit.api import existing  # noqa: PLC0415 - --help need not wait for the database
    from batchkit.cli.render import display, machine, outcome  # noqa: PLC0415 - as above

    if history and name is None:
        raise UsageError(
            "--history shows the events of one workload", hint="name it: `batchkit status NAME --history N`"
        )
    settings = common.Where(home, database_url).settings()
    snapshots = existing.snapshots(settings, name)
    runs = existing.runs_of(settings, snapshots)
    code = max((outcome.exit_code(progress) for progress in snapshots), default=exits.SUCCEEDED)
    if json:
        console.write_json(
            machine.status_of_one(snapshots[0], runs.get(name))
            if name is not None
            else machine.status_of_all(snapshots, runs)
        )
    elif name is not None:
        console.show(console.stdout(), display.status_view(snapshots[0], runs.get(name)))
        if history:
            console.show(
                console.stdout(), display.history_table(existing.history(settings, snapshots[0], limit=history))
            )
    elif snapshots:
        console.show(console.stdout(), display.status_list(snapshots, runs))
    else:
        console.say(console.stdout(), "no workloads yet")
        console.say(console.stderr(), f"hint: {existing.no_workloads_hint(settings)}")
    raise typer.Exit(code if use_exit_code else exits.SUCCEEDED)


def export(
    name: common.Name,
    target: Target,
    *,
    scored: Scored = False,
    raw_csv: common.RawCsv = False,
    verbose: common.Verbose = False,
    home: common.Home = None,
    database_url: common.DatabaseUrl = None,
) -> None:
    """Write one line per request, in input order: .jsonl in the provider's line shape, .csv or .parquet.

    The file is replaced in one step. Requests without a final result have the status pending or in_flight.
    A .jsonl line has custom_id, status, response, error, attempts and batch_id; a .csv row has the answer's text instead
    of the whole response; a .parquet row has both, in typed columns, with tokens (pip install 'groq-batchkit[parquet]').

    Spreadsheets execute cells that begin with = + - @ as formulas, and answers, error messages and custom_ids may come from
    strangers. A .csv therefore has an apostrophe before such a text, unless it is a plain number such as -1. To join by such
    custom_ids, remove the apostrophe, use --raw-csv, or read the .jsonl.

    --scored writes the rows of an evaluation run instead: the columns of its dataset, then prompt, model, sample, expected and
    answer, for each scorer its score and SCORER_reason, then tokens, cost, finish_reason, custom_id, status and error. A column
    whose name the dataset has gets the prefix score_. OUT may then also end in .arrow, or be table:NAME for a table in the results
    database. It needs pip install 'groq-batchkit[annotate]'.

    For example:

        batchkit export nightly nightly.jsonl
        batchkit export nightly nightly.csv
        batchkit export nightly nightly.parquet
        batchkit export reviews-3 scored.parquet --scored
    """
    from batchkit.api.modes import RunMode  # noqa: PLC0415 - --help need not wait for the database
    from batchkit.api.reading import export_results  # noqa: PLC0415 - as above
    from batchkit.cli.render.terminal import Terminal  # noqa: PLC0415 - as above

    where = common.Where(home, database_url)
    terminal = Terminal(where, common.same_command(), verbose=verbose)
    mode = RunMode(common.verb(), observer=terminal)
    if scored:
        from batchkit.api.looking_back import export_scored  # noqa: PLC0415 - as above

        rows = export_scored(name, str(target), where.settings(), mode, raw_csv=raw_csv)
        console.say(console.stdout(), f"{formatting.counted(rows, 'row')} written to {target}")
        return
    count, progress = export_results(name, target, where.settings(), mode, raw_csv=raw_csv)
    console.say(console.stdout(), f"{formatting.counted(count, 'line')} written to {target}")
    if unresolved := progress.counts.unresolved:
        requests = formatting.counted(unresolved, "request")
        console.say(terminal.err, f"note: {requests} without a final result, pending or in flight")
