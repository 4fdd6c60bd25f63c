"""``serve``: driving all open workloads until it is stopped."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

import typer

from batchkit.cli.options import common
from batchkit.cli.render import console


def serve(
    *,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=1, help="How often the open workloads are advanced.")
    ] = 60,
    with_view: Annotated[
        bool,
        typer.Option(
            "--view", metavar="", help="Also serve the live page of `batchkit view`, on port 8766 of this machine."
        ),
    ] = False,
    on_finish: common.OnFinish = None,
    verbose: common.Verbose = False,
    home: common.Home = None,
    database_url: common.DatabaseUrl = None,
    provider: common.Provider = None,
    base_url: common.BaseUrl = None,
    accept_other_key: common.AcceptOtherKey = False,
) -> None:
    """Drive all open workloads, pass after pass, until stopped.

    It finishes workloads that `batchkit submit` has started. Several such processes can share one database. With a configured
    Prefect server, each pass that finds open workloads is shown as a flow run. For workers on a Prefect work pool see
    flows/prefect.yaml.

    A workload that fails is retried after a growing wait. A workload that takes long does not delay the others.

    Exit codes: 0 after Ctrl-C or SIGTERM, which give running work two seconds to end; 130 after a second one.

    For example:

        batchkit serve
        batchkit serve --interval 300
        batchkit serve --view
    """
    from batchkit.api import serving  # noqa: PLC0415 - --help need not wait for the provider
    from batchkit.cli.interrupts import interruptible  # noqa: PLC0415 - as above
    from batchkit.cli.prefect import flows_entry  # noqa: PLC0415 - as above
    from batchkit.cli.render import outcome  # noqa: PLC0415 - as above

    err = console.stderr()
    console.log_to(err, verbose=verbose)
    settings = common.Where(home, database_url, provider, base_url, accept_other_key).settings(on_finish=on_finish)
    console.say(err, f"advancing every open workload every {interval:g} s; Ctrl-C ends it")

    def farewell() -> None:
        console.tell(err, outcome.interrupted_all(again=common.same_command()))

    with interruptible(farewell), ExitStack() as stack:
        if with_view:
            from batchkit.view.server import ViewServer  # noqa: PLC0415 - as above

            page = stack.enter_context(ViewServer(settings))
            console.say(err, f"live page: {page.url_of()}")

        def note(text: str) -> None:
            console.log_line(err, text)

        mirror = flows_entry().open_mirror(settings, on_note=note, interval_seconds=interval)
        serving.serve(settings, interval_seconds=interval, on_note=note, observer=mirror)
    console.say(err, "stopped; the batches continue at the provider")
