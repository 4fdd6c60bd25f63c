"""``provider``: the providers that are known, and whether a server does what its profile says."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - Typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from batchkit.cli.options import common
from batchkit.cli.options.helptext import help_of
from batchkit.cli.render import console, exits
from batchkit.cli.render.help_pages import VerbCommand, VerbGroup
from batchkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(
    cls=VerbGroup,
    no_args_is_help=True,
    help="List the providers whose batch API is known, or check whether a server does what its profile says.",
)


def list_providers(
    *,
    json: Annotated[bool, typer.Option("--json", metavar="", help="Print one line of JSON on stdout.")] = False,
) -> None:
    """List the providers: address, variable of the key, windows, limits of a file, and how these are known.

    A provider is chosen with --provider or in batchkit.toml. For a server that is not in the list there is `custom`.

    For example:

        batchkit provider list
        batchkit run requests.jsonl --provider openai
    """
    from batchkit.cli.render import providers  # noqa: PLC0415 - --help need not wait for the profiles

    if json:
        console.write_json(providers.listed())
    else:
        console.show(console.stdout(), providers.list_table())


def check(
    *,
    free: Annotated[
        bool, typer.Option("--free", metavar="", help="Leave out what costs: the batch of one line.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="The model that answers the line (default one of the list).",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        float,
        typer.Option("--wait", metavar="SECONDS", min=0, help="Cancel the batch if it still runs after this long."),
    ] = 60,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="FILE", help="Write what was found as a batchkit.toml.", show_default=False),
    ] = None,
    yes: common.Yes = False,
    json: Annotated[bool, typer.Option("--json", metavar="", help="Print one line of JSON on stdout.")] = False,
    verbose: common.Verbose = False,
    provider: common.Provider = None,
    base_url: common.BaseUrl = None,
) -> None:
    """Check whether a server does what its profile says: one line goes through every call, and nothing of it stays there.

    It reads models, uploads a file, reads it back, lists, creates a batch of one line (after asking), looks it up, polls,
    cancels, deletes. A batch of one line costs a fraction of a cent.

    Exit codes: 0 as the profile says; 2 the server cannot be used; 3 it differs.

    For example:

        batchkit provider check --free
        batchkit provider check --provider custom --base-url http://gpu:8000/v1
    """
    from batchkit.api.provider_check import check_provider  # noqa: PLC0415 - --help need not wait for the provider
    from batchkit.cli.interrupts import interruptible  # noqa: PLC0415 - as above
    from batchkit.cli.render import providers  # noqa: PLC0415 - as above

    settings = common.Where(provider=provider, base_url=base_url).settings()
    if not (free or yes or json or sys.stdin.isatty()):
        raise UsageError(
            "not a terminal, so nobody can be asked whether a batch may be created; nothing was sent",
            hint="--yes creates it without a question, --free leaves it out",
        )
    console.log_to(console.stderr(), verbose=verbose)
    with interruptible(lambda: console.say(console.stderr(), "interrupted: the batch was cancelled, the file deleted")):
        report = check_provider(
            settings, may_create=_asking(free=free, yes=yes, json=json), model=model, patience_seconds=wait, save=save
        )
    if json:
        console.write_json(providers.checked(settings, report))
    else:
        console.show(console.stdout(), providers.check_table(report))
        for line in providers.conclusion(settings, report, save):
            console.say(console.stderr(), line)
    if report.problem is not None:
        raise typer.Exit(exits.USAGE)
    raise typer.Exit(exits.SOME_FAILED if report.differs else exits.SUCCEEDED)


def _asking(*, free: bool, yes: bool, json: bool) -> Callable[[str, float | None], bool]:
    def may_create(model: str, usd: float | None) -> bool:
        if free or yes or json:
            return yes and not free
        price = "its price is not known" if usd is None else f"about {usd:.6f} USD"
        try:
            return typer.confirm(f"Create a batch of one line for {model} ({price})?", err=True)
        except typer.Abort:
            return False

    return may_create


app.command("list", cls=VerbCommand, help=help_of(list_providers))(list_providers)
app.command("check", cls=VerbCommand, help=help_of(check))(check)
