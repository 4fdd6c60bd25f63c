"""From a table and a recipe to a workload: rows are rendered, checked, and split like any other input."""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from batchkit.annotation.ids import RequestIds
from batchkit.annotation.recipe import load_recipe
from batchkit.annotation.render import BadRow, Renderer
from batchkit.annotation.rendering import SNAPSHOT, render_table, without_body_prefix
from batchkit.datasets.values import text_of
from batchkit.engine.composition import rules_of, split_defaults
from batchkit.errors import InputInvalid, InputProblem, SpoolError, UsageError, WorkloadConflict
from batchkit.files import outputs, sources
from batchkit.files.paths import is_folder
from batchkit.files.sqlite_urls import sqlite_file
from batchkit.formatting import counted
from batchkit.steps.input_check import longest_line
from batchkit.steps.split import SplitOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from batchkit.annotation.recipe import Recipe
    from batchkit.annotation.rendering import Rendered
    from batchkit.datasets import Table
    from batchkit.engine.deadline import DeadlinePlan
    from batchkit.engine.runtime import Runner
    from batchkit.models import Workload
    from batchkit.preflight import ModelShare
    from batchkit.settings import Settings

#: The snapshot's name in workloads of earlier versions, which wrote their keys by ``str``.
_EARLIER_SNAPSHOT = "table.parquet"
_PATTERN_SIGNS = frozenset("*?[")
_DIGEST_CHARS = 8
_UNREADABLE_IN_NAMES = re.compile(r"[^\w.-]+")


def ensure_workload(
    runner: Runner,
    table: Table,
    recipe: Recipe,
    *,
    name: str | None = None,
    options: SplitOptions | None = None,
    folder: Path | None = None,
    accept: Callable[[Sequence[str]], None] = lambda _models: None,
    advance: Callable[[int], None] = lambda _rows: None,
    checked: Callable[[int], None] = lambda _lines: None,
    waiting: Callable[[], None] = lambda: None,
    planned: Callable[[Mapping[str, ModelShare], DeadlinePlan], object] = lambda _shares, _plan: None,
) -> Workload:
    """Make sure that the workload of a table and a recipe exists and is completely split; a repetition is a no-op.

    ``name`` is by default the table's name with a digest of recipe and content. Relative paths of images begin in ``folder``.
    ``accept`` takes the models of a new workload, and may raise ``UsageError``. ``advance`` gets the number of further rendered rows, ``checked`` the number of checked requests; ``waiting`` is called while
    another runner splits; ``planned`` is as for ``Runner.split``. A kill at any moment leaves nothing half done. Raises ``WorkloadConflict`` if the name
    belongs to something else, ``InputInvalid`` with all rows that have no request, ``UsageError`` for the recipe; nothing is sent.
    """
    whole = with_table(recipe, table)
    taken = table if whole.limit is None else table.head(whole.limit)
    chosen = sources.check_name(name) if name else default_name(table, whole)
    options = options or SplitOptions()
    most_tokens = runner.settings.dialect.models.max_completion_tokens
    answer_rules = whole.answer_rules(most_tokens).model_dump_json()
    existing = matching(runner.known(chosen), whole)
    if existing is not None and existing.request_count is not None:
        return runner.change_policies(existing, replace(options, answer_rules=answer_rules))
    renderer = Renderer(
        whole, taken.columns, dialect=runner.settings.dialect, folder=folder, rules=rules_of(runner.settings, options)
    )
    accept(whole.models)
    with runner.scratch() as scratch:
        longest = longest_request(runner.settings, options)
        rendered = render_table(taken, renderer, scratch, max_line_bytes=longest, advance=advance)
        with _naming_rows(taken, whole, rendered):
            return runner.split(
                [rendered.requests],
                name=chosen,
                options=replace(
                    options,
                    source=whole.table,
                    answer_rules=answer_rules,
                    recipe=whole.model_dump_json(),
                    skipped_rows=rendered.skipped_rows,
                ),
                advance=checked,
                waiting=waiting,
                keep=rendered.keep,
                planned=planned,
            )


def longest_request(settings: Settings, options: SplitOptions | None) -> int:
    """Return the most bytes of a request, so that a shard can hold it."""
    given = None if options is None else options.shard_bytes
    return longest_line(given or split_defaults(settings).shard_bytes)


def with_table(recipe: Recipe, table: Table) -> Recipe:
    """Return the recipe with the name and the digest of its table, unless it has them."""
    if recipe.table_digest:
        return recipe
    return recipe.model_copy(update={"table": recipe.table or table.name, "table_digest": table.digest()})


def default_name(table: Table, recipe: Recipe) -> str:
    """Return a workload name made from the content: a change of any request changes the name."""
    stem = _UNREADABLE_IN_NAMES.sub("-", sources.name_of(Path(table.name))).strip("-.")[:80] or "table"
    return f"{stem}-{recipe.digest()[:_DIGEST_CHARS]}"


def snapshot_path(runner: Runner, workload: Workload) -> Path:
    """Return the path of the table that a workload was made from (see ``Snapshot``). Raises ``SpoolError`` if it is lost."""
    try:
        return runner.kept_file(workload, SNAPSHOT)
    except SpoolError:
        # If neither is there, the error names the file of this version.
        with suppress(SpoolError):
            return runner.kept_file(workload, _EARLIER_SNAPSHOT)
        raise


def request_ids(recipe: Recipe, snapshot: Path) -> RequestIds:
    """Return the ids of the requests that were made with a snapshot."""
    return RequestIds(recipe, text=str if snapshot.name == _EARLIER_SNAPSHOT else text_of)


def folder_of(parts: Sequence[str]) -> Path:
    """Return the folder in which relative paths in a table's cells begin: the table's own. ``parts`` name the table."""
    if "://" in parts[0]:
        return Path()
    path = Path(parts[0])
    while _PATTERN_SIGNS.intersection(path.name):
        path = path.parent
    return path if is_folder(path) else path.parent


def check_outputs(
    recipe: Recipe, *, output: str | Path | None, review: str | Path | None, parts: Sequence[str] = ()
) -> None:
    """Raise ``UsageError`` for an output that cannot be written, or would overwrite the table that ``parts`` name.

    ``output`` is the target of the table, ``review`` that of its disputed rows, each None if there is none. Nothing is created.
    """
    for target in (output, review):
        if target is not None:
            _check_target(target, parts, makes_folder=recipe.speech is not None)
    if output is not None and review is not None and _are_same(output, review):
        raise UsageError(f"the table and its disputed rows would both be written to {output}", hint="name two outputs")
    if review is not None and recipe.requests_per_row == 1:
        raise UsageError(
            "there is nothing to review: one annotator cannot disagree", hint="use several models, or --samples 3"
        )


def check_tables(connection: Connection, *, output: str | Path | None, review: str | Path | None) -> None:
    """Raise ``UsageError`` if a target ``table:NAME`` names a table that batchkit did not create; nothing is created."""
    from batchkit.store.outputs import check_table  # noqa: PLC0415 - an extra, which no other verb needs

    for name in tables_among(output, review):
        check_table(connection, name)


def check_table_columns(
    recipe: Recipe,
    table: Table,
    *,
    output: str | Path | None,
    review: str | Path | None,
    is_postgres: bool,
    provider: str,
) -> None:
    """Raise ``UsageError`` if a target ``table:NAME`` cannot have the columns of the table with its answers.

    Rows are read only where it depends on them whether a row fits.
    """
    from batchkit.annotation.output_columns import OutputColumns, tells_tools  # noqa: PLC0415 - an extra, which no other verb needs
    from batchkit.store.output_columns import check_columns  # noqa: PLC0415 - as above

    taken = table if recipe.limit is None else table.head(recipe.limit)
    for name in tables_among(output, review):
        schema = OutputColumns(recipe, taken.schema, tells_tools=tells_tools(recipe, provider)).schema
        check_columns(schema, name, is_postgres=is_postgres, rows=taken.batches)


def tables_among(*targets: str | Path | None) -> list[str]:
    """Return NAME of each target ``table:NAME``. Raises ``UsageError`` for a name that no database accepts."""
    from batchkit.datasets import table_name_of  # noqa: PLC0415 - as above

    names = [table_name_of(target) for target in targets if target is not None]
    return [name for name in names if name is not None]


def _check_target(target: str | Path, parts: Sequence[str], *, makes_folder: bool) -> None:
    from batchkit.datasets import check_target, is_among, table_name_of  # noqa: PLC0415 - as above

    if table_name_of(target) is not None:
        return
    path = Path(target)
    outputs.check_file(path, makes_folder=makes_folder)
    check_target(path)
    databases = [file for part in parts if (file := sqlite_file(str(part))) is not None]
    if is_among(path, parts) or any(outputs.are_same(path, Path(database)) for database in databases):
        raise outputs.overwrites_input(path)


def _are_same(one: str | Path, other: str | Path) -> bool:
    tables = tables_among(one, other)
    if not tables:
        return outputs.are_same(Path(one), Path(other))
    return len(tables) == 2 and tables[0].lower() == tables[1].lower()  # noqa: PLR2004 - both


def matching(workload: Workload | None, recipe: Recipe) -> Workload | None:
    """Return the workload of a recipe's name. Raises ``WorkloadConflict`` if it was made in another way."""
    if workload is None:
        return None
    if workload.recipe is None:
        raise WorkloadConflict(
            f"the workload {workload.name!r} was made from requests ({workload.source}), not from a table",
            hint="choose another --name",
        )
    before, now = load_recipe(workload.recipe).essence(), recipe.essence()
    if before != now:
        differing = [field for field in type(recipe).model_fields if getattr(before, field) != getattr(now, field)]
        raise WorkloadConflict(
            f"the workload {workload.name!r} was made from another recipe ({_listed(differing)} differ), so its answers belong to other questions",
            hint="choose another --name, or `batchkit clean` the old workload first",
        )
    _check_skipped(workload, recipe)
    return workload


def _check_skipped(workload: Workload, recipe: Recipe) -> None:
    """Refuse a recipe that refuses rows which the workload has skipped."""
    made = load_recipe(workload.recipe or "")
    for is_empty, option in ((True, "--on-empty"), (False, "--bad-rows")):
        if workload.skipped_rows and made.skips(is_empty=is_empty) and not recipe.skips(is_empty=is_empty):
            raise WorkloadConflict(
                f"the workload {workload.name!r} has skipped {counted(workload.skipped_rows, 'row')}, as it was asked with"
                f" {option} skip; without it these rows are refused",
                hint=f"add {option} skip, or correct the rows",
            )


def _listed(fields: list[str]) -> str:
    told = {"table_digest": "the table's content", "audio_digest": "the files of the recordings"}
    return ", ".join(told.get(field, field) for field in fields)


@contextmanager
def _naming_rows(table: Table, recipe: Recipe, rendered: Rendered) -> Iterator[None]:
    """Report problems of rendered lines as problems of their rows."""
    try:
        yield
    except InputInvalid as invalid:
        rows = rendered.row_of([(problem.line - 1) // recipe.requests_per_row for problem in invalid.problems])
        problems: list[InputProblem] = [
            BadRow(table.name, row, without_body_prefix(problem.reason))
            for row, problem in zip(rows, invalid.problems, strict=True)
        ]
        raise InputInvalid(problems, invalid.count) from None
