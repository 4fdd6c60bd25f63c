"""Asking questions about the rows of a table: annotate, transcribe, moderate. Needs the extra ``annotate``."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from batchkit.api import existing
from batchkit.api.listed_models import model_check
from batchkit.api.modes import RunMode
from batchkit.api.opening import drive_from, note_once, open_runner, parts_of
from batchkit.api.outcomes import RunReport
from batchkit.api.remembered import output_here, remember, write_earlier_output, write_remembered_output
from batchkit.datasets import require_extra
from batchkit.engine.observer import DO_NOTHING, Observer, counting
from batchkit.engine.waves import DriveUntil
from batchkit.errors import StoreError
from batchkit.settings import load_settings
from batchkit.store.engine import parse_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sqlalchemy.engine import Connection

    from batchkit.annotation.preview import Preview
    from batchkit.annotation.recipe import Recipe
    from batchkit.api.opening import Source
    from batchkit.datasets import Table
    from batchkit.engine.progress import Progress
    from batchkit.engine.runtime import Runner
    from batchkit.models import Workload
    from batchkit.settings import Settings
    from batchkit.steps.split import SplitOptions

T = TypeVar("T")


def annotate(
    table: Source | Sequence[Source],
    prompt: str,
    *,
    models: str | Sequence[str],
    query: str | None = None,
    separator: str | None = None,
    name: str | None = None,
    output: Source | None = None,
    review: Source | None = None,
    raw_csv: bool = False,
    options: SplitOptions | None = None,
    settings: Settings | None = None,
    timeout_seconds: float | None = None,
    observer: Observer = DO_NOTHING,
    **recipe: Any,
) -> Progress:
    """Ask every row of a table; needs the extra ``annotate``. The same call again resumes.

    ``recipe`` is as for ``batchkit.annotation.presets.annotation``: ``schema`` (also a pydantic model), ``choices``, ``samples``, ...
    ``output`` gets the table with the answers, ``review`` the rows whose annotators disagree; both may be ``table:NAME``. Without
    ``output`` the table goes where an earlier call or command named an output, if one did. ``query``
    belongs to a table that is a database URL, ``separator`` to CSV files. Returns the last snapshot: unfinished when ``timeout_seconds`` ran out. Raises
    ``BatchkitError``; ``InputInvalid`` with all bad rows, and ``UsageError`` for outputs that cannot be written or are inputs, before anything
    is sent.
    """
    require_extra()
    from batchkit.annotation import presets  # noqa: PLC0415 - an extra

    asked = presets.annotation(prompt, models=[models] if isinstance(models, str) else models, **recipe)
    question = TableQuestion(
        recipe=asked,
        parts=parts_of(table),
        query=query,
        separator=separator,
        name=name,
        output=_text(output),
        review=_text(review),
        raw_csv=raw_csv,
        options=options,
    )
    return _ask(question, settings, timeout_seconds, observer)


def transcribe(
    table: Source | Sequence[Source],
    audio: str,
    *,
    query: str | None = None,
    separator: str | None = None,
    name: str | None = None,
    output: Source | None = None,
    raw_csv: bool = False,
    options: SplitOptions | None = None,
    settings: Settings | None = None,
    timeout_seconds: float | None = None,
    observer: Observer = DO_NOTHING,
    **recipe: Any,
) -> Progress:
    """Transcribe the audio whose addresses are in the column ``audio``; else as ``annotate``.

    ``recipe`` is as for ``batchkit.annotation.presets.transcription``: ``model``, ``translate``, ``language``, ...
    """
    require_extra()
    from batchkit.annotation import presets  # noqa: PLC0415 - an extra

    asked = presets.transcription(audio, **recipe)
    question = TableQuestion(
        recipe=asked,
        parts=parts_of(table),
        query=query,
        separator=separator,
        name=name,
        output=_text(output),
        raw_csv=raw_csv,
        options=options,
    )
    return _ask(question, settings, timeout_seconds, observer)


def moderate(
    table: Source | Sequence[Source],
    text: str,
    *,
    query: str | None = None,
    separator: str | None = None,
    name: str | None = None,
    output: Source | None = None,
    only: Literal["safe", "unsafe"] | None = None,
    raw_csv: bool = False,
    options: SplitOptions | None = None,
    settings: Settings | None = None,
    timeout_seconds: float | None = None,
    observer: Observer = DO_NOTHING,
    **recipe: Any,
) -> Progress:
    """Have a guard model check the texts in the column ``text``; else as ``annotate``. ``only`` leaves out the other rows.

    ``recipe`` is as for ``batchkit.annotation.presets.moderation``: ``model``, ``is_answer``, ``prompt_column``, ...
    """
    require_extra()
    from batchkit.annotation import presets  # noqa: PLC0415 - an extra

    asked = presets.moderation(text, **recipe)
    question = TableQuestion(
        recipe=asked,
        parts=parts_of(table),
        query=query,
        separator=separator,
        name=name,
        output=_text(output),
        raw_csv=raw_csv,
        only=only,
        options=options,
    )
    return _ask(question, settings, timeout_seconds, observer)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableQuestion:
    """A ``recipe`` and the table whose rows it asks, and where that goes with its answers.

    ``parts`` are files or addresses, with ``query`` where they are one database URL and ``separator`` where they are CSV files; or ``answers_of`` names the finished workload
    whose answers are the rows. ``output`` gets the table, ``review`` its disputed rows, and ``only`` is a filter of the rows that are
    written. With ``has_default_output`` a table for which no ``output`` is given goes to ``NAME.annotated.parquet``.
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
    raw_csv: bool = False
    only: str | None = None
    options: SplitOptions | None = None

    @property
    def folder(self) -> Path | None:
        """Where relative paths of images begin."""
        from batchkit.annotation.workload_from_table import folder_of  # noqa: PLC0415 - an extra

        return folder_of(self.parts) if self.parts else None

    def check_outputs(self, output: str | None) -> None:
        """Raise ``UsageError`` when ``output`` or ``review`` could not be written in the end, or is the table."""
        from batchkit.annotation import workload_from_table  # noqa: PLC0415 - an extra

        workload_from_table.check_outputs(self.recipe, output=output, review=self.review, parts=self.parts)

    def with_output(self, table: Table) -> TableQuestion:
        """Return the question with its output; the name of a default one may depend on the table's content. Raises ``UsageError``."""
        from batchkit.annotation import workload_from_table  # noqa: PLC0415 - an extra

        if self.output is not None or not self.has_default_output:
            return self
        recipe = workload_from_table.with_table(self.recipe, table)
        output = f"{self.name or workload_from_table.default_name(table, recipe)}.annotated.parquet"
        self.check_outputs(output)
        return replace(self, recipe=recipe, output=output)

    def check_table_output(self, table: Table, *, is_postgres: bool) -> None:
        """Raise ``UsageError`` when a target ``table:NAME`` cannot have the columns of the table with its answers."""
        from batchkit.annotation import workload_from_table  # noqa: PLC0415 - an extra

        workload_from_table.check_table_columns(
            self.recipe, table, output=self.output, review=self.review, is_postgres=is_postgres
        )

    @contextmanager
    def opened(self, runner: Callable[[], AbstractContextManager[Runner]]) -> Iterator[Table]:
        """Open the table; ``runner`` opens the database for one that is made of answers."""
        from batchkit.annotation.answers_table import answers_as_table  # noqa: PLC0415 - an extra
        from batchkit.datasets import open_table  # noqa: PLC0415 - as above

        if self.answers_of is None:
            yield open_table(self.parts, query=self.query, separator=self.separator)
            return
        with runner() as opened, answers_as_table(opened, self.answers_of) as table:
            yield table


def _ask(
    question: TableQuestion, settings: Settings | None, timeout_seconds: float | None, observer: Observer
) -> Progress:
    mode = RunMode(timeout_seconds=timeout_seconds, observer=observer)
    return ask_table(question, DriveUntil.FINISHED, settings, mode).progress


def _text(target: Source | None) -> str | None:
    return None if target is None else str(target)


def ask_table(
    question: TableQuestion, until: DriveUntil, settings: Settings | None, mode: RunMode, *, adds_up: bool = False
) -> RunReport:
    """Do what ``annotate``, ``transcribe`` and ``moderate`` do; with ``adds_up`` the report has the totals of a finished workload."""
    from batchkit.annotation.totals import totals  # noqa: PLC0415 - an extra

    question.check_outputs(question.output)
    with open_runner(settings, mode) as runner:
        question, workload = begin_table(runner, question, mode.observer)
        before = runner.progress(workload.id)
        progress = drive_from(runner, before, until, mode)
        if not progress.is_finished:
            return RunReport(progress)
        rows = finish_table(runner, question, progress, is_news=not before.is_finished, observer=mode.observer)
        if question.output is None and until is DriveUntil.FINISHED:
            write_remembered_output(runner, progress, is_news=not before.is_finished, observer=mode.observer)
        return RunReport(
            progress, question.output, before.is_finished, rows, totals(runner, workload) if adds_up else None
        )


def begin_table(
    runner: Runner, question: TableQuestion, observer: Observer = DO_NOTHING
) -> tuple[TableQuestion, Workload]:
    """Return the workload of a question, made and split at the first call, and the question with its output, which is stored with it.

    ``check_outputs`` comes first. Raises ``UsageError`` and ``InputInvalid`` before anything is sent.
    """
    from batchkit.annotation.workload_from_table import check_tables  # noqa: PLC0415 - an extra

    with runner.store.read() as connection:
        check_tables(connection, output=question.output, review=question.review)
    is_default = question.output is None and question.review is None
    with question.opened(lambda: nullcontext(runner)) as table:
        question = question.with_output(table)
        question.check_table_output(table, is_postgres=not runner.store.is_sqlite)
        workload = _ensure(runner, table, question, observer)
    if question.output is not None:
        output = output_here(
            question.output,
            is_annotated=True,
            raw_csv=question.raw_csv,
            review=question.review,
            only=question.only,
            is_default=is_default,
        )
        remember(runner, workload, output)
    return question, workload


def finish_table(
    runner: Runner, question: TableQuestion, progress: Progress, *, is_news: bool, observer: Observer = DO_NOTHING
) -> int | None:
    """Write the outputs of a question whose workload is finished, and the one that an earlier command named.

    ``is_news`` says that the workload was not finished before this call. Returns how many rows the table has, None if it is not
    written.
    """
    rows = _write(runner, progress.workload, question, observer)
    if question.output is not None:
        write_earlier_output(runner, progress, question.output, is_news=is_news, observer=observer)
    return rows


def preview_table(question: TableQuestion, settings: Settings | None, mode: RunMode) -> Preview:
    """Make all checks of ``ask_table``; returns the first requests and what all would cost. Nothing is stored or sent.

    Raises ``BatchkitError``.
    """
    from batchkit.annotation import workload_from_table  # noqa: PLC0415 - an extra
    from batchkit.annotation.estimate import earlier_workloads  # noqa: PLC0415 - as above
    from batchkit.annotation.preview import preview  # noqa: PLC0415 - as above

    found = settings or load_settings()
    question.check_outputs(question.output)
    if workload_from_table.tables_among(question.output, question.review):
        existing.read(found, partial(workload_from_table.check_tables, output=question.output, review=question.review))
    with (
        question.opened(lambda: existing.open_runner(found)) as table,
        counting(mode.observer, "rendering the rows") as advance,
    ):
        question = question.with_output(table)
        backend = parse_url(found.resolved_database_url).get_backend_name()
        question.check_table_output(table, is_postgres=backend != "sqlite")
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


def _read_if_possible(settings: Settings, query: Callable[[Connection], T]) -> T | None:
    """Read what only adds to an estimate; None where the database cannot be read, as a run would upgrade it."""
    try:
        return existing.read(settings, query)
    except StoreError:
        return None


def _ensure(runner: Runner, table: Table, question: TableQuestion, observer: Observer) -> Workload:
    from batchkit.annotation import workload_from_table  # noqa: PLC0415 - an extra

    with ExitStack() as counts:
        checked: list[Callable[[int], None]] = []

        def advance_checked(more: int) -> None:
            if not checked:
                checked.append(counts.enter_context(counting(observer, "checking the requests")))
            checked[0](more)

        return workload_from_table.ensure_workload(
            runner,
            table,
            question.recipe,
            name=question.name,
            options=question.options,
            folder=question.folder,
            accept=model_check(runner.settings, observer),
            advance=counts.enter_context(counting(observer, "rendering the rows")),
            checked=advance_checked,
            waiting=note_once(observer, f"another command is preparing {table.name!r}; waiting for it"),
        )


def _write(runner: Runner, workload: Workload, question: TableQuestion, observer: Observer) -> int | None:
    """Write the table and its disputed rows, as far as they are asked for; returns how many rows the table has."""
    from batchkit.annotation.row_answers import write_output_table  # noqa: PLC0415 - an extra

    rows = None
    if question.output is not None:
        count = workload.request_count
        total = None if count is None else count // question.recipe.requests_per_row + workload.skipped_rows
        with counting(observer, f"writing {question.output}", total=total) as advance:
            rows = write_output_table(
                runner, workload, question.output, raw_csv=question.raw_csv, where=question.only, advance=advance
            )
    if question.review is not None:
        write_output_table(runner, workload, question.review, raw_csv=question.raw_csv, review_only=True)
    return rows
