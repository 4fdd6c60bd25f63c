"""Asking questions about the rows of a table: annotate, transcribe, moderate. Needs the extra ``annotate``."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any, Literal

from batchkit.api.budgets import new_workload_check
from batchkit.api.deadlines import told_deadline
from batchkit.api.modes import RunMode
from batchkit.api.opening import drive_from, note_once, open_runner, parts_of
from batchkit.api.outcomes import RunReport
from batchkit.api.queries import check_not_queried, earlier_of_query, named_as_before
from batchkit.api.remembered import output_here, remember, write_earlier_output, write_remembered_output
from batchkit.api.table_question import ExampleSource, TableQuestion
from batchkit.datasets import require_extra
from batchkit.engine.observer import DO_NOTHING, Observer, counting
from batchkit.engine.waves import DriveUntil
from batchkit.steps.split import SplitOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batchkit.annotation.weighing import Weights
    from batchkit.api.opening import Source
    from batchkit.datasets import Table
    from batchkit.engine.progress import Progress
    from batchkit.engine.runtime import Runner
    from batchkit.models import Workload
    from batchkit.settings import Settings


def annotate(
    table: Source | Sequence[Source],
    prompt: str = "",
    *,
    models: str | Sequence[str],
    query: str | None = None,
    separator: str | None = None,
    name: str | None = None,
    output: Source | None = None,
    review: Source | None = None,
    gold: str | Sequence[str] = (),
    weights: Weights | None = None,
    reviewed: Source | None = None,
    examples: Source | None = None,
    examples_count: int = 5,
    examples_seed: int = 0,
    examples_nearest: bool = False,
    raw_csv: bool = False,
    max_cost: float | None = None,
    max_total_tokens: int | None = None,
    options: SplitOptions | None = None,
    settings: Settings | None = None,
    timeout_seconds: float | None = None,
    observer: Observer = DO_NOTHING,
    **recipe: Any,
) -> Progress:
    """Ask every row of a table; needs the extra ``annotate``. The same call again resumes.

    ``prompt`` may be left out where ``messages`` names a column of conversations.
    ``recipe`` is as for ``batchkit.annotation.presets.annotation``: ``schema`` (also a pydantic model), ``choices``, ``samples``, ...
    ``output`` gets the table with the answers, ``review`` the rows that people should look at; both may be ``table:NAME``. ``gold``
    names the columns with labels of people, as ``COLUMN`` or ``LABEL=COLUMN``, and ``weights`` (``gold``, ``dawid-skene``) decides how
    much the vote of each annotator counts. ``reviewed`` is a table of what people decided, as a corrected file of ``review``: it is
    stored, and wins in the output. ``examples`` is a table of labelled rows, of which ``examples_count`` stand before each
    question: drawn by ``examples_seed``, or with ``examples_nearest`` those most like the row. Without
    ``output`` the table goes where an earlier call or command named an output, if one did. ``query``
    belongs to a table that is a database URL, ``separator`` to CSV files. Returns the last snapshot: unfinished when ``timeout_seconds`` ran out,
    and when the budget was reached: ``max_cost`` in USD, ``max_total_tokens`` of prompts and answers. Raises
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
        gold=(gold,) if isinstance(gold, str) else tuple(gold),
        weights=weights,
        reviewed=_text(reviewed),
        examples=None
        if examples is None
        else ExampleSource(str(examples), examples_count, examples_seed, is_nearest=examples_nearest),
        raw_csv=raw_csv,
        options=(options or SplitOptions()).with_budget(max_cost, max_total_tokens),
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
    max_cost: float | None = None,
    max_total_tokens: int | None = None,
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
        options=(options or SplitOptions()).with_budget(max_cost, max_total_tokens),
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
    max_cost: float | None = None,
    max_total_tokens: int | None = None,
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
        options=(options or SplitOptions()).with_budget(max_cost, max_total_tokens),
    )
    return _ask(question, settings, timeout_seconds, observer)


def speak(
    table: Source | Sequence[Source],
    text: str,
    voice: str,
    *,
    query: str | None = None,
    separator: str | None = None,
    name: str | None = None,
    output: Source | None = None,
    max_cost: float | None = None,
    max_total_tokens: int | None = None,
    options: SplitOptions | None = None,
    settings: Settings | None = None,
    timeout_seconds: float | None = None,
    observer: Observer = DO_NOTHING,
    **recipe: Any,
) -> Progress:
    """Speak the texts in the column ``text``; else as ``annotate``.

    The folder ``output`` gets a file for each row, named by its key, and ``table.parquet`` with the rows and the ``path``, ``bytes`` and
    ``sha256`` of their files. ``recipe`` is as for ``batchkit.annotation.presets.speech``: ``model``, ``response_format``, ``speed``, ...
    """
    require_extra()
    from batchkit.annotation import presets  # noqa: PLC0415 - an extra
    from batchkit.annotation.spoken import table_in  # noqa: PLC0415 - as above

    question = TableQuestion(
        recipe=presets.speech(text, voice, **recipe),
        parts=parts_of(table),
        query=query,
        separator=separator,
        name=name,
        output=None if output is None else table_in(str(output)),
        options=(options or SplitOptions()).with_budget(max_cost, max_total_tokens),
    )
    return _ask(question, settings, timeout_seconds, observer)


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
    question.check_outputs(question.output)
    question = question.with_examples()
    with open_runner(settings, mode) as runner:
        ended = _finish_earlier(runner, question, until, mode, adds_up=adds_up)
        if ended is not None:
            return ended
        question, workload = begin_table(runner, question, mode.observer)
        return _finish(runner, question, workload, until, mode, adds_up=adds_up)


def _finish(
    runner: Runner, question: TableQuestion, workload: Workload, until: DriveUntil, mode: RunMode, *, adds_up: bool
) -> RunReport:
    """Drive a question's workload, and write its outputs if it is finished."""
    from batchkit.annotation.totals import totals  # noqa: PLC0415 - an extra
    from batchkit.annotation.weighing import weighted_votes  # noqa: PLC0415 - as above

    before = runner.progress(workload.id)
    progress = drive_from(runner, before, until, mode)
    if not progress.is_finished:
        return RunReport(progress)
    rows = finish_table(runner, question, progress, is_news=not before.is_finished, observer=mode.observer)
    if question.output is None and until is DriveUntil.FINISHED:
        write_remembered_output(runner, progress, is_news=not before.is_finished, observer=mode.observer)
    added_up = None
    if adds_up:
        votes = weighted_votes(runner, workload, gold=question.gold, weights=question.weights)
        added_up = totals(runner, workload, gold=question.gold, weighted=votes)
    return RunReport(progress, question.output, before.is_finished, rows, added_up)


def _finish_earlier(
    runner: Runner, question: TableQuestion, until: DriveUntil, mode: RunMode, *, adds_up: bool
) -> RunReport | None:
    """Finish the workloads with earlier rows of a question's query; returns the report of the one that ends this call, else None.

    That is one that is not finished, and one whose name the question has: the rows of now need another name.
    """
    for workload in earlier_of_query(runner, question, mode.observer):
        if workload.name == question.name:
            mode.observer.note(
                f"the rows of now are not asked: {workload.name!r} has those of then; give another --name"
            )
            return _finish(runner, question.with_name_output(), workload, until, mode, adds_up=adds_up)
        progress = drive_from(runner, runner.progress(workload.id), until, mode)
        if not progress.is_finished:
            return RunReport(progress)
        output = write_remembered_output(runner, progress, observer=mode.observer)
        where = "" if output is None else f"; its results are in {' and '.join(output.targets)}"
        mode.observer.note(f"the workload {workload.name!r} is finished{where}")
    return None


def begin_table(
    runner: Runner, question: TableQuestion, observer: Observer = DO_NOTHING
) -> tuple[TableQuestion, Workload]:
    """Return the workload of a question, made and split at the first call, and the question with its output, which is stored with it.

    ``check_outputs`` comes first. Raises ``UsageError`` and ``InputInvalid`` before anything is sent.
    """
    from batchkit.annotation.workload_from_table import check_tables  # noqa: PLC0415 - an extra

    check_not_queried(question, runner.settings)
    with runner.store.read() as connection:
        check_tables(connection, output=question.output, review=question.review)
    is_default = question.output is None and question.review is None
    with question.opened(lambda: nullcontext(runner), runner.scratch) as (opened, table):
        question = named_as_before(runner, opened, table).with_output(table)
        question.check_table(table, is_postgres=not runner.store.is_sqlite, provider=runner.settings.provider)
        decisions = question.decisions(table)
        for note in question.notes(runner.settings):
            observer.note(note)
        workload = _ensure(runner, table, question, observer)
    if decisions:
        from batchkit.annotation.reviewed import store_decisions  # noqa: PLC0415 - an extra

        count = store_decisions(runner, workload, question.recipe, decisions, reviewer=question.reviewed or "")
        observer.note(f"{count:,} decisions of people are stored")
    if question.output is not None:
        output = output_here(
            question.output,
            is_annotated=True,
            raw_csv=question.raw_csv,
            review=question.review,
            only=question.only,
            is_default=is_default,
            gold=question.gold,
            weights=question.weights,
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
            options=question.split_options,
            folder=question.folder,
            accept=new_workload_check(runner.settings, question.split_options, observer),
            advance=counts.enter_context(counting(observer, "rendering the rows")),
            checked=advance_checked,
            waiting=note_once(observer, f"another command is preparing {table.name!r}; waiting for it"),
            planned=told_deadline(runner.settings, observer),
        )


def _write(runner: Runner, workload: Workload, question: TableQuestion, observer: Observer) -> int | None:
    """Write the table and the rows to review, as far as they are asked for; returns how many rows the table has."""
    from batchkit.annotation.row_answers import write_output_table  # noqa: PLC0415 - an extra
    from batchkit.annotation.weighing import weighted_votes  # noqa: PLC0415 - as above

    rows = None
    raw_csv = question.raw_csv
    votes = weighted_votes(runner, workload, gold=question.gold, weights=question.weights)
    if question.output is not None:
        count = workload.request_count
        total = None if count is None else count // question.recipe.requests_per_row + workload.skipped_rows
        with counting(observer, f"writing {question.output}", total=total) as advance:
            rows = write_output_table(
                runner, workload, question.output, raw_csv=raw_csv, where=question.only, weighted=votes, advance=advance
            )
    if question.review is not None:
        write_output_table(runner, workload, question.review, raw_csv=raw_csv, review_only=True, weighted=votes)
    return rows
