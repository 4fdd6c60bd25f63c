"""The metrics of a run, and how much of it each scorer has scored."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from batchkit.evaluation.measure import load_rows, load_scores, slices_of
from batchkit.evaluation.results import ArmComparison, Metric, Scoring, Spread
from batchkit.evaluation.scorers import NO_ANSWER, NO_EXPECTED
from batchkit.stats.intervals import mean_interval
from batchkit.stats.several import compare_all
from batchkit.stats.variance import sample_spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from sqlalchemy.engine import Connection

    from batchkit.evaluation.measure import Rows, ScoreTable
    from batchkit.evaluation.suite import Suite
    from batchkit.stats.variance import SampleSpread
    from batchkit.store.evaluations import Arm, Evaluation

#: Of more prompts and models nobody reads every pair.
_MOST_ARMS_COMPARED = 8


class Measured(NamedTuple):
    """The metrics of a run and what its scorers have scored, by scorer, prompt and model."""

    metrics: tuple[Metric, ...]
    scorings: tuple[Scoring, ...]
    arm_comparisons: tuple[ArmComparison, ...] = ()
    spreads: tuple[Spread, ...] = ()

    @property
    def is_fully_scored(self) -> bool:
        """Whether every watched scorer has scored enough."""
        return all(scoring.is_enough for scoring in self.scorings if scoring.is_watched)


def measure(connection: Connection, evaluation: Evaluation, suite: Suite) -> Measured:
    """Return every metric of a run: by scorer, prompt and model, over all rows and over each slice."""
    rows = load_rows(connection, evaluation)
    everything = np.ones(len(rows.keys), dtype=bool)
    slices = [(None, everything), *((one.name, one.members) for one in slices_of(rows, suite.slices))]
    metrics: list[Metric] = []
    scorings: list[Scoring] = []
    comparisons: list[ArmComparison] = []
    spreads: list[Spread] = []
    for scorer in suite.scorers:
        table = load_scores(connection, evaluation, scorer, len(rows.keys), suite.missing)
        concerned = [place for place, arm in enumerate(evaluation.arms) if scorer.concerns(arm.prompt, arm.model)]
        for place in concerned:
            arm = evaluation.arms[place]
            scorings.append(_scoring(scorer.label, arm, table, place, suite))
            for name, members in slices:
                metric = _metric(scorer.label, arm, name, table, place=place, members=members, rows=rows)
                if metric is not None:
                    metrics.append(metric)
            # Only of a mean of samples is it known what more of them would make of it.
            is_mean = evaluation.samples > 1 and scorer.reduce == "mean"
            spread = sample_spread(table.counted[:, place]) if is_mean else None
            if spread is not None:
                spreads.append(_spread(scorer.label, arm, spread))
        comparisons += _arm_comparisons(scorer.label, evaluation.arms, table, rows)
    return Measured(tuple(metrics), tuple(scorings), tuple(comparisons), tuple(spreads))


def _spread(scorer: str, arm: Arm, found: SampleSpread) -> Spread:
    return Spread(
        scorer=scorer,
        prompt=arm.prompt,
        model=arm.model,
        rows=found.rows,
        samples=found.samples,
        within=found.within,
        between=found.between,
        error=found.error,
        error_doubled=found.error_doubled,
        error_unlimited=found.error_unlimited,
    )


def _arm_comparisons(scorer: str, arms: Sequence[Arm], table: ScoreTable, rows: Rows) -> Iterator[ArmComparison]:
    if not 1 < len(arms) <= _MOST_ARMS_COMPARED or not len(rows.keys):
        return
    for found in compare_all([table.of_rows[:, place] for place in range(len(arms))], rows.clusters):
        first, second, compared = arms[found.first], arms[found.second], found.comparison
        yield ArmComparison(
            scorer=scorer,
            first_prompt=first.prompt,
            first_model=first.model,
            second_prompt=second.prompt,
            second_model=second.model,
            first=compared.before,
            second=compared.after,
            difference=compared.difference,
            low=compared.low,
            high=compared.high,
            p_value=found.p_value,
            method=compared.method,
            pairs=compared.pairs,
            fell=compared.fell,
            rose=compared.rose,
        )


def _metric(
    scorer: str,
    arm: Arm,
    name: str | None,
    table: ScoreTable,
    *,
    place: int,
    members: NDArray[np.bool_],
    rows: Rows,
) -> Metric | None:
    scored = table.of_rows[members, place]
    is_scored = ~np.isnan(scored)
    clusters = None if rows.clusters is None else rows.clusters[members][is_scored]
    interval = mean_interval(scored[is_scored], clusters)
    if interval is None:
        return None
    return Metric(
        scorer=scorer,
        prompt=arm.prompt,
        model=arm.model,
        slice=name,
        count=int(is_scored.sum()),
        mean=interval.mean,
        low=interval.low,
        high=interval.high,
        method=interval.method,
        unscored=int(np.isnan(table.own[members, place]).sum()),
    )


def _scoring(scorer: str, arm: Arm, table: ScoreTable, place: int, suite: Suite) -> Scoring:
    unscored = table.unscored[place]
    answers = int(table.own[:, place].size)
    scored = int((~np.isnan(table.own[:, place])).sum())
    counted = int((~np.isnan(table.counted[:, place])).sum())
    unlabelled = unscored.reasons[NO_EXPECTED]
    failed = unscored.reasons[NO_ANSWER]
    message, times = next(iter(unscored.messages.most_common(1)), (None, 0))
    labelled = answers - unlabelled
    return Scoring(
        scorer=scorer,
        prompt=arm.prompt,
        model=arm.model,
        answers=answers,
        scored=scored,
        counted=counted,
        failed=failed,
        unlabelled=unlabelled,
        errors=answers - scored - failed - unlabelled,
        commonest_error=message,
        commonest_count=times,
        is_watched=scorer in suite.watched,
        is_enough=scored > 0 and counted >= suite.min_scored * labelled,
    )
