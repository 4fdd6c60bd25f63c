"""``report``: a page to read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batchkit.cli.options import common, completion
from batchkit.cli.render import console, exits

Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="The page to write (default NAME.report.html).", show_default=False
    ),
]
Rows = Annotated[
    int, typer.Option("--rows", metavar="N", help="How many requests to show, the worst first: up to 2000.")
]
OpenIt = Annotated[bool, typer.Option("--open", metavar="", help="Open the page in a browser.")]


def report(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="The name of a workload or of an evaluation run.",
            autocompletion=completion.workload_names,
        ),
    ],
    *,
    output: Output = None,
    rows: Rows = 500,
    open_it: OpenIt = False,
    home: common.Home = None,
    database_url: common.DatabaseUrl = None,
) -> None:
    """Write an HTML page about a workload or an evaluation run, finished or not.

    It shows progress, reasons of failures, the times of batches, expired requests, tokens and cost, and the worst requests with
    prompt and answer; for an evaluation also the metrics with their intervals and the changes since the previous run. The page is
    self-contained: it loads nothing, sends nothing, and executes nothing that a model wrote. Like an export it contains prompts and
    answers.

    It reads the results database and the shard files, and needs no key. It needs pip install 'groq-batchkit[annotate]'.

    For example:

        batchkit report nightly
        batchkit report nightly --output nightly.html --rows 2000 --open
    """
    from batchkit.api import reading  # noqa: PLC0415 - --help need not wait for the database

    page = reading.report(name, output, rows=rows, settings=common.Where(home, database_url).settings())
    target = output or page.name
    console.say(console.stdout(), f"report written to {target}")
    if open_it:
        import webbrowser  # noqa: PLC0415 - who does not open it need not load it

        if not webbrowser.open(page.as_uri()):
            console.say(console.stderr(), f"no browser could be opened: the page is {page.as_uri()}")
    raise typer.Exit(exits.SUCCEEDED)
