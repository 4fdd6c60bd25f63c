"""``demo``: the same steps as ``run``, against an emulated provider, and a report of what happened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from batchkit.cli.options import common
from batchkit.cli.render import console, exits

if TYPE_CHECKING:
    from batchkit.api.demo import Demo

_DEMO_HOME = Path("batchkit-demo")


def demo(
    *,
    no_prefect: common.NoPrefect = False,
    verbose: common.Verbose = False,
    home: Annotated[
        Path, typer.Option("--home", metavar="FOLDER", help="Where everything is put; delete it when you are done.")
    ] = _DEMO_HOME,
) -> None:
    """Run a demo without a key: about 1,000 requests against an emulated Groq Batch API on this machine.

    It runs the real pipeline; the scenario makes some requests fail permanently and some expire once. It takes less than a minute,
    and prints what happened and which commands show more. Nothing leaves the machine and nothing costs anything. After Ctrl-C the
    same command resumes; after a finished demo it starts another one beside it.

    Exit code: 0 when the demo ran as planned, although some requests fail permanently.

    For example:

        batchkit demo
        batchkit demo --home /tmp/batchkit-demo --no-prefect
    """
    from batchkit.api.demo import open_demo  # noqa: PLC0415 - --help need not wait for the emulator
    from batchkit.api.running import run_input  # noqa: PLC0415 - as above
    from batchkit.cli.calls import mode_of  # noqa: PLC0415 - as above
    from batchkit.cli.interrupts import interruptible  # noqa: PLC0415 - as above
    from batchkit.cli.render import demonstrated, outcome  # noqa: PLC0415 - as above

    where = common.Where(home=home)
    terminal = demonstrated.DemoTerminal(where, common.same_command(), verbose=verbose)
    with interruptible(terminal.interrupted), open_demo(home) as opened:
        console.say(terminal.err, demonstrated.opening(opened))
        progress = run_input(
            [opened.source],
            name=opened.name,
            output=opened.output,
            raw_csv=False,
            options=None,
            settings=opened.settings,
            mode=mode_of(terminal, opened.settings, use_prefect=not no_prefect, verbose=verbose),
        ).progress
        evidence = opened.evidence()
    console.tell(console.stdout(), demonstrated.report(progress, evidence, opened, _place(where, opened)))
    is_as_planned = progress.is_finished and evidence.bought_twice == 0
    raise typer.Exit(exits.SUCCEEDED if is_as_planned else outcome.exit_code(progress))


def _place(where: common.Where, opened: Demo) -> common.Where:
    """Return where the demo can be read: a database that the environment names would take the place of its own."""
    # Under the emulator's address: a key that does not fit that of the project must not end the demo.
    found = replace(where, base_url=opened.settings.base_url).settings()
    is_enough = found.resolved_database_url == opened.settings.resolved_database_url
    return where if is_enough else replace(where, database_url=opened.settings.resolved_database_url)
