"""Dry runs of questions about tables."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from batchkit.api import existing
from batchkit.api.budgets import new_workload_check, note_budget
from batchkit.api.deadlines import plan_deadline
from batchkit.api.planned_reuse import planned_reuse
from batchkit.api.queries import changed_rows, check_not_queried
from batchkit.engine.composition import lane_of, rules_of
from batchkit.engine.observer import counting
from batchkit.settings import load_settings
from batchkit.store import workloads
from batchkit.store.engine import parse_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.annotation.preview import Preview
    from batchkit.annotation.recipe import Recipe
    from batchkit.api.modes import RunMode
    from batchkit.api.table_question import TableQuestion
    from batchkit.datasets import Table
    from batchkit.models import Workload
    from batchkit.settings import Settings

T = TypeVar("T")


def preview_table(question: TableQuestion, settings: Settings | None, mode: RunMode) -> Preview:
    """Make all checks of ``ask_table``; returns the first requests and what all would cost. Nothing is stored or sent.

    Raises ``BatchkitError``.
    """
    from batchkit.annotation import workload_from_table  # noqa: PLC0415 - an extra
    from batchkit.annotation.estimate import earlier_workloads  # noqa: PLC0415 - as above
    from batchkit.annotation.preview import preview  # noqa: PLC0415 - as above

    found = settings or load_settings()
    question.check_outputs(question.output)
    question = question.with_examples()
    check_not_queried(question, found)
    if workload_from_table.tables_among(question.output, question.review):
        existing.read(found, partial(workload_from_table.check_tables, output=question.output, review=question.review))
    with (
        question.opened(lambda: existing.open_runner(found), _scratch) as (opened, table),
        counting(mode.observer, "rendering the rows") as advance,
    ):
        question = opened.with_output(table)
        for note in question.notes(found):
            mode.observer.note(note)
        is_postgres = parse_url(found.resolved_database_url).get_backend_name() != "sqlite"
        question.check_table(table, is_postgres=is_postgres, provider=found.provider)
        question.decisions(table)
        workload = _existing(found, question, table)
        for earlier in _earlier_of_query(found, question.recipe):
            mode.observer.note(changed_rows(earlier))
        rules = question.recipe.answer_rules(found.dialect.models.max_completion_tokens).model_dump_json()
        with planned_reuse(found, question.split_options, answer_rules=rules, is_of_table=True) as reuse:
            shown = preview(
                table,
                question.recipe,
                dialect=found.dialect,
                max_line_bytes=workload_from_table.longest_request(found, question.options),
                name=question.name,
                folder=question.folder,
                reuse=reuse,
                lane_of=lane_of(found, question.split_options, question.recipe.models),
                rules=rules_of(found, question.split_options),
                earlier=lambda recipe: existing.read_if_possible(found, partial(earlier_workloads, recipe=recipe)),
                advance=advance,
            )
    if workload is None or workload.request_count is None:
        options = question.split_options
        new_workload_check(found, options, mode.observer, is_dry_run=True)(question.recipe.models)
        note_budget(found, options, mode.observer)
        lane = lane_of(found, options, question.recipe.models)(shown.requests)
        plan_deadline(found, options, shown.models, lane=lane, observer=mode.observer)
    else:
        mode.observer.note(f"the workload {workload.name!r} exists: the same command without --dry-run resumes it")
    return shown


def _existing(settings: Settings, question: TableQuestion, table: Table) -> Workload | None:
    """Return the workload that the question resumes. Raises ``WorkloadConflict``."""
    from batchkit.annotation.workload_from_table import default_name, matching, with_table  # noqa: PLC0415 - an extra

    recipe = with_table(question.recipe, table)
    name = question.name or default_name(table, recipe)
    return matching(existing.read_if_possible(settings, partial(workloads.find, name=name)), recipe)


def _earlier_of_query(settings: Settings, recipe: Recipe) -> list[Workload]:
    """Return the unfinished workloads with earlier rows of a recipe's query, as far as that can be said without their rows."""
    from batchkit.annotation.query_rows import open_of_same_query  # noqa: PLC0415 - an extra
    from batchkit.annotation.recipe import load_recipe  # noqa: PLC0415 - as above

    if not recipe.query_digest:
        return []
    found = existing.read_if_possible(settings, partial(open_of_same_query, recipe=recipe)) or []
    same = {recipe.table_digest, recipe.query_digest}
    return [workload for workload in found if load_recipe(workload.recipe or "").table_digest not in same]


@contextmanager
def _scratch() -> Iterator[Path]:
    with TemporaryDirectory(prefix="batchkit-plan-") as folder:
        yield Path(folder)
