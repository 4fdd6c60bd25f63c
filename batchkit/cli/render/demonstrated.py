"""The output of ``demo``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from rich.text import Text

from batchkit import formatting
from batchkit.cli.render import display
from batchkit.cli.render.outcome import next_step
from batchkit.cli.render.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.api.demo import Demo, Evidence
    from batchkit.cli.options.common import Where
    from batchkit.engine.progress import Progress


class DemoTerminal(Terminal):
    """After an interrupt it names only the command that resumes: the emulator ends with the command."""

    def farewell(self) -> Iterator[Text]:
        """Return the lines that an interrupt prints."""
        yield Text("interrupted")
        yield next_step("resume", self.again)


def opening(demo: Demo) -> str:
    """Return the first line of a demo."""
    verb = "going on with" if demo.is_resumed else "starting"
    return f"{verb} {demo.name}: an emulated Groq Batch API at {demo.emulator.base_url}; nothing leaves this machine"


def report(progress: Progress, evidence: Evidence, demo: Demo, where: Where) -> Iterator[Text]:
    """Return the events of the demo, line by line, and the commands that show more at ``where``."""
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
    yield Text(f"results:  {demo.output}")
    yield Text("to see more:")
    csv = demo.output.with_suffix("").with_suffix(".csv")
    query = f"SELECT custom_id, error_message FROM failed WHERE workload = '{demo.name}' LIMIT 5"  # noqa: S608 - to be read
    look_inside = f'sqlite3 {shlex.quote(str(where.home))}/batchkit.db "{query}"'
    for command in (where.command("status", demo.name), where.command("export", demo.name, str(csv)), look_inside):
        yield Text.assemble("  ", (command, "bold"))
