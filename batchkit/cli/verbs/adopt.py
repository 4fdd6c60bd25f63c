"""``adopt``: batches that something else created."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batchkit.cli.options import common, times
from batchkit.cli.render import console
from batchkit.errors import UsageError

BatchIds = Annotated[
    list[str] | None,
    typer.Argument(metavar="BATCH_ID", help="The provider's ids of the batches.", show_default=False),
]
Name = Annotated[
    str | None,
    typer.Option("--name", metavar="NAME", help="The workload's name (default the first id).", show_default=False),
]
Requests = Annotated[
    list[Path] | None,
    typer.Option(
        "--requests",
        metavar="FILE",
        help="The file that a batch was made of, for a batch whose input file the provider does not have any more. Repeatable.",
        show_default=False,
    ),
]
Outputs = Annotated[
    list[Path] | None,
    typer.Option(
        "--outputs",
        metavar="FILE",
        help="An output file that was downloaded before, in place of ids. Repeatable. Needs no key.",
        show_default=False,
    ),
]
Errors = Annotated[
    list[Path] | None,
    typer.Option(
        "--errors", metavar="FILE", help="An error file that was downloaded before. Repeatable.", show_default=False
    ),
]
Separate = Annotated[
    bool,
    typer.Option(
        "--separate",
        metavar="",
        help="Equal custom_ids of several batches are different requests: each becomes BATCH_ID:custom_id.",
    ),
]
List = Annotated[
    bool, typer.Option("--list", metavar="", help="List the batches that the key can see, and adopt nothing.")
]
Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="AGE",
        help="With --list: only batches created in the last 36h, 7d or 2w.",
        show_default=False,
    ),
]
Metadata = Annotated[
    list[str] | None,
    typer.Option(
        "--metadata",
        metavar="KEY=VALUE",
        help="With --list: only batches with this metadata. Repeatable.",
        show_default=False,
    ),
]
Expired = Annotated[
    bool,
    typer.Option(
        "--expired", metavar="", help="With --list: only batches that expired before all their requests were answered."
    ),
]


def adopt(
    batch_ids: BatchIds = None,
    *,
    name: Name = None,
    requests: Requests = None,
    outputs: Outputs = None,
    errors: Errors = None,
    separate: Separate = False,
    list_: List = False,
    since: Since = None,
    metadata: Metadata = None,
    expired: Expired = False,
    json: common.Json = False,
    verbose: common.Verbose = False,
    home: common.Home = None,
    database_url: common.DatabaseUrl = None,
    provider: common.Provider = None,
    base_url: common.BaseUrl = None,
    accept_other_key: common.AcceptOtherKey = False,
) -> None:
    """Take over batches that another program created: fetch their answers, and show what is missing and what sending it costs.

    You need their ids and the key of the account that created them; --list shows the ids. They become a workload like any other: see it
    with `batchkit status NAME`, write its results with `batchkit export NAME FILE`.

    Adopting sends nothing, buys nothing and cancels nothing. Requests that expired, went missing or were cancelled count as failed until
    `batchkit resubmit NAME` sends them again; --failed there also sends those that were refused. Answers of a batch that still runs are
    fetched by `batchkit watch NAME`. The same command again resumes.

    The requests are read from the provider's copy of the batch's input file. Where that is gone, give the file that was sent with
    --requests; without it the answers are kept, but nothing can be sent again. Do not send the same requests again with another tool
    meanwhile.

    Exit codes: 0 all answers that exist are here; 2 refused, and nothing was stored; 3 the batches have ended, and some requests have
    no answer; 4 some answers could not be fetched, and the same command resumes.

    For example:

        batchkit adopt --list --since 7d --expired
        batchkit adopt batch_01jh6x76wtemjr74t1fh0faj5t --name nightly
        batchkit resubmit nightly
        batchkit adopt --outputs answers.jsonl --requests sent.jsonl
    """
    settings = common.Where(home, database_url, provider, base_url, accept_other_key)
    if list_:
        if batch_ids or name or requests or outputs or errors or separate:
            raise UsageError("--list adopts nothing", hint="leave out the ids and the files, or leave out --list")
        _list(settings, since=since, metadata=metadata or [], only_expired=expired, json=json)
        return
    if since or metadata or expired:
        raise UsageError("--since, --metadata and --expired belong to --list")
    with console.busy(console.stderr(), "loading"):
        from batchkit.api.adopting import adopt_batches  # noqa: PLC0415 - --help need not wait for the database and the provider
        from batchkit.cli.calls import mode_of  # noqa: PLC0415 - as above
        from batchkit.cli.interrupts import interruptible  # noqa: PLC0415 - as above
        from batchkit.cli.render import adopted  # noqa: PLC0415 - as above
        from batchkit.cli.render.terminal import Terminal  # noqa: PLC0415 - as above
        from batchkit.steps.split import SplitOptions  # noqa: PLC0415 - as above

    found = settings.settings()
    terminal = Terminal(settings, common.same_command(), is_for_machines=json, verbose=verbose)
    # One pass is not worth the start of Prefect.
    mode = mode_of(terminal, found, use_prefect=False, verbose=verbose)
    with interruptible(terminal.interrupted):
        report = adopt_batches(
            batch_ids or [],
            name=name,
            requests=requests or [],
            outputs=outputs or [],
            errors=errors or [],
            separate=separate,
            options=SplitOptions(),
            settings=found,
            mode=mode,
        )
    code = adopted.exit_code(report)
    if json:
        console.write_json(adopted.adoption_for_machines(report, exit_code=code))
    else:
        console.tell(console.stdout(), adopted.adoption_lines(report, settings))
    raise typer.Exit(code)


def _list(where: common.Where, *, since: str | None, metadata: list[str], only_expired: bool, json: bool) -> None:
    from batchkit.api.adopting import listed_batches  # noqa: PLC0415 - --help need not wait for the database and the provider
    from batchkit.cli.render import adopted  # noqa: PLC0415 - as above

    pairs = dict(map(_pair, metadata))
    age = times.span_of(since, "--since")
    settings = where.settings()
    found = listed_batches(settings, since_seconds=age, metadata=pairs, only_expired=only_expired)
    if json:
        console.write_json(adopted.listing_for_machines(found))
        return
    out = console.stdout()
    if not found:
        console.say(out, "no such batch at the provider")
        return
    console.tell(out, adopted.listing_lines(found))
    if settings.dialect.retention.output_days is None:
        console.say(console.stderr(), f"how long {settings.dialect.title} keeps results is not known: fetch them soon")


def _pair(word: str) -> tuple[str, str]:
    key, sign, value = word.partition("=")
    if not key or not sign:
        raise UsageError(f"--metadata {word!r} is not KEY=VALUE")
    return key, value
