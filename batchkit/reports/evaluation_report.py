"""An evaluation run for the page: its verdict, every metric with its interval, the changes, and the rows to read first."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from batchkit import formatting
from batchkit.datasets.values import text_of
from batchkit.evaluation import sentences
from batchkit.evaluation.results import scored_rows
from batchkit.reports import charts
from batchkit.reports.headline import Headline
from batchkit.reports.rows import rows_of
from batchkit.reports.text import cut
from batchkit.reports.views import Figure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from markupsafe import Markup

    from batchkit.engine.runtime import Runner
    from batchkit.evaluation.results import Change, EvaluationSummary, Metric, ScoredRow
    from batchkit.models import Workload
    from batchkit.reports.rows import ShownRow

_EXPECTED_BYTES = 400
_NAME_BYTES = 200
#: The largest number of slices of a scorer that are shown, the worst ones.
_SLICES = 40
_MOST_RISES = 100
_FIGURES = 4
_SMALLEST_P_VALUE = 0.001
#: Rounding errors below this do not extend the scale: 0.1 * 3 is not exactly 0.3.
_ROUNDING = 1e-9


class Estimate(NamedTuple):
    """A row with a whisker: its cells, its chart, and the same as numbers."""

    cells: tuple[str, ...]
    chart: Markup
    value: str
    interval: str
    rows: str


@dataclass(frozen=True, slots=True)
class Estimates:
    """A table of estimates on one scale."""

    title: str
    caption: str
    columns: tuple[str, ...]
    lines: tuple[Estimate, ...]
    axis: Markup
    note: str = ""


class ChangeLine(NamedTuple):
    """A metric now and before; ``tone`` is the colour of the difference."""

    scorer: str
    arm: str
    before: str
    after: str
    chart: Markup
    difference: str
    tone: str
    p_value: str
    flipped: str
    alarm: str


@dataclass(frozen=True, slots=True)
class ComparisonTable:
    """This run compared with an earlier one."""

    title: str
    lines: tuple[ChangeLine, ...]
    axis: Markup
    note: str


class JudgeLine(NamedTuple):
    """The agreement of a judge with people."""

    scorer: str
    chart: Markup
    same: str
    kappa: str
    rows: str


@dataclass(frozen=True, slots=True)
class EvaluationView:
    """An evaluation run for the template."""

    name: str
    suite: str
    headline: Headline
    facts_line: str
    figures: tuple[Figure, ...]
    metrics: tuple[Estimates, ...]
    comparison: ComparisonTable | None
    slices: tuple[Estimates, ...]
    judges: tuple[JudgeLine, ...]
    notes: tuple[str, ...]


def evaluation_view(summary: EvaluationSummary) -> EvaluationView:
    """Return the texts, figures and charts for a run's summary."""
    return EvaluationView(
        name=summary.run,
        suite=summary.suite,
        headline=_headline(summary),
        facts_line=_facts_line(summary),
        figures=tuple(_figures(summary)),
        metrics=tuple(_metrics(summary.metrics)),
        comparison=_comparison(summary),
        slices=tuple(_slices(summary.metrics)),
        judges=tuple(
            JudgeLine(
                _brief(judge.scorer),
                charts.whisker(charts.Domain(0, 1), judge.low, judge.same, judge.high),
                f"{formatting.percent(round(judge.same * judge.rows), judge.rows)} ({judge.low:.3f} to {judge.high:.3f})",
                judge.reason or "undefined" if judge.kappa is None else f"{judge.kappa:.3f}",
                f"{judge.rows:,}",
            )
            for judge in summary.judge_agreement
        ),
        notes=tuple(
            cut(note, _EXPECTED_BYTES).text
            for note in (
                *(f"Since {summary.previous}: {difference}." for difference in summary.differences),
                *(
                    f"Not enough is scored: {sentences.scoring_sentence(short)}."
                    for short in sentences.lacking(summary)
                ),
                *summary.notes,
            )
        ),
    )


def worst_scored(runner: Runner, workload: Workload, run: str, *, limit: int) -> list[ShownRow]:
    """Return the rows of a run to read first, with their scores.

    First the rows whose score fell since the previous run, then failed answers, then the lowest scores, and at the end some rows
    whose score rose. Reads all scores once, and keeps at most ``limit`` rows.
    """
    candidates = [_candidate(row) for row in _lowest(scored_rows(runner, run), limit)]
    shown = {row.place - 1: row for row in rows_of(runner, workload, [candidate.seq for candidate in candidates])}
    return [
        replace(shown[one.seq], scores=one.scores, expected=one.expected, flipped=one.flipped)
        for one in candidates
        if one.seq in shown
    ]


class _Candidate(NamedTuple):
    seq: int
    scores: tuple[tuple[str, str], ...]
    expected: Any
    flipped: str | None


def _lowest(rows: Iterable[ScoredRow], limit: int) -> list[ScoredRow]:
    """Select in one pass: the worst rows, and the rows that rose, for which a part of the limit is reserved."""
    risen_room = min(limit // 5, _MOST_RISES)
    worst: list[tuple[Any, int, ScoredRow]] = []
    risen: list[tuple[Any, int, ScoredRow]] = []
    for row in rows:
        heap, room = (risen, risen_room) if row.flipped == "up" else (worst, limit)
        # The first of a heap is its smallest: the best of the worst rows is dropped.
        entry = (_inverted(_rank(row)), -row.seq, replace(row, row={}, answer_text=None))
        if len(heap) < room:
            heapq.heappush(heap, entry)
        elif room:
            heapq.heappushpop(heap, entry)
    kept = sorted(worst, reverse=True)[: limit - len(risen)]
    return [row for _, _, row in kept + sorted(risen, reverse=True)]


def _rank(row: ScoredRow) -> tuple[int, float]:
    given = [score for score in row.scores.values() if score is not None]
    mean = sum(given) / len(given) if given else 0.0
    if row.flipped == "down":
        return 0, mean
    return (1, mean) if row.status != "succeeded" else (2, mean)


def _inverted(rank: tuple[int, float]) -> tuple[int, float]:
    return -rank[0], -rank[1]


def _candidate(row: ScoredRow) -> _Candidate:
    scores = tuple((_brief(name), "-" if score is None else f"{score:.4g}") for name, score in row.scores.items())
    expected = None
    if row.expected is not None:
        text = text_of(row.expected)
        expected = cut(text, _EXPECTED_BYTES)
    return _Candidate(row.seq, scores, expected, row.flipped)


def _headline(summary: EvaluationSummary) -> Headline:
    alarms = summary.alarms
    if summary.verdict == "unfinished":
        return Headline(
            "unfinished",
            "open",
            "The run is not finished: there are no scores yet.",
            "Exit code 4: the same command resumes.",
        )
    if summary.verdict == "regressed":
        first = min(alarms, key=lambda change: change.difference, default=None)
        fell = (
            ""
            if first is None
            else f": {_brief(first.scorer)} fell from {first.before:.3f} to {first.after:.3f}"
            f" ({_arm(first)}{f', {_brief(first.slice)}' if first.slice else ''})"
        )
        counted = formatting.counted(len(alarms), "alarm")
        return Headline(
            "regressed",
            "bad",
            f"{counted} went off{fell}.",
            f"Exit code 5: worse than {summary.previous}, beyond noise.",
        )
    if summary.verdict == "unscored":
        why = cut(sentences.reason(summary), _EXPECTED_BYTES).text
        return Headline(
            "unscored",
            "bad",
            f"Too few answers have a score: {why}.",
            "Exit code 3: this run is compared with no other.",
        )
    if summary.verdict == "incomparable":
        why = cut(sentences.reason(summary), _EXPECTED_BYTES).text
        return Headline("incomparable", "open", f"The run is scored, but not compared: {why}.", "Exit code 3.")
    if summary.verdict == "first":
        return Headline(
            "first",
            "good",
            "The run is finished and scored; there was no run to compare with.",
            "Exit code 0 when every request succeeded, else 3.",
        )
    watched = [change for change in (*summary.changes, *summary.slice_changes) if change.threshold is not None]
    verdict = (
        f"No metric with an alarm fell significantly beyond its threshold, compared with {summary.previous}."
        if watched
        else "The run is finished; no alarm had a run to compare with."
    )
    return Headline("passed", "good", verdict, "Exit code 0 when every request succeeded, else 3.")


def _facts_line(summary: EvaluationSummary) -> str:
    text = f"Suite {summary.suite}, version {summary.suite_version[:12]}, started {formatting.moment(summary.started_at)} UTC"
    if summary.finished_at is not None:
        text += f", finished after {formatting.duration(summary.finished_at - summary.started_at)}"
    return text


def _figures(summary: EvaluationSummary) -> list[Figure]:
    overall = [metric for metric in summary.metrics if metric.slice is None]
    found = [_best(list(group)) for _, group in groupby(overall, key=lambda metric: metric.scorer)][:_FIGURES]
    if summary.previous is not None:
        down, up = (
            sum(change.flipped_down for change in summary.changes),
            sum(change.flipped_up for change in summary.changes),
        )
        found.append(
            Figure("Rows that flipped", f"{down + up:,}", f"{down:,} fell, {up:,} rose since {summary.previous}")
        )
    if summary.verdict != "unfinished":
        found.append(Figure("Answers that failed", f"{summary.failed_answers:,}", "they have no score of their own"))
    return found


def _best(metrics: Sequence[Metric]) -> Figure:
    best = max(metrics, key=lambda metric: metric.mean)
    of = f", the highest of {len(metrics)}" if len(metrics) > 1 else ""
    return Figure(_brief(best.scorer), _score(best.mean), f"{_arm(best)}{of}")


def _metrics(metrics: Sequence[Metric]) -> list[Estimates]:
    """Return the metrics over all rows, a table for each scorer."""
    overall = [metric for metric in metrics if metric.slice is None]
    return [
        _estimates(
            list(group),
            title=_title(scorer, overall),
            first=("Prompt and model",),
            cells=lambda metric: (_arm(metric),),
        )
        for scorer, group in groupby(overall, key=lambda metric: metric.scorer)
    ]


def _title(scorer: str, overall: Sequence[Metric]) -> str:
    own = [metric for metric in overall if metric.scorer == scorer]
    best = max(own, key=lambda metric: metric.mean)
    if len(own) == 1:
        return f"{_brief(scorer)}: {_score(best.mean)} for {_arm(best)}"
    return f"{_brief(scorer)}: highest for {_arm(best)}, {_score(best.mean)}"


def _slices(metrics: Sequence[Metric]) -> list[Estimates]:
    """Return the slices of each scorer, the lowest first."""
    sliced = [metric for metric in metrics if metric.slice is not None]
    found = []
    for scorer, group in groupby(sliced, key=lambda metric: metric.scorer):
        own = sorted(group, key=lambda metric: metric.mean)
        lowest = own[0]
        note = f"{len(own) - _SLICES:,} more are not shown." if len(own) > _SLICES else ""
        found.append(
            _estimates(
                own[:_SLICES],
                title=f"{_brief(scorer)} by slice: lowest for {_brief(lowest.slice or '')}, {_score(lowest.mean)}",
                first=("Slice", "Prompt and model"),
                cells=lambda metric: (_brief(metric.slice or ""), _arm(metric)),
                note=note,
            )
        )
    return found


def _estimates(
    metrics: Sequence[Metric], *, title: str, first: tuple[str, ...], cells: Any, note: str = ""
) -> Estimates:
    domain = _scale([value for metric in metrics for value in (metric.low, metric.high)])
    methods = ", ".join(dict.fromkeys(metric.method for metric in metrics))
    return Estimates(
        title,
        f"Mean with its interval ({methods}), the number of its rows, and of answers without a score",
        first,
        tuple(
            Estimate(
                cells(metric),
                charts.whisker(domain, metric.low, metric.mean, metric.high),
                _score(metric.mean),
                f"{metric.low:.3f} to {metric.high:.3f}",
                f"{metric.count:,}" + (f", {metric.unscored:,} without" if metric.unscored else ""),
            )
            for metric in metrics
        ),
        charts.number_axis(domain),
        note,
    )


def _comparison(summary: EvaluationSummary) -> ComparisonTable | None:
    if summary.previous is None or not summary.changes:
        return None
    changes = sorted(summary.changes, key=lambda change: (not change.is_alarm, change.difference))
    widest = max((abs(value) for change in changes for value in (change.low, change.high)), default=0.0) or 1.0
    domain = charts.Domain(-widest, widest)
    alarms = sum(change.is_alarm for change in changes)
    title = (
        f"Compared with {summary.previous}: {formatting.counted(alarms, 'alarm')}"
        if alarms
        else f"Compared with {summary.previous}: no alarm"
    )
    methods = ", ".join(dict.fromkeys(change.method for change in changes))
    return ComparisonTable(
        title,
        tuple(_change_line(change, domain) for change in changes),
        charts.number_axis(domain, "{:+.3g}"),
        f"Differences over the rows that both runs have, with 95 % intervals ({methods}).",
    )


def _change_line(change: Change, domain: charts.Domain) -> ChangeLine:
    is_noise = change.low <= 0 <= change.high
    tone = "quiet" if is_noise else ("down" if change.difference < 0 else "up")
    alarm = "alarm" if change.is_alarm else ("watched" if change.threshold is not None else "")
    if change.threshold is not None:
        alarm += f", from a fall of {change.threshold:g}"
    return ChangeLine(
        _brief(change.scorer),
        _arm(change),
        _score(change.before),
        _score(change.after),
        charts.whisker(domain, change.low, change.difference, change.high, reference=0.0),
        f"{change.difference:+.3f} ({change.low:+.3f} to {change.high:+.3f})",
        tone,
        "p < 0.001" if change.p_value < _SMALLEST_P_VALUE else f"p = {change.p_value:.3f}",
        f"{change.flipped_down:,} fell, {change.flipped_up:,} rose of {change.pairs:,}",
        alarm,
    )


def _scale(values: Sequence[float]) -> charts.Domain:
    """Return a scale with round ends that includes all values."""
    low, high = min(values), max(values)
    step = 10 ** math.floor(math.log10(high - low)) if high > low else 0.1
    first, last = math.floor(low / step + _ROUNDING), math.ceil(high / step - _ROUNDING)
    return charts.Domain(first * step, max(last, first + 1) * step)


def _arm(of: Metric | Change) -> str:
    return _brief(of.model if of.prompt in {"", "prompt"} else f"{of.prompt}, {of.model}")


def _score(value: float) -> str:
    return f"{value:.3f}"


def _brief(text: str) -> str:
    return cut(text, _NAME_BYTES).text
