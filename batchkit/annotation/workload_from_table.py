"""From a table and a recipe to a workload: rows are rendered, checked, and split like any other input."""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from batchkit import preflight
from batchkit.annotation.ids import RequestIds
from batchkit.annotation.recipe import load_recipe
from batchkit.annotation.render import BadRow, Renderer, RowProblem, is_empty_key
from batchkit.datasets.values import text_of
from batchkit.errors import InputInvalid, InputProblem, SpoolError, UsageError, WorkloadConflict
from batchkit.files import jsonl, outputs, sources
from batchkit.files.spool import disk_errors
from batchkit.files.uniqueness import SeenIds
from batchkit.steps.split import SplitOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa
    from sqlalchemy.engine import Connection

    from batchkit.annotation.recipe import Recipe
    from batchkit.datasets import Table
    from batchkit.engine.runtime import Runner
    from batchkit.models import Workload

#: The copy of the table from which the requests were made, in the folder of its workload.
SNAPSHOT = "table.arrows"
#: Its name in workloads of earlier versions, which wrote their keys by ``str``.
_EARLIER_SNAPSHOT = "table.parquet"
SHOWN_PROBLEMS = 20
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
    advance: Callable[[int], None] = lambda _rows: None,
    checked: Callable[[int], None] = lambda _lines: None,
    waiting: Callable[[], None] = lambda: None,
) -> Workload:
    """Make sure that the workload of a table and a recipe exists and is completely split; a repetition is a no-op.

    ``name`` is by default the table's name with a digest of recipe and content. Relative paths of images begin in ``folder``.
    ``advance`` gets the number of further rendered rows, ``checked`` the number of checked requests; ``waiting`` is called while
    another runner splits. A kill at any moment leaves nothing half done. Raises ``WorkloadConflict`` if the name
    belongs to something else, ``InputInvalid`` with all rows that have no request, ``UsageError`` for the recipe; nothing is sent.
    """
    whole = with_table(recipe, table)
    taken = table if whole.limit is None else table.head(whole.limit)
    chosen = sources.check_name(name) if name else default_name(table, whole)
    options = options or SplitOptions()
    existing = _existing(runner, chosen, whole)
    if existing is not None and existing.request_count is not None:
        return runner.change_policies(existing, replace(options, answer_rules=whole.answer_rules().model_dump_json()))
    renderer = Renderer(whole, taken.columns, folder=folder)
    with runner.scratch() as scratch:
        requests, snapshot = scratch / "requests.jsonl", scratch / SNAPSHOT
        _render(taken, renderer, requests, snapshot, advance)
        with _naming_rows(taken, whole):
            return runner.split(
                [requests],
                name=chosen,
                options=replace(
                    options,
                    source=whole.table,
                    answer_rules=whole.answer_rules().model_dump_json(),
                    recipe=whole.model_dump_json(),
                ),
                advance=checked,
                waiting=waiting,
                keep={SNAPSHOT: snapshot},
            )


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
    return path if path.is_dir() else path.parent


def check_outputs(
    recipe: Recipe, *, output: str | Path | None, review: str | Path | None, parts: Sequence[str] = ()
) -> None:
    """Raise ``UsageError`` for an output that cannot be written, or would overwrite the table that ``parts`` name.

    ``output`` is the target of the table, ``review`` that of its disputed rows, each None if there is none. Nothing is created.
    """
    for target in (output, review):
        if target is not None:
            _check_target(target, parts)
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
    recipe: Recipe, table: Table, *, output: str | Path | None, review: str | Path | None, is_postgres: bool
) -> None:
    """Raise ``UsageError`` if a target ``table:NAME`` cannot have the columns of the table with its answers.

    Rows are read only where it depends on them whether a row fits.
    """
    from batchkit.annotation.output_columns import OutputColumns  # noqa: PLC0415 - an extra, which no other verb needs
    from batchkit.store.output_columns import check_columns  # noqa: PLC0415 - as above

    taken = table if recipe.limit is None else table.head(recipe.limit)
    for name in tables_among(output, review):
        schema = OutputColumns(recipe, taken.schema).schema
        check_columns(schema, name, is_postgres=is_postgres, rows=taken.batches)


def tables_among(*targets: str | Path | None) -> list[str]:
    """Return NAME of each target ``table:NAME``. Raises ``UsageError`` for a name that no database accepts."""
    from batchkit.datasets import table_name_of  # noqa: PLC0415 - as above

    names = [table_name_of(target) for target in targets if target is not None]
    return [name for name in names if name is not None]


def _check_target(target: str | Path, parts: Sequence[str]) -> None:
    from batchkit.datasets import check_target, is_among, table_name_of  # noqa: PLC0415 - as above

    if table_name_of(target) is not None:
        return
    path = Path(target)
    outputs.check_file(path)
    check_target(path)
    if is_among(path, parts):
        raise outputs.overwrites_input(path)


def _are_same(one: str | Path, other: str | Path) -> bool:
    tables = tables_among(one, other)
    if not tables:
        return outputs.are_same(Path(one), Path(other))
    return len(tables) == 2 and tables[0].lower() == tables[1].lower()  # noqa: PLR2004 - both


class RowProblems:
    """The rows that have no request: the first ones, and their number."""

    def __init__(self, source: str) -> None:
        self._source = source
        self.first: list[InputProblem] = []
        self.count = 0

    def add(self, number: int, column: str, why: str) -> None:
        """Add a problem."""
        self.count += 1
        if len(self.first) < SHOWN_PROBLEMS:
            self.first.append(BadRow(self._source, number, f"{column}: {why}" if column else why))

    def report(self) -> None:
        """Raise ``InputInvalid`` if there are any."""
        if self.count:
            error = InputInvalid(self.first, self.count)
            error.hint = "correct or leave out these rows, and run the same command again"
            raise error


def rendered(
    table: Table, renderer: Renderer, problems: RowProblems
) -> Iterator[tuple[pa.RecordBatch, list[list[bytes]]]]:
    """Yield each batch of a table with the requests of its rows; a row with a problem has none.

    Raises ``UsageError`` if Groq would refuse the first requests.
    """
    from batchkit.datasets import rows_of  # noqa: PLC0415 - an extra, which no other verb needs

    number = 0
    is_checked = False
    for batch in table.batches():
        made: list[list[bytes]] = []
        for row in rows_of(batch.select(list(renderer.columns))):
            number += 1
            try:
                lines = renderer.requests(row, number)
            except RowProblem as problem:
                problems.add(number, problem.column, problem.why)
                lines = []
            if lines and not is_checked:
                _check_parameters(lines)
                is_checked = True
            made.append(lines)
        yield batch, made
    if not number:
        raise UsageError(f"{table.name} has no rows", hint="name a table with rows")


def _existing(runner: Runner, name: str, recipe: Recipe) -> Workload | None:
    workload = runner.known(name)
    if workload is None:
        return None
    if workload.recipe is None:
        raise WorkloadConflict(
            f"the workload {name!r} was made from requests ({workload.source}), not from a table",
            hint="choose another --name",
        )
    before, now = load_recipe(workload.recipe).essence(), recipe.essence()
    if before != now:
        differing = [field for field in type(recipe).model_fields if getattr(before, field) != getattr(now, field)]
        raise WorkloadConflict(
            f"the workload {name!r} was made from another recipe ({_listed(differing)} differ), so its answers belong to other questions",
            hint="choose another --name, or `batchkit clean` the old workload first",
        )
    return workload


def _listed(fields: list[str]) -> str:
    return ", ".join({"table_digest": "the table's content"}.get(field, field) for field in fields)


def _render(table: Table, renderer: Renderer, requests: Path, snapshot: Path, advance: Callable[[int], None]) -> None:
    """Write the requests and the snapshot of a table. Raises ``InputInvalid``."""
    from batchkit.datasets import Snapshot  # noqa: PLC0415 - as above

    problems = RowProblems(table.name)
    keys = SeenIds() if renderer.recipe.key is not None else None
    with (
        Snapshot.writer(snapshot, table.schema) as copy,
        disk_errors("write", requests),
        requests.open("wb", buffering=1 << 20) as lines,
    ):
        for batch, made in rendered(table, renderer, problems):
            copy.write(batch)
            for of_row in made:
                lines.writelines(of_row)
            if keys is not None:
                keys.update(key for _, key in _keys(batch, renderer, 1))
            advance(batch.num_rows)
    if keys is not None and (suspects := keys.suspects()):
        _find_repeated(Snapshot.open(snapshot), renderer, suspects, problems)
    problems.report()


def _keys(batch: pa.RecordBatch, renderer: Renderer, first: int) -> Iterator[tuple[int, str]]:
    from batchkit.datasets import rows_of  # noqa: PLC0415 - as above

    column = renderer.recipe.key or ""
    for number, row in enumerate(rows_of(batch.select([column])), first):
        if not is_empty_key(row[column]):
            yield number, renderer.key_of(row, number)


def _find_repeated(table: Table, renderer: Renderer, suspects: set[int], problems: RowProblems) -> None:
    """Check the keys whose hashes occur twice; they fit in a dictionary, unless the column is not a key."""
    seen: dict[str, int] = {}
    first = 1
    for batch in table.batches():
        for number, key in _keys(batch, renderer, first):
            if hash(key) in suspects and seen.setdefault(key, number) != number:
                problems.add(number, renderer.recipe.key or "", f"the key {key!r} is that of row {seen[key]:,} already")
        first += batch.num_rows
        if problems.count >= SHOWN_PROBLEMS:
            return


def without_body_prefix(reason: str) -> str:
    """Return a preflight reason without the prefix ``body.``, as the user's parameters are named."""
    return reason.replace("body.", "")


def _check_parameters(lines: list[bytes]) -> None:
    """Check the requests of the first row as the split checks all, so that a refusal names the parameters."""
    reasons: dict[str, None] = {}
    for line in lines:
        for reason in preflight.inspect(jsonl.loads(line), len(line) - 1).reasons:
            reasons[without_body_prefix(reason)] = None
    if reasons:
        raise UsageError(f"Groq would refuse the requests: {'; '.join(reasons)}", hint="nothing was sent")


@contextmanager
def _naming_rows(table: Table, recipe: Recipe) -> Iterator[None]:
    """Report problems of rendered lines as problems of their rows."""
    try:
        yield
    except InputInvalid as invalid:
        problems: list[InputProblem] = [
            BadRow(table.name, (problem.line - 1) // recipe.requests_per_row + 1, without_body_prefix(problem.reason))
            for problem in invalid.problems
        ]
        raise InputInvalid(problems, invalid.count) from None
