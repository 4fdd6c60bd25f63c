"""An evaluation run for the page: its verdict, every metric with its interval, the changes, and the rows to read first."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from batchkit import formatting
from batchkit.datasets.values import text_of
from batchkit.evaluation import sentences
from batchkit.evaluation.results import scored_rows
from batchkit.reports import charts, evaluation_headline
from batchkit.reports.evaluation_headline import arm_name, brief, score_text
from batchkit.reports.evaluation_trend import trends
from batchkit.reports.rows import rows_of
from batchkit.reports.text import cut

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from markupsafe import Markup

    from batchkit.engine.runtime import Runner
    from batchkit.evaluation.results import Change, EvaluationSummary, Metric, ScoredRow
    from batchkit.models import Workload
    from batchkit.reports.evaluation_trend import Trends
    from batchkit.reports.headline import Headline
    from batchkit.reports.rows import ShownRow
    from batchkit.reports.views import Counts, Figure

_EXPECTED_BYTES = 400
#: The largest number of slices of a scorer that are shown, the worst ones, and of compared slices.
_SLICES = 40
_MOST_RISES = 100
_MOST_PAIRS = 28
_SMALLEST_P_VALUE = 0.001


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
    """A metric now and before, of a ``slice`` or of all rows; ``tone`` is the colour of the difference."""

    scorer: str
    slice: str
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
    """This run compared with an earlier one: its metrics, or those of slices."""

    title: str
    lines: tuple[ChangeLine, ...]
    axis: Markup
    note: str
    has_slices: bool = False


class JudgeLine(NamedTuple):
    """The agreement of a judge with people."""

    scorer: str
    chart: Markup
    same: str
    kappa: str
    rows: str


@dataclass(frozen=True, slots=True)
class EvaluationView:
    """An evaluation run for the template. ``changed`` is what else changed, beside the answers."""

    name: str
    suite: str
    headline: Headline
    changed: tuple[str, ...]
    facts_line: str
    figures: tuple[Figure, ...]
    metrics: tuple[Estimates, ...]
    comparison: ComparisonTable | None
    compared_slices: ComparisonTable | None
    slices: tuple[Estimates, ...]
    arms: tuple[str, ...]
    kinds: tuple[Counts, ...]
    trends: Trends | None
    judges: tuple[JudgeLine, ...]
    notes: tuple[str, ...]


def evaluation_view(
    summary: EvaluationSummary,
    *,
    cut_answers: Sequence[str] = (),
    kinds: Sequence[Counts] = (),
    series: Sequence[EvaluationSummary] = (),
) -> EvaluationView:
    """Return the texts, figures and charts for a run's summary.

    ``cut_answers`` are sentences about answers that the limit of tokens has cut, ``kinds`` are tables of the kinds of changed or wrong
    answers, ``series`` are the last runs of the suite.
    """
    return EvaluationView(
        name=summary.run,
        suite=summary.suite,
        headline=evaluation_headline.headline_of(summary),
        changed=tuple(evaluation_headline.changed(summary, cut_answers)),
        facts_line=_facts_line(summary),
        figures=tuple(evaluation_headline.figures(summary)),
        metrics=tuple(_metrics(summary.metrics)),
        comparison=_comparison(summary),
        compared_slices=_compared_slices(summary),
        slices=tuple(_slices(summary.metrics)),
        arms=tuple(cut(line, _EXPECTED_BYTES).text for line in islice(sentences.between_arms(summary), _MOST_PAIRS)),
        kinds=tuple(kinds),
        trends=trends(series, summary),
        judges=tuple(
            JudgeLine(
                brief(judge.scorer),
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
                *(
                    f"Not enough is scored: {sentences.scoring_sentence(short)}."
                    for short in sentences.lacking(summary)
                ),
                # Without a run before, they are no change.
                *(cut_answers if summary.previous is None else ()),
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
    scores = tuple((brief(name), "-" if score is None else f"{score:.4g}") for name, score in row.scores.items())
    expected = None
    if row.expected is not None:
        text = text_of(row.expected)
        expected = cut(text, _EXPECTED_BYTES)
    return _Candidate(row.seq, scores, expected, row.flipped)


def _facts_line(summary: EvaluationSummary) -> str:
    text = f"Suite {summary.suite}, version {summary.suite_version[:12]}, started {formatting.moment(summary.started_at)} UTC"
    if summary.finished_at is not None:
        text += f", finished after {formatting.duration(summary.finished_at - summary.started_at)}"
    return text


def _metrics(metrics: Sequence[Metric]) -> list[Estimates]:
    """Return the metrics over all rows, a table for each scorer."""
    overall = [metric for metric in metrics if metric.slice is None]
    return [
        _estimates(
            list(group),
            title=_title(scorer, overall),
            first=("Prompt and model",),
            cells=lambda metric: (arm_name(metric),),
        )
        for scorer, group in groupby(overall, key=lambda metric: metric.scorer)
    ]


def _title(scorer: str, overall: Sequence[Metric]) -> str:
    own = [metric for metric in overall if metric.scorer == scorer]
    best = max(own, key=lambda metric: metric.mean)
    if len(own) == 1:
        return f"{brief(scorer)}: {score_text(best.mean)} for {arm_name(best)}"
    return f"{brief(scorer)}: highest for {arm_name(best)}, {score_text(best.mean)}"


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
                title=f"{brief(scorer)} by slice: lowest for {brief(lowest.slice or '')}, {score_text(lowest.mean)}",
                first=("Slice", "Prompt and model"),
                cells=lambda metric: (brief(metric.slice or ""), arm_name(metric)),
                note=note,
            )
        )
    return found


def _estimates(
    metrics: Sequence[Metric], *, title: str, first: tuple[str, ...], cells: Any, note: str = ""
) -> Estimates:
    domain = charts.round_domain([value for metric in metrics for value in (metric.low, metric.high)])
    methods = ", ".join(dict.fromkeys(metric.method for metric in metrics))
    return Estimates(
        title,
        f"Mean with its interval ({methods}), the number of its rows, and of answers without a score",
        first,
        tuple(
            Estimate(
                cells(metric),
                charts.whisker(domain, metric.low, metric.mean, metric.high),
                score_text(metric.mean),
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
    alarms = sum(change.is_alarm for change in changes)
    title = (
        f"Compared with {summary.previous}: {formatting.counted(alarms, 'alarm')}"
        if alarms
        else f"Compared with {summary.previous}: no alarm"
    )
    return _table(title, changes)


def _compared_slices(summary: EvaluationSummary) -> ComparisonTable | None:
    """Return the slices with alarms first, then those that changed the most."""
    if not summary.slice_changes:
        return None
    changes = sorted(summary.slice_changes, key=lambda change: (not change.is_alarm, -abs(change.difference)))
    alarms = sum(change.is_alarm for change in changes)
    lowest = min(changes, key=lambda change: change.difference)
    title = f"Slices: {formatting.counted(alarms, 'alarm')}" if alarms else "Slices: no alarm"
    if lowest.difference < 0:
        title += f"; the largest fall is that of {brief(lowest.slice or '')}, {lowest.difference:+.3f}"
    left = len(changes) - _SLICES
    return _table(title, changes[:_SLICES], f" {left:,} more are not shown." if left > 0 else "", has_slices=True)


def _table(title: str, changes: Sequence[Change], left_out: str = "", *, has_slices: bool = False) -> ComparisonTable:
    widest = max((abs(value) for change in changes for value in (change.low, change.high)), default=0.0) or 1.0
    domain = charts.Domain(-widest, widest)
    methods = ", ".join(dict.fromkeys(change.method for change in changes))
    return ComparisonTable(
        title,
        tuple(_change_line(change, domain) for change in changes),
        charts.number_axis(domain, "{:+.3g}"),
        f"Differences over the rows that both runs have, with 95 % intervals ({methods}).{left_out}",
        has_slices,
    )


def _change_line(change: Change, domain: charts.Domain) -> ChangeLine:
    is_noise = change.low <= 0 <= change.high
    tone = "quiet" if is_noise else ("down" if change.difference < 0 else "up")
    alarm = "alarm" if change.is_alarm else ("watched" if change.threshold is not None else "")
    if change.threshold is not None:
        alarm += f", from a fall of {change.threshold:g}"
    if change.since is not None:
        alarm += f", on since {brief(change.since)}"
    if change.window is not None:
        alarm += f"{', ' if alarm else ''}over {change.window.runs:,} runs: {brief(sentences.window_sentence(change.window))}"
    return ChangeLine(
        brief(change.scorer),
        brief(change.slice or ""),
        arm_name(change),
        score_text(change.before),
        score_text(change.after),
        charts.whisker(domain, change.low, change.difference, change.high, reference=0.0),
        f"{change.difference:+.3f} ({change.low:+.3f} to {change.high:+.3f})",
        tone,
        "p < 0.001" if change.p_value < _SMALLEST_P_VALUE else f"p = {change.p_value:.3f}",
        f"{change.flipped_down:,} fell, {change.flipped_up:,} rose of {change.pairs:,}",
        alarm,
    )
