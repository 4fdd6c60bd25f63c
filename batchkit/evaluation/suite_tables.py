"""The tables of a suite: its rows, those of several datasets as one table, without the rows that serve as examples."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from batchkit.annotation.examples import with_examples
from batchkit.annotation.template import Template, Unrendered
from batchkit.datasets import open_table, rows_of
from batchkit.datasets.metadata import with_columns
from batchkit.datasets.rows import bring_to, is_json, plain_type
from batchkit.datasets.table import Table, check_same_columns
from batchkit.datasets.values import text_of
from batchkit.errors import UsageError
from batchkit.evaluation.sampling import chosen_rows
from batchkit.evaluation.suite_dataset import DATASET, DATASET_CLUSTER, DATASET_KEY, parts_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batchkit.annotation.recipe import Recipe
    from batchkit.evaluation.suite import Suite
    from batchkit.evaluation.suite_dataset import NamedDataset


class AskedRows(NamedTuple):
    """The rows that a suite asks about, and the recipe of their requests; ``examples`` are the rows that are left out, if there are examples."""

    table: Table
    recipe: Recipe
    examples: WithoutExamples | None = None


def asked_rows(suite: Suite) -> AskedRows:
    """Return what a suite asks; the recipe lacks the digest of the table. Raises ``UsageError`` and ``InputUnreadable``."""
    table = open_dataset(suite)
    recipe = suite.recipe(table=table.name, table_digest="")
    without = None
    if suite.examples is not None:
        recipe = _recipe_with_examples(suite, recipe)
        without = WithoutExamples(table, recipe)
    chosen = chosen_rows(without or table, suite)
    return AskedRows(chosen, recipe, without)


def open_dataset(suite: Suite) -> Table:
    """Open the tables that a suite names, as one. Raises ``UsageError`` and ``InputUnreadable``."""
    dataset = suite.dataset
    opened = [
        open_table(rows.parts(suite.folder), query=rows.query, separator=rows.separator) for rows in dataset.tables
    ]
    return CombinedTable(dataset.datasets, opened) if dataset.datasets else opened[0]


class CombinedTable(Table):
    """The rows of several datasets, one after the other, with the name of their dataset in a column of its own.

    They have the same columns, in any order, of the same types. Keys and clusters get the name of the dataset and a dot before them.
    """

    def __init__(self, datasets: Sequence[NamedDataset], tables: Sequence[Table]) -> None:
        super().__init__(" + ".join(dataset.name for dataset in datasets))
        self._datasets, self._tables = tuple(datasets), tuple(tables)
        self._added = [DATASET]
        if all(dataset.key is not None for dataset in datasets):
            self._added.append(DATASET_KEY)
        if all(dataset.cluster is not None for dataset in datasets):
            self._added.append(DATASET_CLUSTER)

    def _find_schema(self) -> pa.Schema:
        names = [_shown(dataset) for dataset in self._datasets]
        schemas = [table.schema for table in self._tables]
        first = schemas[0]
        for name, schema in zip(names, schemas, strict=True):
            check_same_columns(first.names, schema.names, names[0], name)
        taken = [column for column in self._added if column in first.names]
        if taken:
            raise UsageError(
                f"{names[0]} has a column {taken[0]!r}, which several datasets get from batchkit", hint="rename it"
            )
        fields = [_common([schema.field(name) for schema in schemas], names) for name in first.names]
        added = [pa.field(name, pa.string()) for name in self._added]
        return pa.schema([*fields, *added], with_columns(first.metadata, added))

    def _read(self, rows: int) -> Iterator[pa.RecordBatch]:
        own = pa.schema([field for field in self.schema if field.name not in self._added])
        for dataset, table in zip(self._datasets, self._tables, strict=True):
            self._check_columns(dataset, table)
            for batch in table.batches(rows=rows):
                arrays = bring_to(batch, own).columns + [
                    pa.array(self._values(dataset, name, batch), pa.string()) for name in self._added
                ]
                yield pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _check_columns(self, dataset: NamedDataset, table: Table) -> None:
        for column in (dataset.key, dataset.cluster):
            if column is not None and column not in table.columns:
                raise UsageError(
                    f"{_shown(dataset)} has no column {column!r}", hint=f"it has: {', '.join(table.columns)}"
                )

    def _values(self, dataset: NamedDataset, name: str, batch: pa.RecordBatch) -> list[str | None]:
        column = {DATASET_KEY: dataset.key, DATASET_CLUSTER: dataset.cluster}.get(name)
        if column is None:
            return [dataset.name] * len(batch)
        texts = [text_of(row[column]) for row in rows_of(batch.select([column]))]
        # A cell without a key stays without one, so that it is found.
        return [f"{dataset.name}.{text}" if text.strip() else None for text in texts]

    def _content_digest(self) -> str:
        parts = [
            f"{dataset.name}:{table.digest()}" for dataset, table in zip(self._datasets, self._tables, strict=True)
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class WithoutExamples(Table):
    """The rows of a table whose question is not that of an example: an example would tell the answer.

    ``left_out`` counts the others among the rows that have been read last, also by ``head``.
    """

    def __init__(self, table: Table, recipe: Recipe) -> None:
        super().__init__(table.name)
        self._table = table
        self._questions = frozenset(example.user for example in recipe.examples)
        self._prompt = Template(recipe.prompts[0].user, table.columns, title="prompt")
        # A copy with fewer rows counts in the same place.
        self._counts: Counter[bool] = Counter()

    @property
    def left_out(self) -> int:
        """The number of rows that are left out."""
        return self._counts[False]

    def _find_schema(self) -> pa.Schema:
        return self._table.schema

    def _read(self, rows: int) -> Iterator[pa.RecordBatch]:
        columns = sorted(self._prompt.columns)
        self._counts.clear()
        for batch in self._table.batches(rows=rows):
            is_asked = [self._is_asked(row) for row in rows_of(batch.select(columns))]
            self._counts.update(is_asked)
            yield batch.filter(pa.array(is_asked, pa.bool_()))
        if self._counts[False] and not self._counts[True]:
            raise UsageError(
                f"every row of {self.name} serves as an example, so none is left to ask about",
                hint="take fewer examples, or those of another table",
            )

    def _is_asked(self, row: dict[str, object]) -> bool:
        try:
            return self._prompt.render(row) not in self._questions
        except Unrendered:
            return True  # it is reported with the other rows that have no request

    def _content_digest(self) -> str:
        questions = "".join(hashlib.sha256(text.encode()).hexdigest() for text in sorted(self._questions))
        return hashlib.sha256(f"{self._table.digest()}:without:{questions}".encode()).hexdigest()


class _Listed(Table):
    """The rows of examples in a suite."""

    def __init__(self, rows: Sequence[dict[str, object]]) -> None:
        super().__init__("the suite's examples")
        names = list(dict.fromkeys(name for row in rows for name in row))
        try:
            self._rows = pa.Table.from_pydict({name: [row.get(name) for row in rows] for name in names})
        except (pa.ArrowException, OverflowError) as error:
            raise UsageError(f"examples: {error}", hint="write the values of a column in one way") from None

    def _find_schema(self) -> pa.Schema:
        return self._rows.schema

    def _read(self, rows: int) -> Iterator[pa.RecordBatch]:
        yield from self._rows.to_batches(max_chunksize=rows)

    def _content_digest(self) -> str:
        return ""  # its content is in the suite


def _recipe_with_examples(suite: Suite, recipe: Recipe) -> Recipe:
    examples = suite.examples
    if examples is None:
        return recipe
    if examples.rows:
        table: Table = _Listed(examples.rows)
    else:
        table = open_table(parts_of(examples.path, suite.folder), separator=examples.separator)
    columns = dict(examples.columns)
    if suite.expected in table.columns:
        columns.setdefault("answer", suite.expected)
    shown = with_examples(
        recipe,
        table,
        count=examples.shown,
        seed=examples.examples_seed,
        nearest=examples.nearest,
        columns=columns,
        option="examples",
        renaming="`columns: {answer: COLUMN}` names another",
    )
    if examples.nearest:
        return shown
    # There is one more, for rows that ask what an example asks; here these rows are not asked.
    return shown.model_copy(update={"examples": shown.examples[: examples.shown]})


def _shown(dataset: NamedDataset) -> Path:
    """Return the name of a dataset in messages: its file's; an address may hold a password."""
    return Path(dataset.path[0] if "://" not in dataset.path[0] else dataset.name)


def _common(fields: Sequence[pa.Field], names: Sequence[Path]) -> pa.Field:
    """Return the column that holds the values of all. Raises ``UsageError`` for columns of different types."""
    given = [(field, name) for field, name in zip(fields, names, strict=True) if not pa.types.is_null(field.type)]
    if not given:
        return fields[0]
    first, first_name = given[0]
    for field, name in given:
        if plain_type(field.type) != plain_type(first.type) or is_json(field) != is_json(first):
            raise UsageError(
                f"the column {field.name!r} of {name} has another type than that of {first_name}: {_kind(field)}, not"
                f" {_kind(first)}",
                hint="write the column in one way in all datasets",
            )
    has_one_type = all(field.type == first.type for field, _ in given)
    return first.with_type(first.type if has_one_type else plain_type(first.type)).with_nullable(True)


def _kind(field: pa.Field) -> str:
    return "several kinds of JSON" if is_json(field) else str(field.type)
