"""What ``annotate``, ``transcribe`` and ``moderate`` do once their flags are read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from batchkit.api.modes import RunMode
from batchkit.api.previews import preview_table
from batchkit.api.table_question import TableQuestion
from batchkit.api.tables import ask_table
from batchkit.cli.calls import call, terminal_of
from batchkit.cli.render import annotated
from batchkit.engine.waves import DriveUntil

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.annotation.recipe import Recipe
    from batchkit.cli.options.flags import CutFlags, DriveFlags
    from batchkit.cli.options.recipes import Asked


def ask(
    asked: Asked,
    recipe: Recipe,
    table: Sequence[str],
    *,
    answers_of: str | None = None,
    cut: CutFlags,
    flags: DriveFlags,
) -> int:
    """Ask ``recipe`` of every row of ``table``, or of the answers of the workload ``answers_of``; returns the exit code.

    With --print-recipe or --dry-run it is only shown.
    """
    rows = asked.rows
    if rows.print_recipe:
        return asked.print()
    settings = flags.settings(cut)
    terminal = terminal_of(flags)
    question = TableQuestion(
        recipe=recipe,
        parts=table,
        query=rows.query,
        separator=rows.separator,
        answers_of=answers_of,
        name=rows.name,
        output=rows.output,
        has_default_output=True,
        review=asked.everything.get("review"),
        reviewed=asked.everything.get("reviewed"),
        examples=asked.examples,
        gold=tuple(asked.everything.get("gold", ())),
        weights=asked.everything.get("weights"),
        only=asked.everything.get("only"),
        raw_csv=rows.raw_csv,
        options=replace(
            cut.options(),
            max_cost=asked.everything.get("max_cost"),
            max_total_tokens=asked.everything.get("max_total_tokens"),
        ),
    )
    if rows.dry_run:
        return annotated.show_preview(preview_table(question, settings, RunMode(observer=terminal)), terminal)
    until = DriveUntil.SUBMITTED if rows.submit_only else DriveUntil.FINISHED
    with call(terminal, settings, flags, until) as mode:
        report = ask_table(question, until, settings, mode, adds_up=True)
    return annotated.conclude(report, terminal, until=until, review=question.review)
