"""The runs of suites, and runs side by side, on a terminal and for machines."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from batchkit import formatting
from batchkit.cli.render.machine import SCHEMA_VERSION
from batchkit.cli.render.priced import dollars
from batchkit.cli.render.trend import Trend, TrendPoint
from batchkit.evaluation.sentences import p_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from batchkit.evaluation.past_runs import PastRun, RunScore
    from batchkit.evaluation.side_by_side import MetricOfRuns, PairedChange, RunCompared, RunsCompared

_VERDICT_STYLES = {"regressed": "bold red", "unscored": "bold red", "incomparable": "yellow", "unfinished": "cyan"}
_SURE_P = 0.05
_GAP = 3
_NUMBER = 7


def runs_view(runs: Sequence[PastRun]) -> Iterator[RenderableType]:
    """Yield what ``runs`` prints: for each suite a table of its runs, and a trend for each scorer and model."""
    for suite in dict.fromkeys(run.suite for run in runs):
        of_suite = [run for run in runs if run.suite == suite]
        yield _runs_table(suite, of_suite)
        yield from _notes(of_suite)
        for trend in _trends(of_suite):
            yield Text()
            yield trend


def runs_for_machines(runs: Sequence[PastRun]) -> dict[str, Any]:
    """Return the JSON of ``runs``, the newest last; of the ``progress`` of an unfinished run the state and the counts."""
    return {"schema_version": SCHEMA_VERSION, "runs": [_run_for_machines(run) for run in runs]}


def _run_for_machines(run: PastRun) -> dict[str, Any]:
    progress = run.progress
    return {
        "run": run.run,
        "suite": run.suite,
        "number": run.number,
        "kind": run.kind,
        "derived_from": run.derived_from,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "scheduled_for": run.scheduled_for,
        "verdict": run.verdict,
        "previous": run.previous,
        "failed_answers": run.failed_answers,
        "cost_usd": run.cost_usd,
        "scores": [asdict(score) for score in run.scores],
        "progress": None
        if progress is None
        else {
            "workload": progress.workload.name,
            "state": progress.state.value,
            "total": progress.counts.total,
            "answered": progress.answered,
            "fetched": progress.fetched,
        },
    }


def _runs_table(suite: str, runs: Sequence[PastRun]) -> Table:
    has_cost = any(run.cost_usd is not None for run in runs)
    table = Table(box=SIMPLE_HEAD, title=Text(formatting.printable(suite), style="bold"), title_justify="left")
    table.pad_edge = False
    table.add_column("run", overflow="fold")
    table.add_column("started (UTC)", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    table.add_column("failed", justify="right", no_wrap=True)
    if has_cost:
        table.add_column("cost", justify="right", no_wrap=True)
    for run in runs:
        verdict = Text(run.verdict, style=_VERDICT_STYLES.get(run.verdict, ""))
        if run.kind == "partial":
            verdict.append(", partial")
        table.add_row(
            Text(formatting.printable(run.run)),
            formatting.moment(run.started_at),
            verdict,
            "" if run.failed_answers is None else f"{run.failed_answers:,}",
            *(("" if run.cost_usd is None else dollars(run.cost_usd),) if has_cost else ()),
        )
    return table


def _notes(runs: Sequence[PastRun]) -> Iterator[Text]:
    """Yield what is to be known of runs beside their verdicts: what keeps them outside the series, or how far they are."""
    before: str | None = None
    for run in runs:
        notes = []
        if run.kind == "rescored":
            notes.append(f"answers of {formatting.printable(run.derived_from or '')} scored again, outside the series")
        elif run.kind == "partial":
            notes.append("some rows only, outside the series")
        if run.finished_at is None:
            notes.append(_how_far(run))
        if run.previous not in {None, before} and (before is not None or run.kind != "series"):
            notes.append(f"compared with {formatting.printable(run.previous or '')}")
        if run.kind == "series":
            before = run.run
        if notes:
            yield Text.assemble((f"{formatting.printable(run.run)}: ", "bold"), "; ".join(notes))


def _how_far(run: PastRun) -> str:
    progress = run.progress
    if progress is None:
        return "nothing is sent yet"
    if progress.is_finished:
        return "not scored yet"
    answered = f"{progress.answered:,} of {progress.counts.total:,} answered"
    judging = "" if progress.workload.name == run.run else f" ({formatting.printable(progress.workload.name)})"
    return f"{progress.state.value}: {answered}{judging}"


def _trends(runs: Sequence[PastRun]) -> Iterator[Trend]:
    series = [run for run in runs if run.kind == "series" and run.scores]
    shown = [score for run in series for score in run.scores]
    models, has_prompts = formatting.short_models(entry.model for entry in shown), _has_prompts(shown)
    for scorer, prompt, model in dict.fromkeys((score.scorer, score.prompt, score.model) for score in shown):
        points = [
            TrendPoint(
                run.run,
                score.mean,
                score.low,
                score.high,
                score.difference,
                is_sure=score.p_value is not None and score.p_value < _SURE_P,
                is_alarm=score.is_alarm,
            )
            for run in series
            for score in run.scores
            if (score.scorer, score.prompt, score.model) == (scorer, prompt, model)
        ]
        yield Trend(f"{scorer} of {models[model]}" + (f" with {prompt}" if has_prompts else ""), points)


def compared_view(found: RunsCompared) -> Iterator[RenderableType]:
    """Yield what ``compare`` prints: what differs, then the metrics side by side, then each comparison."""
    first = formatting.printable(found.runs[0])
    for one in found.comparisons:
        for difference in one.differences:
            sentence = f"{first} -> {formatting.printable(one.run)}: {formatting.printable(difference)}"
            yield Text(sentence, style="yellow")
    yield _SideBySide(found)
    for one in found.comparisons:
        yield _changes_table(first, one)
        for why in one.uncompared:
            yield Text(formatting.printable(why), style="yellow")
    if any(one.changes for one in found.comparisons):
        yield Text(
            "p is corrected (Holm) for the metrics of all comparisons, and apart from these for their slices",
            style="dim",
        )


def compared_for_machines(found: RunsCompared) -> dict[str, Any]:
    """Return the JSON of ``compare``: the metrics of each run, null where it has none, and the comparisons with the first."""
    return {"schema_version": SCHEMA_VERSION, **asdict(found)}


class _SideBySide:
    """The metrics of the runs, as many columns beside each other as the terminal has room for."""

    def __init__(self, found: RunsCompared) -> None:
        self._found = found
        self._models = formatting.short_models(entry.model for entry in found.metrics)
        self._has_prompts = _has_prompts(found.metrics)

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        found = self._found
        named = [self._name(metric) for metric in found.metrics]
        widths = [max(map(len, column)) for column in zip(*named, strict=True)] if named else []
        titles = [formatting.printable(run) for run in found.runs]
        room = options.max_width - min(sum(widths) + _GAP * len(widths), options.max_width // 2)
        at_once = max(room // (max(_NUMBER, min(max(map(len, titles)), 14)) + _GAP), 1)
        for begin in range(0, len(titles), at_once):
            yield self._table(named, range(begin, min(begin + at_once, len(titles))), titles)

    def _table(self, named: Sequence[tuple[str, ...]], places: Iterable[int], titles: Sequence[str]) -> Table:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for column in ("metric", *(("prompt",) if self._has_prompts else ()), "model", "rows of"):
            table.add_column(column, overflow="fold")
        places = list(places)
        for place in places:
            table.add_column(titles[place], justify="right", overflow="fold")
        for name, metric in zip(named, self._found.metrics, strict=True):
            cells = [metric.of_runs[place] for place in places]
            table.add_row(*map(Text, name), *("" if cell is None else f"{cell.mean:.3f}" for cell in cells))
        return table

    def _name(self, metric: MetricOfRuns) -> tuple[str, ...]:
        prompt = (metric.prompt,) if self._has_prompts else ()
        return metric.scorer, *prompt, self._models[metric.model], metric.slice or "all"


def _changes_table(first: str, one: RunCompared) -> RenderableType:
    again = f", scored again ({formatting.printable(one.rescored)})" if one.rescored else ""
    title = f"{formatting.printable(one.run)} compared with {first}{again}"
    shown = [change for change in one.changes if change.slice is None or change.corrected_p < _SURE_P]
    if not shown:
        return Group(Text(title, style="bold"), Text("nothing could be compared"))
    has_slices = any(change.slice for change in shown)
    models, has_prompts = formatting.short_models(entry.model for entry in shown), _has_prompts(shown)
    table = Table(box=SIMPLE_HEAD, title=Text(title, style="bold"), title_justify="left", pad_edge=False)
    names = ("metric", *(("prompt",) if has_prompts else ()), "model", *(("rows of",) if has_slices else ()))
    for column in names:
        table.add_column(column, overflow="fold")
    for column in ("rows", "change", "95 %", "fell", "rose", "p"):
        table.add_column(column, justify="right", no_wrap=True)
    for change in shown:
        prompt = (Text(change.prompt),) if has_prompts else ()
        within = (Text(change.slice or "all"),) if has_slices else ()
        table.add_row(Text(change.scorer), *prompt, Text(models[change.model]), *within, *_figures(change))
    return table


def _figures(change: PairedChange) -> tuple[str, ...]:
    return (
        f"{change.pairs:,}",
        f"{change.difference:+.3f}",
        f"{change.low:+.3f} {change.high:+.3f}",
        f"{change.fell:,}",
        f"{change.rose:,}",
        p_text(change.corrected_p),
    )


def _has_prompts(shown: Sequence[RunScore | MetricOfRuns | PairedChange]) -> bool:
    return len({entry.prompt for entry in shown}) > 1
