"""``view``: a live page for a browser."""

from __future__ import annotations

from typing import Annotated

import typer

from batchkit.cli.options import common, completion
from batchkit.cli.render import console, exits

_DEFAULT_PORT = 8766

Port = Annotated[
    int, typer.Option("--port", metavar="N", min=0, max=65_535, help="The port to listen on; 0 takes a free one.")
]
Host = Annotated[
    str,
    typer.Option(
        "--host",
        metavar="ADDRESS",
        help="The address to listen on. Beyond this machine the page is asked for with a token, which is printed, and not encrypted.",
    ),
]
OpenIt = Annotated[bool, typer.Option("--open", metavar="", help="Open the page in a browser.")]


def view(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="The workload or evaluation run to begin with (default the list of all).",
            show_default=False,
            autocompletion=completion.workload_names,
        ),
    ] = None,
    *,
    port: Port = _DEFAULT_PORT,
    host: Host = "127.0.0.1",
    open_it: OpenIt = False,
    home: common.Home = None,
    database_url: common.DatabaseUrl = None,
) -> None:
    """Serve a live page about all workloads, answers, labels and evaluation runs, until Ctrl-C.

    It shows each workload and suite, what it waits for and what it costs, each request with its question, attempts and answer, and
    the figures of annotations and evaluations, while commands run here or elsewhere. People settle disputed rows on it: their
    decisions go into the output of `batchkit annotate`.

    It reads the results database and the shard files, needs no key, sends nothing to a provider, and writes nothing but
    decisions of reviewers.

    Exit codes: 0 after Ctrl-C; 2 when the address cannot be used.

    For example:

        batchkit view
        batchkit view nightly --open
        batchkit view --port 0 --home batchkit-demo
    """
    from batchkit.cli.interrupts import until_stopped  # noqa: PLC0415 - --help need not wait for the server
    from batchkit.view.server import ViewServer  # noqa: PLC0415 - as above

    settings = common.Where(home, database_url).settings()
    with until_stopped() as wait, ViewServer(settings, host=host, port=port) as server:
        url = server.url_of(name)
        console.say(console.stdout(), url)
        console.say(console.stderr(), "Ctrl-C ends it")
        if open_it:
            import webbrowser  # noqa: PLC0415 - who does not open it need not load it

            if not webbrowser.open(url):
                console.say(console.stderr(), f"no browser could be opened: the page is {url}")
        wait()
    raise typer.Exit(exits.SUCCEEDED)
