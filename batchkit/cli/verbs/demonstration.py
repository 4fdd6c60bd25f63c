"""``demo``: the same steps as ``run``, on the stage of ``batchkit/demo.py``, and a report of what happened."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.text import Text

from batchkit import demo, formatting
from batchkit.api.running import run_input
from batchkit.cli.calls import mode_of
from batchkit.cli.interrupts import interruptible
from batchkit.cli.options import common
from batchkit.cli.render import console, display, exits, outcome
from batchkit.cli.render.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batchkit.engine.progress import Progress


def run(home: Path, *, use_prefect: bool, verbose: bool) -> int:
    """Run a demo in ``home``; returns the exit code: 0 as soon as it ran to its end as it should."""
    where = common.Where(home=home)
    terminal = _DemoTerminal(where, common.same_command(), verbose=verbose)
    with interruptible(terminal.interrupted), demo.stage(home) as stage:
        console.say(terminal.err, _opening(stage))
        mode = mode_of(terminal, stage.settings, use_prefect=use_prefect, verbose=verbose)
        progress = run_input(
            [stage.source],
            name=stage.name,
            output=stage.output,
            raw_csv=False,
            options=None,
            settings=stage.settings,
            mode=mode,
        ).progress
        evidence = stage.evidence()
    console.tell(console.stdout(), _story(progress, evidence, stage, _place(where, stage)))
    is_as_planned = progress.is_finished and evidence.bought_twice == 0
    return exits.SUCCEEDED if is_as_planned else outcome.exit_code(progress)


class _DemoTerminal(Terminal):
    """After an interrupt there is one thing to do: the emulator that has the batches ends with the command."""

    def farewell(self) -> Iterator[Text]:
        """Return the lines that an interrupt prints."""
        yield Text("interrupted")
        yield outcome.next_step("resume", self.again)


def _place(where: common.Where, stage: demo.Stage) -> common.Where:
    """Say where the demo can be looked at: a database that the environment names would get in the way of its own."""
    # Under the emulator's address: a key that does not fit that of the project must not end the demo.
    found = replace(where, base_url=stage.settings.base_url).settings()
    is_enough = found.resolved_database_url == stage.settings.resolved_database_url
    return where if is_enough else replace(where, database_url=stage.settings.resolved_database_url)


def _opening(stage: demo.Stage) -> str:
    verb = "going on with" if stage.is_resumed else "starting"
    return f"{verb} {stage.name}: an emulated Groq Batch API at {stage.emulator.base_url}; nothing leaves this machine"


def _story(progress: Progress, evidence: demo.Evidence, stage: demo.Stage, where: common.Where) -> Iterator[Text]:
    counts = progress.counts
    yield Text.assemble(
        (f"{counts.succeeded:,}", "green"), f" of {formatting.counted(counts.total, 'request')} succeeded"
    )
    yield Text.assemble((f"{counts.failed:,}", "red"), " failed permanently (the scenario makes them fail):")
    yield display.failures_text(progress.failures)
    yield Text(f"{formatting.counted(progress.expired_attempts, 'request')} expired and were resent automatically")
    yield Text(
        f"the provider's ledger: {formatting.counted(evidence.batches, 'batch', 'batches')},"
        f" {formatting.counted(evidence.executed, 'request')} executed, {evidence.bought_twice:,} bought twice"
    )
    yield Text(f"database: {where.home}/batchkit.db")
    yield Text(f"results:  {stage.output}")
    yield Text("to see more:")
    csv = stage.output.with_suffix("").with_suffix(".csv")
    query = f"SELECT custom_id, error_message FROM failed WHERE workload = '{stage.name}' LIMIT 5"  # noqa: S608 - to be read
    look_inside = f'sqlite3 {shlex.quote(str(where.home))}/batchkit.db "{query}"'
    for command in (where.command("status", stage.name), where.command("export", stage.name, str(csv)), look_inside):
        yield Text.assemble("  ", (command, "bold"))
