"""From a table and a recipe to a workload: rows are rendered, checked, and split like any other input."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from batchkit import preflight
from batchkit.annotation.recipe import load_recipe
from batchkit.annotation.render import BadRow, Renderer, RowProblem
from batchkit.errors import InputInvalid, Problem, UsageError, WorkloadConflict
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

#: The table as it was when the requests were made, in the folder of its workload.
SNAPSHOT = "table.parquet"
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
    """Make sure that the workload of a table and a recipe exists and is split whole; the same again is a no-op.

    ``name`` is by default the table's with a digest of recipe and content. ``folder`` is where relative paths of images begin.
    ``advance`` is told how many more rows were rendered, ``checked`` how many requests were checked, ``waiting`` is called while
    another runner is splitting. Killed at any moment it leaves nothing half done. Raises ``WorkloadConflict`` when the name
    belongs to something else, ``InputInvalid`` with all rows that no request can be made of, ``UsageError`` for the recipe;
    nothing is sent.
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
    """Note in a recipe which table it is for, unless it says so already."""
    if recipe.table_digest:
        return recipe
    return recipe.model_copy(update={"table": recipe.table or table.name, "table_digest": table.digest()})


def default_name(table: Table, recipe: Recipe) -> str:
    """Name a workload by its content: whatever would change a request changes the name."""
    stem = _UNREADABLE_IN_NAMES.sub("-", sources.name_of(Path(table.name))).strip("-.")[:80] or "table"
    return f"{stem}-{recipe.digest()[:_DIGEST_CHARS]}"


def snapshot_path(runner: Runner, workload: Workload) -> Path:
    """Find the table that a workload was made of, as Parquet. Raises ``SpoolError`` when it is lost."""
    return runner.kept_file(workload, SNAPSHOT)


def folder_of(words: Sequence[str]) -> Path:
    """Find the folder that relative paths in a table's cells begin at: the table's own. ``words`` name the table."""
    if "://" in words[0]:
        return Path()
    path = Path(words[0])
    while _PATTERN_SIGNS.intersection(path.name):
        path = path.parent
    return path if path.is_dir() else path.parent


def check_outputs(
    recipe: Recipe, *, output: str | Path | None, review: str | Path | None, words: Sequence[str] = ()
) -> None:
    """Raise ``UsageError`` for what could not be written in the end, or would overwrite the table that ``words`` name.

    ``output`` is where the table goes, ``review`` where its disputed rows go; None: nowhere. Nothing is created.
    """
    for target in (output, review):
        if target is not None:
            _check_target(target, words)
    if output is not None and review is not None and _are_same(output, review):
        raise UsageError(f"the table and its disputed rows would both be written to {output}", hint="name two outputs")
    if review is not None and recipe.requests_per_row == 1:
        raise UsageError(
            "there is nothing to review: one annotator cannot disagree", hint="ask several models, or --samples 3"
        )


def check_tables(connection: Connection, *, output: str | Path | None, review: str | Path | None) -> None:
    """Raise ``UsageError`` when a target ``table:NAME`` has the name of a table of somebody else; nothing is created."""
    from batchkit.store.outputs import check_table  # noqa: PLC0415 - an extra, which no other verb needs

    for name in tables_among(output, review):
        check_table(connection, name)


def tables_among(*targets: str | Path | None) -> list[str]:
    """List NAME of each target that is a ``table:NAME``. Raises ``UsageError`` for one that no database takes."""
    from batchkit.datasets import table_name_of  # noqa: PLC0415 - as above

    names = [table_name_of(target) for target in targets if target is not None]
    return [name for name in names if name is not None]


def _check_target(target: str | Path, words: Sequence[str]) -> None:
    from batchkit.datasets import check_target, is_among, table_name_of  # noqa: PLC0415 - as above

    if table_name_of(target) is not None:
        return
    path = Path(target)
    outputs.check_file(path)
    check_target(path)
    if is_among(path, words):
        raise outputs.overwrites_input(path)


def _are_same(one: str | Path, other: str | Path) -> bool:
    tables = tables_among(one, other)
    if not tables:
        return outputs.are_same(Path(one), Path(other))
    return len(tables) == 2 and tables[0].lower() == tables[1].lower()  # noqa: PLR2004 - both


class Problems:
    """The rows that no request can be made of: the first ones, and how many there are."""

    def __init__(self, source: str) -> None:
        self._source = source
        self.first: list[Problem] = []
        self.count = 0

    def add(self, number: int, column: str, why: str) -> None:
        """Note a problem."""
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
    table: Table, renderer: Renderer, problems: Problems
) -> Iterator[tuple[pa.RecordBatch, list[list[bytes]]]]:
    """Give each batch of a table with the requests of its rows; a row with a problem has none.

    Raises ``UsageError`` when the first requests show that Groq would refuse them all.
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
        raise UsageError(f"{table.name} has no rows", hint="there is nothing to ask")


def _existing(runner: Runner, name: str, recipe: Recipe) -> Workload | None:
    workload = runner.known(name)
    if workload is None:
        return None
    if workload.recipe is None:
        raise WorkloadConflict(
            f"the workload {name!r} was made of requests ({workload.source}), not of a table",
            hint="choose another --name",
        )
    before, now = load_recipe(workload.recipe).essence(), recipe.essence()
    if before != now:
        differing = [field for field in type(recipe).model_fields if getattr(before, field) != getattr(now, field)]
        raise WorkloadConflict(
            f"the workload {name!r} was made of another recipe: {_listed(differing)} differ; its answers are to other questions",
            hint="choose another --name, or `batchkit clean` the old workload first",
        )
    return workload


def _listed(fields: list[str]) -> str:
    return ", ".join({"table_digest": "the table's content"}.get(field, field) for field in fields)


def _render(table: Table, renderer: Renderer, requests: Path, snapshot: Path, advance: Callable[[int], None]) -> None:
    """Write the requests and the snapshot of a table. Raises ``InputInvalid``."""
    from batchkit.datasets import Snapshot  # noqa: PLC0415 - as above

    problems = Problems(table.name)
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
    column = renderer.recipe.key or ""
    for number, value in enumerate(batch.column(column).to_pylist(), first):
        if value not in (None, ""):
            yield number, renderer.key_of({column: value}, number)


def _find_repeated(table: Table, renderer: Renderer, suspects: set[int], problems: Problems) -> None:
    """Look again at the keys whose hashes came twice; few enough for a dictionary, unless the column is no key at all."""
    seen: dict[str, int] = {}
    first = 1
    for batch in table.batches():
        for number, key in _keys(batch, renderer, first):
            if hash(key) in suspects and seen.setdefault(key, number) != number:
                problems.add(number, renderer.recipe.key or "", f"the key {key!r} is that of row {seen[key]:,} already")
        first += batch.num_rows
        if problems.count >= SHOWN_PROBLEMS:
            return


def in_users_words(reason: str) -> str:
    """Say what the preflight found in a line as it is about the parameters that made the line."""
    return reason.replace("body.", "")


def _check_parameters(lines: list[bytes]) -> None:
    """Look at the requests of one row as the split looks at all, so that a refusal speaks of the parameters."""
    reasons: dict[str, None] = {}
    for line in lines:
        for reason in preflight.inspect(jsonl.loads(line), len(line) - 1).reasons:
            reasons[in_users_words(reason)] = None
    if reasons:
        raise UsageError(f"Groq would refuse the requests: {'; '.join(reasons)}", hint="nothing was sent")


@contextmanager
def _naming_rows(table: Table, recipe: Recipe) -> Iterator[None]:
    """Report problems of rendered lines as those of their rows."""
    try:
        yield
    except InputInvalid as invalid:
        problems: list[Problem] = [
            BadRow(table.name, (problem.line - 1) // recipe.requests_per_row + 1, in_users_words(problem.reason))
            for problem in invalid.problems
        ]
        raise InputInvalid(problems, invalid.count) from None
