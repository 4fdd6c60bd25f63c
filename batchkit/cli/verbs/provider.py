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
    """List the providers whose batch API is known.

    For each one: the name that --provider takes; its address; the environment variable that holds your key; its completion windows;
    how large a file may be; for how many days it keeps results; and which documentation says so.

    Without --provider it is Groq. `[provider] name = "openai"` in batchkit.toml chooses one for a project. For a server that is not in
    the list there is `custom`.

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
        bool, typer.Option("--free", metavar="", help="Leave out what costs: creating batches, and two ordinary calls.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="The model that answers (default: a chat model that the server lists).",
            show_default=False,
        ),
    ] = None,
    audio: Annotated[
        str | None,
        typer.Option(
            "--audio",
            metavar="URL",
            help="Try lines that transcribe this recording, too; a short one is cheap.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        float,
        typer.Option("--wait", metavar="SECONDS", min=0, help="Cancel batches that still run after this long."),
    ] = 60,
    show_all: Annotated[
        bool, typer.Option("--all", metavar="", help="Show what the check cannot answer, too, and why.")
    ] = False,
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
    """Check whether a server does what its profile says. Nothing of the check stays there.

    One line goes through every call: it reads models, uploads a file, reads it back, lists, creates a batch, looks it up, polls,
    cancels, deletes. Then come a dozen lines in odd files and batches, such as a bad line or a custom_id that repeats: what the
    server makes of them is noted. All of it costs a fraction of a cent with a small model; you are asked first, with the price.

    The verdict of each row: as the profile says; differs; noted (the profile says nothing about it); not seen.

    Exit codes: 0 as the profile says; 2 the server cannot be used; 3 it differs.

    For example:

        batchkit provider check --free
        batchkit provider check --provider openai --model gpt-4.1-mini
        batchkit provider check --provider custom --base-url http://gpu:8000/v1 --save batchkit.toml
    """
    from batchkit.api.provider_check import check_provider  # noqa: PLC0415 - --help need not wait for the provider
    from batchkit.cli.interrupts import interruptible  # noqa: PLC0415 - as above
    from batchkit.cli.render import providers  # noqa: PLC0415 - as above

    settings = common.Where(provider=provider, base_url=base_url).settings()
    if not (free or yes or json or sys.stdin.isatty()):
        raise UsageError(
            "not a terminal, so nobody can be asked whether batches may be created; nothing was sent",
            hint="--yes creates them without a question, --free leaves them out",
        )
    console.log_to(console.stderr(), verbose=verbose)
    with interruptible(
        lambda: console.say(console.stderr(), "interrupted: the batches were cancelled, the files deleted")
    ):
        report = check_provider(
            settings,
            may_create=_asking(free=free, yes=yes, json=json),
            model=model,
            audio=audio,
            patience_seconds=wait,
            save=save,
        )
    if json:
        console.write_json(providers.checked(settings, report))
    else:
        console.show(console.stdout(), providers.check_table(report))
        if show_all:
            console.show(console.stdout(), providers.unanswered_table(report))
        for line in providers.conclusion(settings, report, save, show_all=show_all):
            console.say(console.stderr(), line)
    if report.problem is not None:
        raise typer.Exit(exits.USAGE)
    raise typer.Exit(exits.SOME_FAILED if report.differs else exits.SUCCEEDED)


def _asking(*, free: bool, yes: bool, json: bool) -> Callable[[str, float | None], bool]:
    def may_create(model: str, usd: float | None) -> bool:
        if free or yes or json:
            return yes and not free
        price = "its price is not known" if usd is None else f"at most about {usd:.4f} USD"
        try:
            return typer.confirm(f"Create about ten batches with a dozen short lines for {model} ({price})?", err=True)
        except typer.Abort:
            return False

    return may_create


app.command("list", cls=VerbCommand, help=help_of(list_providers))(list_providers)
app.command("check", cls=VerbCommand, help=help_of(check))(check)
