"""A question about the rows of a table: what is asked, of which rows, and where the answers go. Needs the extra ``annotate``."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchkit.models import LaneChoice, ReuseMode
from batchkit.steps.split import SplitOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from batchkit.annotation.recipe import Recipe
    from batchkit.annotation.weighing import Weights
    from batchkit.datasets import Table
    from batchkit.engine.runtime import Runner
    from batchkit.settings import Settings


@dataclass(frozen=True, slots=True)
class ExampleSource:
    """A table of labelled rows, of which ``count`` stand before each question: drawn by ``seed``, or the nearest to the row."""

    table: str
    count: int = 5
    seed: int = 0
    is_nearest: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TableQuestion:
    """A ``recipe`` and the table whose rows it asks, and where that goes with its answers.

    ``parts`` are files or addresses, with ``query`` where they are one database URL and ``separator`` where they are CSV files; or ``answers_of`` names the finished workload
    whose answers are the rows. ``output`` gets the table, ``review`` its disputed rows, and ``only`` is a filter of the rows that are
    written. ``largest_recording`` is the size in bytes of the largest file that the table names. ``gold`` names columns with labels of people, ``weights`` decides how much the vote of each annotator counts. With ``has_default_output`` a table for which no ``output`` is given goes to ``NAME.annotated.parquet``.
    """

    recipe: Recipe
    parts: Sequence[str] = ()
    query: str | None = None
    separator: str | None = None
    answers_of: str | None = None
    name: str | None = None
    output: str | None = None
    has_default_output: bool = False
    review: str | None = None
    gold: tuple[str, ...] = ()
    weights: Weights | None = None
    reviewed: str | None = None
    examples: ExampleSource | None = None
    raw_csv: bool = False
    only: str | None = None
    options: SplitOptions | None = None
    largest_recording: int = 0

    @property
    def split_options(self) -> SplitOptions:
        """The options of the split: questions about tables reuse answers unless the user says otherwise."""
        given = self.options or SplitOptions()
        if self.needs_single_calls and given.lane is not LaneChoice.BATCH:
            # An open lane is the one that takes them, whatever the number of the requests.
            given = replace(given, lane=given.lane or LaneChoice.SYNC, small=sys.maxsize)
        return replace(given, default_reuse=ReuseMode.ON)

    @property
    def needs_single_calls(self) -> bool:
        """Whether its requests are none that batches take: speech, and recordings that are files of this machine."""
        return self.recipe.speech is not None or bool(self.recipe.audio_digest)

    @property
    def folder(self) -> Path | None:
        """Where relative paths of images begin."""
        from batchkit.annotation.workload_from_table import folder_of  # noqa: PLC0415 - an extra

        return folder_of(self.parts) if self.parts else None

    def check_outputs(self, output: str | None) -> None:
        """Raise ``UsageError`` when ``output`` or ``review`` could not be written in the end, or is the table."""
        from batchkit.annotation import workload_from_table  # noqa: PLC0415 - an extra

        workload_from_table.check_outputs(self.recipe, output=output, review=self.review, parts=self.parts)

    def decisions(self, table: Table) -> dict[str, dict[str, Any]]:
        """Read what people decided about rows of the table. Raises as ``annotation.reviewed.read_decisions``."""
        if self.reviewed is None:
            return {}
        from batchkit.annotation.reviewed import read_decisions  # noqa: PLC0415 - an extra
        from batchkit.datasets import open_table  # noqa: PLC0415 - as above

        return read_decisions(self.recipe, open_table([self.reviewed]), table.schema)

    def with_examples(self) -> TableQuestion:
        """Return the question whose recipe has its examples. Raises as ``annotation.examples.with_examples``."""
        source = self.examples
        if source is None:
            return self
        from batchkit.annotation.columns import value_columns  # noqa: PLC0415 - an extra
        from batchkit.annotation.examples import with_examples  # noqa: PLC0415 - as above
        from batchkit.annotation.people import gold_columns  # noqa: PLC0415 - as above
        from batchkit.annotation.voting import Voting  # noqa: PLC0415 - as above
        from batchkit.datasets import open_table  # noqa: PLC0415 - as above

        table = open_table([source.table])
        named = [text for text in self.gold if text.rpartition("=")[2] in table.columns]
        columns = gold_columns(named, Voting(self.recipe, value_columns(self.recipe)), table.columns)
        recipe = with_examples(
            self.recipe, table, count=source.count, seed=source.seed, nearest=source.is_nearest, columns=columns
        )
        return replace(self, recipe=recipe, examples=None)

    def with_output(self, table: Table) -> TableQuestion:
        """Return the question with its output; the name of a default one may depend on the table's content. Raises ``UsageError``."""
        from batchkit.annotation import workload_from_table  # noqa: PLC0415 - an extra

        if self.output is not None or not self.has_default_output:
            return self
        recipe = workload_from_table.with_table(self.recipe, table)
        named = replace(self, recipe=recipe, name=self.name or workload_from_table.default_name(table, recipe))
        return replace(named.with_name_output(), name=self.name)

    def with_name_output(self) -> TableQuestion:
        """Return the question, which has a name, with its output. Raises ``UsageError``."""
        if self.output is not None or not self.has_default_output:
            return self
        output = f"{self.name}.annotated.parquet"
        if self.recipe.speech is not None:
            from batchkit.annotation.spoken import table_in  # noqa: PLC0415 - an extra

            output = table_in(f"{self.name}.speech")
        self.check_outputs(output)
        return replace(self, output=output)

    def check_table(self, table: Table, *, is_postgres: bool, provider: str) -> None:
        """Raise ``UsageError`` for gold columns that the table does not have, and for weights that do not fit.

        The same for a target ``table:NAME`` that cannot have the columns of the table with its answers.
        """
        from batchkit.annotation import workload_from_table  # noqa: PLC0415 - an extra
        from batchkit.annotation.weighing import check_people  # noqa: PLC0415 - as above

        check_people(self.recipe, table.columns, gold=self.gold, weights=self.weights)
        workload_from_table.check_table_columns(
            self.recipe, table, output=self.output, review=self.review, is_postgres=is_postgres, provider=provider
        )

    @contextmanager
    def opened(
        self, runner: Callable[[], AbstractContextManager[Runner]], scratch: Callable[[], AbstractContextManager[Path]]
    ) -> Iterator[tuple[TableQuestion, Table]]:
        """Open the table, until the ``with`` block ends; yields the question, too, with the digest of a query's rows.

        ``runner`` opens the database for a table that is made of answers, ``scratch`` a folder for the rows of a query: they are
        copied, because a second pass could give others.
        """
        from batchkit.annotation.answers_table import answers_as_table  # noqa: PLC0415 - an extra
        from batchkit.annotation.query_rows import copied  # noqa: PLC0415 - as above
        from batchkit.datasets.sql import SqlTable  # noqa: PLC0415 - as above

        if self.answers_of is not None:
            with runner() as opened, answers_as_table(opened, self.answers_of) as table:
                yield self, table
            return
        table = self._open()
        if not isinstance(table, SqlTable):
            paths = tuple(os.path.abspath(part) for part in self.parts)  # noqa: PTH100 - keeps links
            named = replace(self, recipe=self.recipe.model_copy(update={"paths": paths}))
            yield named.with_recordings(table), table
            return
        with scratch() as folder:
            kept, recipe = copied(table, self.recipe, folder)
            yield replace(self, recipe=recipe).with_recordings(kept), kept

    def with_recordings(self, table: Table) -> TableQuestion:
        """Return the question with the digest of the recordings that its table names as files."""
        audio = self.recipe.audio
        if audio is None or audio.column not in table.columns:
            return self
        from batchkit.annotation.image_files import ImageFolder  # noqa: PLC0415 - an extra
        from batchkit.annotation.recording_files import scan  # noqa: PLC0415 - as above
        from batchkit.datasets import rows_of  # noqa: PLC0415 - as above

        taken = table if self.recipe.limit is None else table.head(self.recipe.limit)
        cells = (row[audio.column] for batch in taken.batches() for row in rows_of(batch.select([audio.column])))
        files = ImageFolder(self.folder or Path(), allow_outside=self.recipe.allow_paths)
        digest, largest = scan(cells, files)
        recipe = self.recipe.model_copy(update={"audio_digest": digest})
        return replace(self, recipe=recipe, largest_recording=largest)

    def notes(self, settings: Settings) -> list[str]:
        """Return what the user should know of the lane and the files of the requests, as sentences."""
        told = []
        if self.recipe.audio_digest and (self.options is None or self.options.lane is None):
            told.append(
                "the recordings are files of this machine, which batches do not carry: they are sent one by one, as with --lane "
                "sync, at the ordinary price"
            )
        uploads = settings.dialect.models.uploads
        if uploads.free_bytes < self.largest_recording <= uploads.max_bytes:
            told.append(
                f"the largest recording has {self.largest_recording:,} bytes; a free plan takes {uploads.free_bytes:,} ({uploads.page})"
            )
        return told

    def of_query(self) -> Recipe:
        """Return the recipe with the digest of the question's query. Raises ``UsageError``."""
        from batchkit.datasets.sql import SqlTable  # noqa: PLC0415 - an extra

        table = self._open()
        digest = table.query_digest() if isinstance(table, SqlTable) else ""
        return self.recipe.model_copy(update={"query_digest": digest})

    def _open(self) -> Table:
        from batchkit.datasets import open_table  # noqa: PLC0415 - an extra

        return open_table(self.parts, query=self.query, separator=self.separator)
