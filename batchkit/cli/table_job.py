"""What ``annotate``, ``transcribe`` and ``moderate`` do: a table becomes a workload, and its answers a table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from batchkit.annotation import workload_from_table
from batchkit.annotation.preview import preview
from batchkit.annotation.row_answers import write_output_table
from batchkit.annotation.totals import totals
from batchkit.api import existing
from batchkit.api.remembered import output_here, remember
from batchkit.cli import driving, job
from batchkit.cli.options import common
from batchkit.cli.render import annotated, console, exits, live, outcome
from batchkit.engine.runtime import Runner
from batchkit.engine.waves import DriveUntil

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from batchkit.annotation.recipe import Recipe
    from batchkit.cli.job import Desk, Manner
    from batchkit.datasets import Table
    from batchkit.engine.progress import Progress
    from batchkit.models import Workload
    from batchkit.settings import Settings
    from batchkit.steps.split import SplitOptions


@dataclass(frozen=True, slots=True)
class TableOrder:
    """What the user workload_from_table: ``recipe`` asked of the table that ``opened`` gives.

    ``words`` name that table, where it is files. ``output`` None is the default file, ``review`` a second one for disputed rows, ``only`` a filter of the rows that are written;
    ``folder`` is where relative paths of images begin.
    """

    recipe: Recipe
    opened: Callable[[], AbstractContextManager[Table]]
    options: SplitOptions
    words: Sequence[str] = ()
    name: str | None = None
    output: str | None = None
    raw_csv: bool = False
    review: str | None = None
    only: str | None = None
    folder: Path | None = None
    until: DriveUntil = DriveUntil.FINISHED


def carry_out(order: TableOrder, settings: Settings, manner: Manner) -> int:
    """Bring an order as far as it was asked for; returns the exit code. Raises ``BatchkitError``."""
    err = console.stderr()
    again = common.same_command()
    _check_outputs(order, order.output)
    with Runner(settings, verb=common.verb()) as runner:
        with runner.store.read() as connection:
            workload_from_table.check_tables(connection, output=order.output, review=order.review)
        desk = job.Desk(runner, manner, err)
        with driving.interruptible(err, lambda: outcome.interrupted(desk.picture(), manner.where, again=again)):
            is_default = order.output is None and order.review is None
            with order.opened() as table:
                order = _with_default_output(order, table)
                workload = _ensure(desk, table, order)
            output = output_here(
                str(order.output),
                is_annotated=True,
                raw_csv=order.raw_csv,
                review=order.review,
                only=order.only,
                is_default=is_default,
            )
            remember(runner, workload, output)
            was_finished = runner.progress(workload.id).is_finished
            progress = desk.drive(workload, until=order.until)
            if not progress.is_finished:
                return job.conclude(progress, manner, until=order.until, output=None, again=again)
            code = _hand_over(desk, workload, progress, order)
            desk.write_other(progress, str(order.output), is_news=not was_finished)
            return code


def show_requests(order: TableOrder, settings: Settings, manner: Manner) -> int:
    """Print the requests of the first rows and what all would cost; stores and sends nothing. Raises ``BatchkitError``."""
    err = console.stderr()
    is_shown = not manner.is_for_machines and console.is_live(err)
    _check_outputs(order, order.output)
    if workload_from_table.tables_among(order.output, order.review):
        existing.read(settings, partial(workload_from_table.check_tables, output=order.output, review=order.review))
    with order.opened() as table, live.counting(err, "rendering the rows", total=None, is_shown=is_shown) as advance:
        order = _with_default_output(order, table)
        found = preview(table, order.recipe, name=order.name, folder=order.folder, advance=advance)
    if manner.is_for_machines:
        console.write_json(annotated.preview_for_machines(found))
    else:
        console.tell(console.stdout(), annotated.preview_lines(found))
    return exits.SUCCEEDED


def _check_outputs(order: TableOrder, output: str | None) -> None:
    workload_from_table.check_outputs(order.recipe, output=output, review=order.review, parts=order.words)


def _with_default_output(order: TableOrder, table: Table) -> TableOrder:
    """Choose and check the default output, whose name may depend on the table's content. Raises ``UsageError``."""
    if order.output is not None:
        return order
    recipe = workload_from_table.with_table(order.recipe, table)
    output = f"{order.name or workload_from_table.default_name(table, recipe)}.annotated.parquet"
    _check_outputs(order, output)
    return replace(order, recipe=recipe, output=output)


def _ensure(desk: Desk, table: Table, order: TableOrder) -> Workload:
    said: list[str] = []

    def waiting() -> None:
        if not said:
            said.append(table.name)
            console.say(desk.err, f"another command is preparing {table.name!r}; waiting for it")

    labels = ("rendering the rows", "checking the requests")
    with live.counting_stages(desk.err, labels, is_shown=desk.shows_bars) as (advance, checked):
        return workload_from_table.ensure_workload(
            desk.runner,
            table,
            order.recipe,
            name=order.name,
            options=order.options,
            folder=order.folder,
            advance=advance,
            checked=checked,
            waiting=waiting,
        )


def _hand_over(desk: Desk, workload: Workload, progress: Progress, order: TableOrder) -> int:
    """Write the tables of a finished workload and say what became of it; returns the exit code."""
    target = str(order.output)
    with live.counting(
        desk.err, f"writing {target}", total=_row_count(workload, order), is_shown=desk.shows_bars
    ) as advance:
        written = write_output_table(
            desk.runner, workload, target, raw_csv=order.raw_csv, where=order.only, advance=advance
        )
        if order.review is not None:
            write_output_table(desk.runner, workload, order.review, raw_csv=order.raw_csv, review_only=True)
    added_up = totals(desk.runner, workload)
    code = outcome.exit_code(progress)
    if desk.manner.is_for_machines:
        console.write_json(annotated.for_machines(progress, added_up, exit_code=code, output=target, rows=written))
        return code
    out = console.stdout()
    console.tell(out, outcome.summary(progress, desk.manner.where, output=Path(target)))
    console.tell(out, annotated.totals_lines(added_up, review=order.review))
    if added_up.agreement:
        console.show(out, annotated.agreement_table(added_up))
    return code


def _row_count(workload: Workload, order: TableOrder) -> int | None:
    count = workload.request_count
    return None if count is None else count // order.recipe.requests_per_row
