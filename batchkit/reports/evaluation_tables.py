"""The tables of an evaluation's page: every metric and slice with its interval, before and now. However many there are, they are bounded."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from batchkit import formatting
from batchkit.evaluation import sentences
from batchkit.evaluation.results import Change
from batchkit.reports import charts
from batchkit.reports.evaluation_headline import arm_name, brief, score_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from markupsafe import Markup

    from batchkit.evaluation.results import EvaluationSummary, Metric
    from batchkit.evaluation.side_by_side import RunCompared

#: The largest number of lines of a table, and of those that are folded below it.
_LINES = 40
#: Shorter tables are not folded.
_SHORT = 8
_NOTABLE_P = 0.05
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
    """This run compared with an earlier one: its metrics, or those of slices. ``folded`` are the lines that did not move."""

    title: str
    lines: tuple[ChangeLine, ...]
    axis: Markup
    note: str
    has_slices: bool = False
    folded: tuple[ChangeLine, ...] = ()
    folded_title: str = ""


def metric_tables(summary: EvaluationSummary) -> Iterator[Estimates]:
    """Yield the metrics over all rows, a table for each scorer; of very many those that moved, and then the lowest."""
    moved = {(change.scorer, change.prompt, change.model) for change in summary.changes if _is_notable(change)}
    overall = [metric for metric in summary.metrics if metric.slice is None]
    for scorer, group in groupby(overall, key=lambda metric: metric.scorer):
        own = list(group)
        if len(own) > _LINES:
            own.sort(key=lambda metric: ((metric.scorer, metric.prompt, metric.model) not in moved, metric.mean))
        yield _estimates(
            own[:_LINES],
            title=_title(brief(summary.metric_of(scorer)), own),
            first=("Prompt and model",),
            cells=lambda metric: (arm_name(metric),),
            note=_left_out(len(own) - _LINES),
        )


def _title(name: str, own: Sequence[Metric]) -> str:
    best = max(own, key=lambda metric: metric.mean)
    if len(own) == 1:
        return f"{name}: {score_text(best.mean)} for {arm_name(best)}"
    return f"{name}: highest for {arm_name(best)}, {score_text(best.mean)}"


def slice_tables(metrics: Sequence[Metric]) -> Iterator[Estimates]:
    """Yield the slices of each scorer, the lowest first."""
    sliced = [metric for metric in metrics if metric.slice is not None]
    for scorer, group in groupby(sliced, key=lambda metric: metric.scorer):
        own = sorted(group, key=lambda metric: metric.mean)
        lowest = own[0]
        yield _estimates(
            own[:_LINES],
            title=f"{brief(scorer)} by slice: lowest for {brief(lowest.slice or '')}, {score_text(lowest.mean)}",
            first=("Slice", "Prompt and model"),
            cells=lambda metric: (brief(metric.slice or ""), arm_name(metric)),
            note=_left_out(len(own) - _LINES),
        )


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


def comparison(summary: EvaluationSummary) -> ComparisonTable | None:
    """Return the metrics over all rows before and now, those with alarms first, then what fell the most."""
    if summary.previous is None or not summary.changes:
        return None
    changes = sorted(summary.changes, key=lambda change: (not change.is_alarm, change.difference))
    alarms = sum(change.is_alarm for change in changes)
    said = formatting.counted(alarms, "alarm") if alarms else "no alarm"
    return _table(f"Compared with {brief(summary.previous)}: {said}", changes)


def compared_slices(summary: EvaluationSummary) -> ComparisonTable | None:
    """Return the slices before and now, those with alarms first, then those whose change chance explains the least."""
    if not summary.slice_changes:
        return None
    changes = sorted(
        summary.slice_changes, key=lambda change: (not change.is_alarm, change.p_value, -abs(change.difference))
    )
    alarms = sum(change.is_alarm for change in changes)
    title = f"Slices: {formatting.counted(alarms, 'alarm')}" if alarms else "Slices: no alarm"
    if changes[0].difference < 0 and _is_notable(changes[0]):
        title += f"; the surest fall is that of {brief(changes[0].slice or '')}, {changes[0].difference:+.3f}"
    return _table(title, changes, has_slices=True)


def paired(found: RunCompared) -> Iterator[ComparisonTable]:
    """Yield the tables of two runs that were chosen freely: the metrics, and the slices. P-values are corrected for all of them."""
    for has_slices in (False, True):
        changes = [
            Change(
                scorer=one.scorer,
                prompt=one.prompt,
                model=one.model,
                before=one.before,
                after=one.after,
                difference=one.difference,
                low=one.low,
                high=one.high,
                p_value=one.corrected_p,
                method=one.method,
                pairs=one.pairs,
                is_alarm=False,
                threshold=None,
                flipped_down=one.fell,
                flipped_up=one.rose,
                slice=one.slice,
            )
            for one in found.changes
            if (one.slice is not None) is has_slices
        ]
        if changes:
            changes.sort(key=lambda change: (change.p_value, -abs(change.difference)))
            yield _table("Slices" if has_slices else "Metrics over all rows", changes, has_slices=has_slices)


def _table(title: str, changes: Sequence[Change], *, has_slices: bool = False) -> ComparisonTable:
    moved = [change for change in changes if len(changes) <= _SHORT or _is_notable(change)]
    still = [] if len(changes) <= _SHORT else [change for change in changes if not _is_notable(change)]
    shown, folded = moved[:_LINES], still[:_LINES]
    widest = max((abs(value) for one in (*shown, *folded) for value in (one.low, one.high)), default=0.0) or 1.0
    domain = charts.Domain(-widest, widest)
    methods = ", ".join(dict.fromkeys(change.method for change in changes))
    left = _left_out(len(changes) - len(shown) - len(folded))
    return ComparisonTable(
        title,
        tuple(_change_line(change, domain) for change in shown),
        charts.number_axis(domain, "{:+.3g}"),
        f"Differences over the rows that both runs have, with 95 % intervals ({methods}). {left}".strip(),
        has_slices,
        tuple(_change_line(change, domain) for change in folded),
        f"{len(still):,} more, whose change may be chance (p is {_NOTABLE_P:g} or more)" if still else "",
    )


def _is_notable(change: Change) -> bool:
    return change.is_alarm or change.p_value < _NOTABLE_P


def _left_out(count: int) -> str:
    return f"{count:,} more are not shown; --json has all of them." if count > 0 else ""


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
