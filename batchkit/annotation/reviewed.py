"""What people decided about rows of an annotated table (``--reviewed``): kept apart from the models' answers, and used in the output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchkit.annotation.columns import value_columns
from batchkit.annotation.ids import RequestIds
from batchkit.annotation.labelled import LabelledRows, WrongLabel
from batchkit.annotation.output_columns import OutputColumns
from batchkit.annotation.workload_from_table import request_ids, snapshot_path
from batchkit.datasets import Snapshot, rows_of
from batchkit.datasets.values import text_of
from batchkit.errors import UsageError
from batchkit.files import jsonl
from batchkit.store import reviews

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from batchkit.annotation.recipe import Recipe
    from batchkit.datasets import Table
    from batchkit.engine.runtime import Runner
    from batchkit.models import Workload

_ID = "custom_id"
_SHOWN = 5
_AT_ONCE = 1_000


def read_decisions(recipe: Recipe, table: Table, source: pa.Schema) -> dict[str, dict[str, Any]]:
    """Return what the rows of ``table`` decide, by the rows' keys; each decision has values by columns of the answer.

    ``table`` has the column of the keys, else ``custom_id``, and the answer's columns as in the output of a table with the schema
    ``source``, so that a file of ``--review`` can be corrected and given back. Rows without an answer decide nothing. Raises
    ``UsageError`` for a missing column, a key that occurs twice with different answers, and an answer that breaks the rules.
    """
    columns = value_columns(recipe)
    output = OutputColumns(recipe, source)
    rows = LabelledRows(recipe, table, output.names, option="--reviewed")
    key_column = recipe.key or _ID
    if key_column not in table.columns:
        raise UsageError(
            f"--reviewed: {table.name} has no column {key_column!r}, which names the rows",
            hint=f"its columns are: {', '.join(table.columns)}",
        )
    ids = RequestIds(recipe)
    decisions: dict[str, dict[str, Any]] = {}
    number = 0
    for batch in table.batches():
        for row in rows_of(batch.select(sorted({key_column, *rows.columns}))):
            number += 1
            try:
                value = rows.value(row)
            except WrongLabel as wrong:
                raise UsageError(f"--reviewed: {table.name}, row {number:,}: {wrong}") from None
            if value is None:
                continue
            key = ids.key_of(row, number) if recipe.key is not None else text_of(row[_ID]).partition(":")[0]
            decision = dict(columns.spread(value))
            if decisions.setdefault(key, decision) != decision:
                raise UsageError(f"--reviewed: {table.name}, row {number:,}: the row {key!r} is decided twice")
    return decisions


def store_decisions(
    runner: Runner, workload: Workload, recipe: Recipe, decisions: dict[str, dict[str, Any]], *, reviewer: str
) -> int:
    """Store decisions about a workload's rows, in place of earlier ones; returns how many.

    Raises ``UsageError`` for keys that no row has; then nothing is stored.
    """
    path = snapshot_path(runner, workload)
    found = [
        reviews.Decision(number, jsonl.dumps(decisions[key]).decode())
        for number, key in _keys(recipe, request_ids(recipe, path), Snapshot.open(path))
        if key in decisions
    ]
    if len(found) < len(decisions):
        known = {key for _, key in _keys(recipe, request_ids(recipe, path), Snapshot.open(path)) if key in decisions}
        unknown = [repr(key) for key in decisions if key not in known]
        raise UsageError(
            f"--reviewed: {len(unknown):,} keys belong to no row: {', '.join(unknown[:_SHOWN])}",
            hint="the file belongs to another table, or --key is another column",
        )
    with runner.store.write() as connection:
        return reviews.put(connection, workload.id, found, at=runner.clock(), reviewer=reviewer)


class DecidedRows:
    """The decisions about a workload's rows, for a reader that takes the rows in order."""

    def __init__(self, runner: Runner, workload: Workload) -> None:
        with runner.store.read() as connection:
            self.count = reviews.count_decided(connection, workload.id)
        self._store = runner.store
        self._workload_id = workload.id
        self._number = 0

    def following(self, rows: int) -> Sequence[dict[str, Any] | None]:
        """Return the decisions about the next ``rows`` rows, None where there is none."""
        first = self._number + 1
        self._number += rows
        if not self.count:
            return [None] * rows
        with self._store.read() as connection:
            found = reviews.decided(connection, self._workload_id, after=first - 1, limit=rows)
        known = {decision.number: jsonl.loads(decision.decision) for decision in found}
        return [known.get(number) for number in range(first, first + rows)]


class Decisions:
    """The decisions about a workload's rows, for a reader that asks for the numbers of its rows in ascending order."""

    def __init__(self, runner: Runner, workload: Workload) -> None:
        self._store = runner.store
        self._workload_id = workload.id
        self._found = self._read()
        self._next = next(self._found, None)

    def at(self, number: int) -> dict[str, Any] | None:
        """Return what people decided about the row of this number; None if they did not."""
        while self._next is not None and self._next.number < number:
            self._next = next(self._found, None)
        if self._next is None or self._next.number != number:
            return None
        decision = jsonl.loads(self._next.decision)
        return decision if isinstance(decision, dict) else None

    def _read(self) -> Iterator[reviews.Decision]:
        after = 0
        while True:
            with self._store.read() as connection:
                found = reviews.decided(connection, self._workload_id, after=after, limit=_AT_ONCE)
            if not found:
                return
            yield from found
            after = found[-1].number


def _keys(recipe: Recipe, ids: RequestIds, table: Table) -> Iterator[tuple[int, str]]:
    number = 0
    for batch in table.batches():
        if recipe.key is None:
            for _ in range(len(batch)):
                number += 1
                yield number, ids.key_of(None, number)
            continue
        for row in rows_of(batch.select([recipe.key])):
            number += 1
            yield number, ids.key_of(row, number)
