"""``runs`` and ``compare``: looking back at evaluations."""

from __future__ import annotations

from typing import Annotated

import typer

from batchkit.cli.options import common, completion
from batchkit.cli.render import console

MaybeSuite = Annotated[
    str | None,
    typer.Argument(metavar="SUITE", help="The name of a suite, or its file (default all suites).", show_default=False),
]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="Show the last N runs.")]
RunNames = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN",
        help="The names of runs; each is compared with the first.",
        show_default=False,
        autocompletion=completion.workload_names,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", metavar="", help="Print one line of JSON on stdout, with a schema_version.")
]


def runs(
    suite: MaybeSuite = None,
    *,
    limit: Limit = 30,
    json: Json = False,
    home: common.Home = None,
    database_url: common.DatabaseUrl = None,
) -> None:
    """Show the runs of a suite, or of all suites: verdicts, failed answers, cost, and how each score developed.

    The newest run is the last one. Each scorer has a chart for each model: a line for each run of the series with the mean, the change
    since the run that it was compared with, and the 95 % interval. A change that chance hardly explains (p below 0.05) is marked
    fell or rose, one for which an alarm went off ALARM. Runs of some rows only and rescored answers are listed, and are
    outside the series. The cost is that at batch prices, where it is known.

    It reads the results database only: it needs no key, sends nothing to the provider, and creates nothing.

    For example:

        batchkit runs
        batchkit runs suites/reviews.yaml --limit 7
        batchkit runs reviews --json | jq '.runs[-1].verdict'
    """
    from batchkit.api import looking_back  # noqa: PLC0415 - --help need not wait for the database
    from batchkit.cli.render import looked_back  # noqa: PLC0415 - as above

    found = looking_back.runs(suite, limit=limit, settings=common.Where(home, database_url).settings())
    if json:
        console.write_json(looked_back.runs_for_machines(found))
        return
    out = console.stdout()
    for part in looked_back.runs_view(found):
        console.show(out, part)
    if not found:
        console.say(out, "no runs yet")
        console.say(console.stderr(), "hint: `batchkit eval SUITE` makes one")


def compare(
    names: RunNames,
    *,
    json: Json = False,
    verbose: common.Verbose = False,
    home: common.Home = None,
    database_url: common.DatabaseUrl = None,
) -> None:
    """Compare runs: their metrics side by side, and the first with each other one, row by row.

    First come the differences beside the answers: rows, labels, prompts, models, parameters, scorers. Each metric is tested over
    the rows that both runs have scored; a change is that from the first run to the other. p is two-sided and corrected (Holm) for
    the metrics of all comparisons, and apart from these for all slices; slices are shown where p is below 0.05.

    If scorers or labels differ, the kept answers of the first run are scored again with those of the other one. That is stored in the
    results database as a run outside the series, as `batchkit eval` does it. Nothing is sent.

    Exit codes: 0 compared; 2 a run is unknown, not finished, or has scores for too few answers.

    For example:

        batchkit compare reviews-1 reviews-2
        batchkit compare reviews-1 reviews-2 reviews-3 --json
    """
    from batchkit.api.looking_back import compare_named  # noqa: PLC0415 - --help need not wait for the database
    from batchkit.api.modes import RunMode  # noqa: PLC0415 - as above
    from batchkit.cli.render import looked_back  # noqa: PLC0415 - as above
    from batchkit.cli.render.terminal import Terminal  # noqa: PLC0415 - as above

    where = common.Where(home, database_url)
    terminal = Terminal(where, common.same_command(), is_for_machines=json, verbose=verbose)
    found = compare_named(names, where.settings(), RunMode(common.verb(), observer=terminal))
    if json:
        console.write_json(looked_back.compared_for_machines(found))
        return
    for part in looked_back.compared_view(found):
        console.show(console.stdout(), part)
