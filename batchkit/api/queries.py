"""A query is asked again: a workload with its earlier rows that is not finished is finished first, then come the rows of today."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from batchkit.engine.observer import DO_NOTHING, Observer
from batchkit.errors import ConfigurationError, UsageError
from batchkit.files.outputs import are_same
from batchkit.formatting import moment
from batchkit.store.engine import parse_url

if TYPE_CHECKING:
    from batchkit.api.table_question import TableQuestion
    from batchkit.datasets import Table
    from batchkit.engine.runtime import Runner
    from batchkit.models import Workload
    from batchkit.settings import Settings

#: Of Postgres, where an address names none.
_PORT = 5_432


def earlier_of_query(runner: Runner, question: TableQuestion, observer: Observer = DO_NOTHING) -> list[Workload]:
    """Return the unfinished workloads with the same questions about earlier rows of a question's query, oldest first.

    They are to be finished before ``begin_table``. Where there are none, the query is not asked.
    """
    from batchkit.annotation.query_rows import has_rows, open_of_same_query  # noqa: PLC0415 - an extra
    from batchkit.annotation.workload_from_table import snapshot_path  # noqa: PLC0415 - as above

    if question.query is None:
        return []
    with runner.store.read() as connection:
        found = open_of_same_query(connection, question.of_query())
    if not found:
        return []
    with question.opened(lambda: nullcontext(runner), runner.scratch) as (asked, _):
        recipe = asked.recipe
    earlier = [each for each in found if not has_rows(each, recipe, partial(snapshot_path, runner, each))]
    for workload in earlier:
        observer.note(changed_rows(workload))
    return earlier


def changed_rows(workload: Workload) -> str:
    """Return what is said of an unfinished workload with earlier rows of a query."""
    return (
        f"the rows of the query have changed since {moment(workload.created_at)} UTC: the workload {workload.name!r}, which has"
        " the rows of then and is not finished, is finished first; then the rows of now are asked"
    )


def named_as_before(runner: Runner, question: TableQuestion, table: Table) -> TableQuestion:
    """Return the question with the digest of a workload that an earlier version made of the same rows, so that it is the same workload.

    Earlier versions took the digest of the query for that of its rows.
    """
    from batchkit.annotation.query_rows import has_rows, is_of_query  # noqa: PLC0415 - an extra
    from batchkit.annotation.recipe import load_recipe  # noqa: PLC0415 - as above
    from batchkit.annotation.workload_from_table import default_name, snapshot_path  # noqa: PLC0415 - as above

    recipe = question.recipe
    if not recipe.query_digest:
        return question
    before = recipe.model_copy(update={"table_digest": recipe.query_digest})
    workload = runner.known(question.name or default_name(table, before))
    if workload is None or workload.request_count is None or not is_of_query(workload, before):
        return question
    if load_recipe(workload.recipe or "").table_digest != before.table_digest:
        return question
    is_same = has_rows(workload, recipe, partial(snapshot_path, runner, workload))
    return replace(question, recipe=before) if is_same else question


def check_not_queried(question: TableQuestion, settings: Settings) -> None:
    """Raise ``UsageError`` when an output ``table:NAME`` is a table of the results database that the question's query reads."""
    from batchkit.annotation.workload_from_table import tables_among  # noqa: PLC0415 - an extra

    query = question.query
    if query is None or not _is_same_database(question.parts[0], settings):
        return
    for name in tables_among(question.output, question.review):
        if re.search(rf"\b{re.escape(name)}\b", query, re.IGNORECASE):
            raise UsageError(
                f"table:{name} is read by the query; the results would overwrite it", hint="name another output"
            )


def _is_same_database(address: str, settings: Settings) -> bool:
    try:
        asked, own = parse_url(address), parse_url(settings.resolved_database_url)
    except ConfigurationError:
        return False
    if asked.get_backend_name() != own.get_backend_name():
        return False
    if own.get_backend_name() == "sqlite":
        return are_same(Path(asked.database or ""), Path(own.database or ""))
    return (asked.host, asked.port or _PORT, asked.database) == (own.host, own.port or _PORT, own.database)
