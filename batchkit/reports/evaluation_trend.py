"""The metrics of a suite over its last runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from batchkit import formatting
from batchkit.evaluation.results import SUMMARY, find_run
from batchkit.reports.charts import round_domain
from batchkit.reports.evaluation_headline import arm_name, brief, score_text
from batchkit.reports.text import cut
from batchkit.reports.trend_chart import TrendPoint, trend
from batchkit.store import evaluations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from batchkit.engine.runtime import Runner
    from batchkit.evaluation.results import EvaluationSummary, Metric

RUNS = 30
#: Of more metrics, those that fell the most are drawn: a chart of 30 runs takes some 12 kB.
_MOST_CHARTS = 8
_LEAST_RUNS = 2
_NAME_BYTES = 60


class Trend(NamedTuple):
    """A metric of one prompt and model over several runs."""

    title: str
    chart: Markup
    note: str


@dataclass(frozen=True, slots=True)
class Trends:
    """The trends of a suite; ``note`` says what is drawn."""

    title: str
    charts: tuple[Trend, ...]
    note: str


def read_series(runner: Runner, found: EvaluationSummary) -> list[EvaluationSummary]:
    """Return the last fully scored runs of the suite's series, oldest first, up to this one; it is the last, if it is one of them."""
    evaluation = find_run(runner, found.run)
    belongs = evaluation.number is not None and evaluation.fully_scored
    with runner.store.read() as connection:
        earlier = evaluations.before(connection, evaluation, limit=RUNS - belongs)
    read = [SUMMARY.validate_json(run.summary) for run in reversed(earlier) if run.summary is not None]
    return [*read, found] if belongs else read


def trends(series: Sequence[EvaluationSummary], found: EvaluationSummary) -> Trends | None:
    """Return the trend of each metric over all rows, the largest falls first; None with fewer than two runs."""
    if len(series) < _LEAST_RUNS:
        return None
    changes = {(change.scorer, change.prompt, change.model): change.difference for change in found.changes}
    last = {_key(metric): metric for run in series for metric in run.metrics if metric.slice is None}
    # Only what the latest run measures: a model that is gone has no trend.
    current = found.metrics or series[-1].metrics
    keys = [_key(metric) for metric in current if metric.slice is None and _key(metric) in last]
    keys.sort(key=lambda key: changes.get(key, 0.0))
    drawn = [chart for chart in (_trend(series, key) for key in keys[:_MOST_CHARTS]) if chart is not None]
    if not drawn:
        return None
    left = f" {len(keys) - _MOST_CHARTS:,} more are not drawn." if len(keys) > _MOST_CHARTS else ""
    return Trends(
        f"The last {formatting.counted(len(series), 'run')} of {brief(found.suite)}",
        tuple(drawn),
        "Mean and 95 % interval of each fully scored run, oldest first, up to this one. A triangle: an alarm of this metric"
        f" went off, over all rows, over several runs or in a slice. A diamond: the run could not be compared. A dashed line: the suite or its scorers changed.{left}",
    )


def _key(metric: Metric) -> tuple[str, str, str]:
    return metric.scorer, metric.prompt, metric.model


def _trend(series: Sequence[EvaluationSummary], key: tuple[str, str, str]) -> Trend | None:
    points: list[TrendPoint] = []
    version = ""
    for place, run in enumerate(series):
        metric = next((metric for metric in run.metrics if metric.slice is None and _key(metric) == key), None)
        is_changed = bool(version) and run.suite_version != version
        version = run.suite_version
        if metric is not None:
            label = f"{cut(run.run, _NAME_BYTES).text}: {score_text(metric.mean)} ({metric.low:.3f} to {metric.high:.3f}), {run.verdict}"
            is_alarm = any((change.scorer, change.prompt, change.model) == key for change in run.alarms)
            state = "alarm" if is_alarm else run.verdict
            points.append(TrendPoint(place, metric.low, metric.mean, metric.high, state, label, is_changed))
    if len(points) < _LEAST_RUNS:
        return None
    arm = next(arm_name(metric) for run in series for metric in run.metrics if _key(metric) == key)
    alarms = sum(point.state == "alarm" for point in points)
    description = (
        f"{cut(key[0], _NAME_BYTES).text} of {cut(arm, _NAME_BYTES).text} in {len(points)} runs: first {score_text(points[0].middle)},"
        f" lowest {score_text(min(point.middle for point in points))}, last {score_text(points[-1].middle)};"
        f" {formatting.counted(alarms, 'run')} with an alarm"
    )
    return Trend(
        f"{brief(key[0])}, {arm}: {score_text(points[-1].middle)}",
        trend(
            round_domain([end for point in points for end in (point.low, point.high)]),
            points,
            places=len(series),
            description=description,
        ),
        f"from {brief(series[0].run)} to {brief(series[-1].run)}",
    )
