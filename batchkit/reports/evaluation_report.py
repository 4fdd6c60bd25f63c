"""An evaluation run for the page: its verdict, every metric with its interval, the changes, and the rows to read first."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from batchkit import formatting
from batchkit.evaluation import sentences
from batchkit.reports import charts, evaluation_headline
from batchkit.reports.evaluation_grids import judge_grids, label_grids
from batchkit.reports.evaluation_headline import brief
from batchkit.reports.evaluation_tables import compared_slices, comparison, metric_tables, slice_tables
from batchkit.reports.evaluation_trend import trends
from batchkit.reports.text import cut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from batchkit.evaluation.results import EvaluationSummary
    from batchkit.reports.evaluation_tables import ComparisonTable, Estimates
    from batchkit.reports.evaluation_trend import Trends
    from batchkit.reports.grid import Grid
    from batchkit.reports.headline import Headline
    from batchkit.reports.views import Counts, Figure

_EXPECTED_BYTES = 400
_MOST_PAIRS = 28
_MOST_SPREADS = 20


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
    previous: str
    headline: Headline
    changed: tuple[str, ...]
    facts_line: str
    figures: tuple[Figure, ...]
    metrics: tuple[Estimates, ...]
    comparison: ComparisonTable | None
    compared_slices: ComparisonTable | None
    slices: tuple[Estimates, ...]
    arms: tuple[str, ...]
    samples: tuple[str, ...]
    kinds: tuple[Counts, ...]
    trends: Trends | None
    judges: tuple[JudgeLine, ...]
    labels: tuple[Grid, ...]
    about_judges: tuple[Grid, ...]
    notes: tuple[str, ...]


def evaluation_view(
    summary: EvaluationSummary,
    *,
    cut_answers: Sequence[str] = (),
    kinds: Sequence[Counts] = (),
    commonest: str = "",
    series: Sequence[EvaluationSummary] = (),
) -> EvaluationView:
    """Return the texts, figures and charts for a run's summary.

    ``cut_answers`` are sentences about answers that the limit of tokens has cut, ``kinds`` are tables of the kinds of changed or wrong
    answers, ``commonest`` names the commonest change, ``series`` are the last runs of the suite.
    """
    return EvaluationView(
        name=summary.run,
        suite=summary.suite,
        previous=brief(summary.previous or ""),
        headline=evaluation_headline.headline_of(summary),
        changed=tuple(evaluation_headline.changed(summary, cut_answers)),
        facts_line=_facts_line(summary),
        figures=tuple(evaluation_headline.figures(summary, commonest)),
        metrics=tuple(metric_tables(summary)),
        comparison=comparison(summary),
        compared_slices=compared_slices(summary),
        slices=tuple(slice_tables(summary.metrics)),
        arms=tuple(cut(line, _EXPECTED_BYTES).text for line in islice(sentences.between_arms(summary), _MOST_PAIRS)),
        samples=tuple(cut(line, _EXPECTED_BYTES).text for line in islice(sentences.of_samples(summary), _MOST_SPREADS)),
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
        labels=label_grids(summary),
        about_judges=tuple(judge_grids(summary)),
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


def _facts_line(summary: EvaluationSummary) -> str:
    text = f"Suite {summary.suite}, version {summary.suite_version[:12]}, started {formatting.moment(summary.started_at)} UTC"
    if summary.finished_at is not None:
        text += f", finished after {formatting.duration(summary.finished_at - summary.started_at)}"
    return text
