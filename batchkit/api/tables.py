"""Asking questions about the rows of a table: annotate, transcribe, moderate. Needs the extra ``annotate``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from batchkit.api.opening import drive_named, open_runner, parts_of
from batchkit.api.remembered import output_here, remember
from batchkit.datasets import require_extra
from batchkit.engine.observer import DO_NOTHING, Observer
from batchkit.engine.waves import DriveUntil

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.annotation.recipe import Recipe
    from batchkit.api.opening import Source
    from batchkit.datasets import Table
    from batchkit.engine.progress import Progress
    from batchkit.settings import Settings
    from batchkit.steps.split import SplitOptions


def annotate(
    table: Source | Sequence[Source],
    prompt: str,
    *,
    models: str | Sequence[str],
    query: str | None = None,
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
    ``output`` gets the table with the answers, ``review`` the rows whose annotators disagree; both may be ``table:NAME``. ``query``
    belongs to a table that is a database URL. Returns the last snapshot: unfinished when ``timeout_seconds`` ran out. Raises
    ``BatchkitError``; ``InputInvalid`` with all bad rows, and ``UsageError`` for outputs that cannot be written or are inputs, before anything
    is sent.
    """
    require_extra()
    from batchkit.annotation import presets  # noqa: PLC0415 - an extra

    asked = presets.annotation(prompt, models=[models] if isinstance(models, str) else models, **recipe)
    question = _TableQuestion(parts_of(table), query, asked, name, output, review, raw_csv=raw_csv)
    return _ask(question, options, settings, timeout_seconds, observer)


def transcribe(
    table: Source | Sequence[Source],
    audio: str,
    *,
    query: str | None = None,
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
    question = _TableQuestion(parts_of(table), query, asked, name, output, None, raw_csv=raw_csv)
    return _ask(question, options, settings, timeout_seconds, observer)


def moderate(
    table: Source | Sequence[Source],
    text: str,
    *,
    query: str | None = None,
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
    question = _TableQuestion(parts_of(table), query, asked, name, output, None, raw_csv=raw_csv, only=only)
    return _ask(question, options, settings, timeout_seconds, observer)


@dataclass(frozen=True, slots=True)
class _TableQuestion:
    parts: Sequence[str]
    query: str | None
    recipe: Recipe
    name: str | None
    output: Source | None
    review: Source | None
    raw_csv: bool = False
    only: str | None = None


def _ask(
    question: _TableQuestion,
    options: SplitOptions | None,
    settings: Settings | None,
    timeout_seconds: float | None,
    observer: Observer,
) -> Progress:
    from batchkit.annotation import workload_from_table  # noqa: PLC0415 - as above
    from batchkit.annotation.row_answers import write_output_table  # noqa: PLC0415 - an extra
    from batchkit.datasets import open_table  # noqa: PLC0415 - as above

    output, review = (None if target is None else str(target) for target in (question.output, question.review))
    workload_from_table.check_outputs(question.recipe, output=output, review=review, parts=question.parts)
    with open_runner(settings) as runner:
        with runner.store.read() as connection:
            workload_from_table.check_tables(connection, output=output, review=review)
        table: Table = open_table(question.parts, query=question.query)
        workload = workload_from_table.ensure_workload(
            runner,
            table,
            question.recipe,
            name=question.name,
            options=options,
            folder=workload_from_table.folder_of(question.parts),
        )
        if output is not None:
            remember(
                runner,
                workload,
                output_here(output, is_annotated=True, raw_csv=question.raw_csv, review=review, only=question.only),
            )
        progress = drive_named(
            runner, workload.name, DriveUntil.FINISHED, timeout_seconds=timeout_seconds, observer=observer
        )
        if progress.is_finished:
            if output is not None:
                write_output_table(runner, workload, output, raw_csv=question.raw_csv, where=question.only)
            if review is not None:
                write_output_table(runner, workload, review, raw_csv=question.raw_csv, review_only=True)
        return progress
