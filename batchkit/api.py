"""The verbs of the command line as functions: the same pipeline in a plain loop, with typed reports instead of a terminal.

::

    import batchkit

    progress = batchkit.run("reviews.jsonl", output="labelled.jsonl")
    print(progress.counts.succeeded, progress.failures)

``settings`` defaults to the environment, ``.env`` and ``batchkit.toml``; make one with ``batchkit.load_settings(database_url=..., ...)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from batchkit import existing
from batchkit.datasets import require_extra
from batchkit.engine.driver import DriveUntil
from batchkit.engine.progress import WorkloadState
from batchkit.engine.runtime import Runner
from batchkit.files.outputs import check_file
from batchkit.files.sources import check_name, name_of
from batchkit.remembered import output_here, remember, write_remembered_output
from batchkit.settings import load_settings
from batchkit.steps.export import check_target, input_files
from batchkit.steps.split import SplitOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.annotation.recipe import Recipe
    from batchkit.datasets import Table
    from batchkit.engine.progress import Progress
    from batchkit.settings import Settings
    from batchkit.steps.context import StepReport

    Source = str | PathLike[str]


def _open(settings: Settings | None) -> Runner:
    return Runner(settings or load_settings())


def _open_existing(settings: Settings | None) -> Runner:
    return existing.open_runner(settings or load_settings())


def _paths(sources: Source | Sequence[Source]) -> list[Path]:
    # A lone string is one file, not a sequence of characters.
    return [Path(sources)] if isinstance(sources, (str, PathLike)) else [Path(source) for source in sources]


def _name(name: str | None, paths: Sequence[Path]) -> str:
    return check_name(name or name_of(paths[0]))


def run(
    sources: Source | Sequence[Source],
    *,
    name: str | None = None,
    output: Source | None = None,
    raw_csv: bool = False,
    options: SplitOptions | None = None,
    settings: Settings | None = None,
    timeout_seconds: float | None = None,
) -> Progress:
    """Run an input to its end, and write the results to ``output`` if given; the same call again carries on.

    ``name`` is by default the first file's name without its endings. ``raw_csv`` is as for ``export``. Returns the last picture: unfinished when
    ``timeout_seconds`` ran out. Raises ``BatchkitError`` (see ``batchkit.errors``); ``UsageError`` for an output that cannot be
    written or is an input, and ``InputInvalid``, before anything is sent.
    """
    paths = _paths(sources)
    if output is not None:
        check_target(Path(output), inputs=paths)
    with _open(settings) as runner:
        workload = runner.split(paths, name=_name(name, paths), options=options or SplitOptions())
        if output is not None:
            remember(runner, workload, output_here(Path(output), raw_csv=raw_csv))
        progress = _process(runner, workload.name, DriveUntil.FINISHED, timeout_seconds)
        if output is not None:
            runner.export(workload.name, Path(output), raw_csv=raw_csv)
        return progress


def submit(
    sources: Source | Sequence[Source],
    *,
    name: str | None = None,
    output: Source | None = None,
    raw_csv: bool = False,
    options: SplitOptions | None = None,
    settings: Settings | None = None,
) -> Progress:
    """Like ``run``, but return once every shard has become a batch. Whoever finishes the workload here writes ``output``."""
    paths = _paths(sources)
    if output is not None:
        check_target(Path(output), inputs=paths)
    with _open(settings) as runner:
        workload = runner.split(paths, name=_name(name, paths), options=options or SplitOptions())
        if output is not None:
            remember(runner, workload, output_here(Path(output), raw_csv=raw_csv))
        return _process(runner, workload.name, DriveUntil.SUBMITTED, None)


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
    **recipe: Any,
) -> Progress:
    """Ask every row of a table; needs the extra ``annotate``. The same call again carries on.

    ``recipe`` is as for ``batchkit.annotation.presets.annotation``: ``schema`` (also a pydantic model), ``choices``, ``samples``, ...
    ``output`` gets the table with the answers, ``review`` the rows whose annotators disagree; both may be ``table:NAME``. ``query``
    belongs to a table that is a database URL. Returns the last picture: unfinished when ``timeout_seconds`` ran out. Raises
    ``BatchkitError``; ``InputInvalid`` with all bad rows, and ``UsageError`` for outputs that cannot be written or are inputs, before anything
    is sent.
    """
    require_extra()
    from batchkit.annotation import presets  # noqa: PLC0415 - an extra

    asked = presets.annotation(prompt, models=[models] if isinstance(models, str) else models, **recipe)
    order = _TableOrder(_words(table), query, asked, name, output, review, raw_csv=raw_csv)
    return _ask(order, options, settings, timeout_seconds)


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
    **recipe: Any,
) -> Progress:
    """Transcribe the audio whose addresses are in the column ``audio``; else as ``annotate``.

    ``recipe`` is as for ``batchkit.annotation.presets.transcription``: ``model``, ``translate``, ``language``, ...
    """
    require_extra()
    from batchkit.annotation import presets  # noqa: PLC0415 - an extra

    asked = presets.transcription(audio, **recipe)
    order = _TableOrder(_words(table), query, asked, name, output, None, raw_csv=raw_csv)
    return _ask(order, options, settings, timeout_seconds)


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
    **recipe: Any,
) -> Progress:
    """Have a guard model look at the texts in the column ``text``; else as ``annotate``. ``only`` leaves out the other rows.

    ``recipe`` is as for ``batchkit.annotation.presets.moderation``: ``model``, ``is_answer``, ``prompt_column``, ...
    """
    require_extra()
    from batchkit.annotation import presets  # noqa: PLC0415 - an extra

    asked = presets.moderation(text, **recipe)
    order = _TableOrder(_words(table), query, asked, name, output, None, raw_csv=raw_csv, only=only)
    return _ask(order, options, settings, timeout_seconds)


def watch(name: str, *, settings: Settings | None = None, timeout_seconds: float | None = None) -> Progress:
    """Carry a workload on until it is finished. The output that was named when it was begun is written.

    Raises ``UnknownWorkload``, and ``SplitUnfinished`` while its input is not split whole.
    """
    with _open_existing(settings) as runner:
        was_finished = runner.progress(runner.find(name).id).is_finished
        progress = _process(runner, name, DriveUntil.FINISHED, timeout_seconds)
        write_remembered_output(runner, progress, is_news=not was_finished)
        return progress


def status(name: str | None = None, *, settings: Settings | None = None) -> list[Progress]:
    """Read where a workload stands, or all of them, oldest first; needs no key and creates nothing.

    Raises ``UnknownWorkload``, also when the database does not exist yet.
    """
    return existing.pictures(settings or load_settings(), name)


def export(name: str, target: Source, *, raw_csv: bool = False, settings: Settings | None = None) -> int:
    """Write one line per request in input order to a ``.jsonl``, ``.csv`` or ``.parquet`` file; returns how many.

    In a ``.csv`` a text that a spreadsheet would run as a formula gets an apostrophe in front, unless ``raw_csv``.
    Raises ``UnknownWorkload``, and ``UsageError`` for a target that cannot be written or is the input.
    """
    with _open_existing(settings) as runner:
        check_target(Path(target), inputs=input_files(runner.find(name)))
        return runner.export(name, Path(target), raw_csv=raw_csv)


def report(name: str, target: Source | None = None, *, rows: int = 500, settings: Settings | None = None) -> Path:
    """Write one self-contained HTML page about a workload or an evaluation run; needs the extra ``annotate``.

    ``target`` is by default ``NAME.report.html`` in the working directory; ``rows`` says how many requests it shows, the worst
    first, up to 2,000. Gives the whole path of the page. Raises ``UnknownWorkload``.
    """
    require_extra()
    from batchkit.reports.writing import default_target, write_report  # noqa: PLC0415 - an extra

    if target is not None:
        check_file(Path(target), makes_folder=True)
    with _open_existing(settings) as runner:
        return write_report(runner, name, default_target(name) if target is None else Path(target), rows=rows)


def cancel(name: str, *, settings: Settings | None = None, timeout_seconds: float | None = None) -> Progress:
    """Cancel a workload and wait until its batches have stopped (Groq: up to ten minutes); answers until then are kept.

    Of a workload whose split was interrupted nothing was sent: there is nothing to wait for. Raises ``SplitUnfinished`` while
    another command is splitting it.
    """
    with _open_existing(settings) as runner:
        workload = runner.request_cancel(name)
        progress = runner.progress(workload.id)
        if progress.state is WorkloadState.INTERRUPTED:
            return progress
        progress = _process(runner, name, DriveUntil.FINISHED, timeout_seconds)
        write_remembered_output(runner, progress)
        return progress


def resubmit(name: str, *, failed: bool = False, settings: Settings | None = None) -> int:
    """Make cancelled requests, and with ``failed`` failed ones, pending again; returns how many. ``watch`` then sends them."""
    with _open_existing(settings) as runner:
        return runner.reopen(name, failed=failed)


def clean(name: str, *, keep_results: bool = False, settings: Settings | None = None) -> StepReport:
    """Delete a finished workload's files here and at the provider, and its rows unless ``keep_results``."""
    with _open_existing(settings) as runner:
        return runner.clean(name, keep_results=keep_results)


def _process(runner: Runner, name: str, until: DriveUntil, timeout_seconds: float | None) -> Progress:
    workload = runner.find(name)
    if runner.progress(workload.id).is_finished:
        return runner.progress(workload.id)
    deadline = None if timeout_seconds is None else runner.clock() + timeout_seconds
    return runner.process(workload.id, until=until, deadline=deadline)


@dataclass(frozen=True, slots=True)
class _TableOrder:
    words: Sequence[str]
    query: str | None
    recipe: Recipe
    name: str | None
    output: Source | None
    review: Source | None
    raw_csv: bool = False
    only: str | None = None


def _words(table: Source | Sequence[Source]) -> list[str]:
    return [str(table)] if isinstance(table, (str, PathLike)) else [str(part) for part in table]


def _ask(
    order: _TableOrder, options: SplitOptions | None, settings: Settings | None, timeout_seconds: float | None
) -> Progress:
    from batchkit.annotation import orders  # noqa: PLC0415 - as above
    from batchkit.annotation.gather import write_annotated  # noqa: PLC0415 - an extra
    from batchkit.datasets import open_table  # noqa: PLC0415 - as above

    output, review = (None if target is None else str(target) for target in (order.output, order.review))
    orders.check_outputs(order.recipe, output=output, review=review, words=order.words)
    with _open(settings) as runner:
        with runner.store.read() as connection:
            orders.check_tables(connection, output=output, review=review)
        table: Table = open_table(order.words, query=order.query)
        workload = orders.ensure_workload(
            runner, table, order.recipe, name=order.name, options=options, folder=orders.folder_of(order.words)
        )
        if output is not None:
            remember(
                runner,
                workload,
                output_here(output, is_annotated=True, raw_csv=order.raw_csv, review=review, only=order.only),
            )
        progress = _process(runner, workload.name, DriveUntil.FINISHED, timeout_seconds)
        if progress.is_finished:
            if output is not None:
                write_annotated(runner, workload, output, raw_csv=order.raw_csv, where=order.only)
            if review is not None:
                write_annotated(runner, workload, review, raw_csv=order.raw_csv, review_only=True)
        return progress
