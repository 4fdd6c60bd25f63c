"""The result of an evaluation, on a terminal and for machines: pure functions from a summary."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from batchkit import formatting
from batchkit.api.outcomes import RunReport
from batchkit.cli.render import conclusion, console, exits, outcome
from batchkit.cli.render.evaluated_labels import labels_table
from batchkit.cli.render.machine import SCHEMA_VERSION
from batchkit.datasets.values import text_of
from batchkit.evaluation import sentences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from batchkit.api.evaluations import EvaluationReport
    from batchkit.cli.render.terminal import Terminal
    from batchkit.engine.progress import Progress
    from batchkit.evaluation.results import Change, EvaluationSummary, Metric, ScoredRow

_ANSWER_CHARACTERS = 60
_OF_THIS_RUN = re.compile(r" --(?:against|run)[ =]\S+")
#: A slice whose change is less significant is shown on the page only.
_NOTABLE_P = 0.05


def conclude(report: EvaluationReport, terminal: Terminal, *, is_submit_only: bool) -> int:
    """Print the progress or the result of a run of a suite; return the exit code."""
    found = report.summary
    if found is None:
        return _conclude_unfinished(report, terminal, is_submit_only=is_submit_only)
    if report.page_error is not None:
        console.complain(terminal.err, report.page_error)
    code = exit_code(found)
    if terminal.is_for_machines:
        console.write_json(for_machines(found, exit_code=code, report=report.page))
        return code
    out = console.stdout()
    console.tell(out, first_words(found))
    if found.metrics:
        console.show(out, metrics_table(found))
    if found.changes:
        console.show(out, changes_table(found))
    labels = labels_table(found)
    if labels is not None:
        console.show(out, labels)
    console.tell(out, last_words(found, report.fallen_rows, again=terminal.again, report=report.page))
    return code


def _conclude_unfinished(report: EvaluationReport, terminal: Terminal, *, is_submit_only: bool) -> int:
    if report.progress is None:
        raise TypeError("a run without a summary waits for a workload")
    waiting = RunReport(report.progress)
    if is_submit_only and outcome.is_submitted(report.progress):
        lines = submitted(report.progress, again=terminal.again.replace(" --submit-only", ""))
        return conclusion.print_outcome(waiting, terminal, lines, code=exits.SUCCEEDED)
    return conclusion.conclude(waiting, terminal)


def exit_code(found: EvaluationSummary) -> int:
    """Return the exit code for how a finished run ended."""
    if found.verdict == "regressed":
        return exits.REGRESSED
    is_short = found.verdict in {"unscored", "incomparable"}
    return exits.SOME_FAILED if is_short or found.failed_answers else exits.SUCCEEDED


def for_machines(found: EvaluationSummary, *, exit_code: int, report: Path | None) -> dict[str, Any]:
    """Return the JSON result of ``eval`` (see ``machine``): the summary, with ``exit_code`` and the ``report`` or null."""
    return {
        "schema_version": SCHEMA_VERSION,
        "exit_code": exit_code,
        "report": None if report is None else str(report),
        **asdict(found),
    }


def metrics_table(found: EvaluationSummary) -> Table:
    """Return a table of every metric with its interval."""
    has_unscored = any(metric.unscored for metric in found.metrics)
    table = _table(found.run, found.metrics, "rows of")
    for column in ("rows", "mean", "95 %", *(("unscored",) if has_unscored else ())):
        table.add_column(column, justify="right", no_wrap=True)
    name = _namer(found, found.metrics)
    for metric in found.metrics:
        numbers = [f"{metric.count:,}", f"{metric.mean:.3f}", f"{metric.low:.3f} - {metric.high:.3f}"]
        if has_unscored:
            numbers.append(f"{metric.unscored:,}" if metric.unscored else "")
        table.add_row(*name(metric), Text(metric.slice or "all"), *numbers)
    return table


def changes_table(found: EvaluationSummary) -> Table:
    """Return a table of the changes since the previous run; ``fell`` and ``rose`` count rows. Of slices only those that changed."""
    moved = [change for change in found.slice_changes if change.is_alarm or change.p_value < _NOTABLE_P]
    shown = [*found.changes, *moved]
    again = f", scored again ({found.rescored})" if found.rescored else ""
    table = _table(f"compared with {found.previous}{again}", shown, *(("rows of",) if moved else ()))
    for column in ("before", "after", "change", "fell", "rose", "p"):
        table.add_column(column, justify="right", no_wrap=True)
    name = _namer(found, shown)
    for change in shown:
        style = "bold red" if change.is_alarm else ""
        within = (Text(change.slice or "all"),) if moved else ()
        window = change.window
        beside = Text("") if window is None else Text(f" over {window.runs:,} runs", style="dim")
        first, *others = name(change)
        table.add_row(first + beside, *others, *within, *_moved(change), style=style)
    return table


def _table(title: str, shown: Sequence[Metric | Change], *more: str) -> Table:
    table = Table(box=SIMPLE_HEAD, title=Text(title, style="bold"), title_justify="left", pad_edge=False)
    for column in ("metric", *(("prompt",) if _has_prompts(shown) else ()), "model", *more):
        table.add_column(column, overflow="fold")
    return table


def _has_prompts(shown: Sequence[Metric | Change]) -> bool:
    return len({entry.prompt for entry in shown}) > 1


def _namer(found: EvaluationSummary, shown: Sequence[Metric | Change]) -> Callable[[Metric | Change], tuple[Text, ...]]:
    """Return a function that names a line: scorer, prompt if there are several, and model, without its maker if that is enough."""
    short = formatting.short_models(entry.model for entry in shown)
    has_prompts = _has_prompts(shown)

    def name(entry: Metric | Change) -> tuple[Text, ...]:
        prompt = (Text(entry.prompt),) if has_prompts else ()
        return Text(found.metric_of(entry.scorer)), *prompt, Text(short[entry.model])

    return name


def _moved(change: Change) -> tuple[str, ...]:
    return (
        f"{change.before:.3f}",
        f"{change.after:.3f}",
        f"{change.difference:+.3f}",
        f"{change.flipped_down:,}",
        f"{change.flipped_up:,}",
        sentences.p_text(change.p_value),
    )


def submitted(progress: Progress, *, again: str) -> Iterator[Text]:
    """Return the lines that say that everything is submitted, and which command collects it."""
    batches = formatting.counted(sum(progress.batches.values()), "batch", "batches")
    requests = formatting.counted(progress.counts.in_flight, "request")
    yield Text(f"{formatting.printable(progress.workload.name)}: {batches} with {requests} submitted")
    yield outcome.next_step("collect", again)


def first_words(found: EvaluationSummary) -> Iterator[Text]:
    """Return what must be known before the numbers are read: what was not scored, and what else differs from the previous run."""
    for scoring in sentences.lacking(found):
        style = "bold red" if scoring.is_watched else "yellow"
        yield Text(f"not enough is scored: {sentences.scoring_sentence(scoring)}", style=style)
    for difference in found.differences:
        yield Text(f"since {found.previous}: {formatting.printable(difference)}", style="yellow")


def last_words(
    found: EvaluationSummary, flips: Sequence[ScoredRow], *, again: str, report: Path | None
) -> Iterator[Text]:
    """Return the result of the run, line by line; ``again`` is the command that was given."""
    for sentence in sentences.windows(found):
        yield Text(formatting.printable(sentence), style="dim")
    yield from map(Text, sentences.between_arms(found))
    yield from map(Text, sentences.of_samples(found))
    for agreed in found.judge_agreement:
        kappa = f"kappa {agreed.kappa:.2f}" if agreed.kappa is not None else agreed.reason or ""
        yield Text(
            f"the judge {agreed.scorer!r} says what people said of {agreed.same:.0%} of"
            f" {formatting.counted(agreed.rows, 'answer')} ({agreed.low:.0%} to {agreed.high:.0%}); {kappa}"
        )
    yield from map(Text, sentences.of_judges(found))
    if flips:
        yield Text("rows that fell:")
    for row in flips:
        answer = " ".join((row.answer_text or row.error or "").split())
        shown = answer if len(answer) <= _ANSWER_CHARACTERS else answer[: _ANSWER_CHARACTERS - 1] + "…"
        yield Text(f"  {row.custom_id}: {shown!r}, expected {text_of(row.expected)[:_ANSWER_CHARACTERS]!r}")
    why = sentences.reason(found)
    for note in found.notes:
        if note != why:
            yield Text(formatting.printable(note), style="dim")
    yield _verdict(found)
    if accepting := sentences.accepting(found):
        yield outcome.next_step("accept", f"{_OF_THIS_RUN.sub('', again)} {accepting}")
    if report is not None:
        yield outcome.next_step("report", _from_here(report))


def _verdict(found: EvaluationSummary) -> Text:
    style = {"regressed": "bold red", "unscored": "bold red", "incomparable": "yellow"}.get(found.verdict, "green")
    why = formatting.printable(sentences.reason(found))
    failed = f"; {formatting.counted(found.failed_answers, 'answer')} failed" if found.failed_answers else ""
    said = f": {why}" if why else ""
    return Text.assemble(f"{formatting.printable(found.run)}: ", (found.verdict, style), said, failed)


def _from_here(path: Path) -> str:
    """Return a path as one would type it in the working directory."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
