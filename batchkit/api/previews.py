"""Dry runs of questions about tables."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from batchkit.api import existing
from batchkit.api.listed_models import model_check
from batchkit.api.queries import check_not_queried
from batchkit.engine.observer import counting
from batchkit.errors import StoreError
from batchkit.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Connection

    from batchkit.annotation.preview import Preview
    from batchkit.api.modes import RunMode
    from batchkit.api.tables import TableQuestion
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
    check_not_queried(question, found)
    if workload_from_table.tables_among(question.output, question.review):
        existing.read(found, partial(workload_from_table.check_tables, output=question.output, review=question.review))
    with (
        question.opened(lambda: existing.open_runner(found), _scratch) as (opened, table),
        counting(mode.observer, "rendering the rows") as advance,
    ):
        question = opened.with_output(table)
        shown = preview(
            table,
            question.recipe,
            max_line_bytes=workload_from_table.longest_request(found, question.options),
            name=question.name,
            folder=question.folder,
            earlier=lambda recipe: _read_if_possible(found, partial(earlier_workloads, recipe=recipe)),
            advance=advance,
        )
    model_check(found, mode.observer, is_dry_run=True)(question.recipe.models)
    return shown


@contextmanager
def _scratch() -> Iterator[Path]:
    with TemporaryDirectory(prefix="batchkit-plan-") as folder:
        yield Path(folder)


def _read_if_possible(settings: Settings, query: Callable[[Connection], T]) -> T | None:
    """Read what only adds to an estimate; None where the database cannot be read, as a run would upgrade it."""
    try:
        return existing.read(settings, query)
    except StoreError:
        return None
