"""From scores to a verdict: metrics, changes since the previous run, and alarms."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal

import numpy as np

from batchkit.evaluation.measure import Pairing, load_rows, load_scores, shared_arms
from batchkit.evaluation.results import Change, Metric
from batchkit.stats.intervals import mean_interval
from batchkit.stats.paired import compare_pairs, holm

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from sqlalchemy.engine import Connection

    from batchkit.evaluation.measure import Rows, ScoreTable
    from batchkit.evaluation.suite import Alarm, Suite
    from batchkit.stats.paired import PairedComparison
    from batchkit.store.evaluations import Arm, Evaluation

#: In a column with more values, only the most frequent ones are slices.
LARGEST_SLICES = 50


def measure(connection: Connection, evaluation: Evaluation, suite: Suite) -> tuple[Metric, ...]:
    """Return every metric of a run: by scorer, prompt and model, over all rows and over each slice."""
    rows = load_rows(connection, evaluation)
    slices = list(_slices(rows, suite.slices))
    found = []
    for scorer in suite.scorers:
        table = load_scores(connection, evaluation, scorer.label, len(rows.keys), suite.missing)
        for place, arm in enumerate(evaluation.arms):
            for name, members in slices:
                metric = _metric(scorer.label, arm, name, table, place=place, members=members)
                if metric is not None:
                    found.append(metric)
    return tuple(found)


def _slices(rows: Rows, columns: Sequence[str]) -> Iterator[tuple[str | None, NDArray[np.bool_]]]:
    yield None, np.ones(len(rows.keys), dtype=bool)
    for column in columns:
        values = rows.slices.get(column, [])
        frequent = Counter(values).most_common(LARGEST_SLICES)
        for value, _ in sorted(frequent, key=lambda entry: (-entry[1], str(entry[0]))):
            yield (
                f"{column}={'' if value is None else value}",
                np.array([found == value for found in values], dtype=bool),
            )


def _metric(
    scorer: str, arm: Arm, name: str | None, table: ScoreTable, *, place: int, members: NDArray[np.bool_]
) -> Metric | None:
    scored = table.of_rows[members, place]
    scored = scored[~np.isnan(scored)]
    interval = mean_interval(scored)
    if interval is None:
        return None
    return Metric(
        scorer=scorer,
        prompt=arm.prompt,
        model=arm.model,
        slice=name,
        count=int(scored.size),
        mean=interval.mean,
        low=interval.low,
        high=interval.high,
        method=interval.method,
        unscored=int(np.isnan(table.own[members, place]).sum()),
    )


def compare(
    connection: Connection, evaluation: Evaluation, previous: Evaluation, suite: Suite, *, is_same_table: bool
) -> tuple[Change, ...]:
    """Compare a run with an earlier one, row by row; without common rows there is no change."""
    rows, earlier_rows = load_rows(connection, evaluation), load_rows(connection, previous)
    pairing = Pairing(rows, earlier_rows, is_same_table=is_same_table)
    found: list[tuple[str, Arm, PairedComparison]] = []
    for scorer in suite.scorers:
        table = load_scores(connection, evaluation, scorer.label, len(rows.keys), suite.missing)
        earlier = load_scores(connection, previous, scorer.label, len(earlier_rows.keys), suite.missing)
        for arm, earlier_arm in shared_arms(evaluation, previous):
            comparison = compare_pairs(*pairing.scores(arm, earlier_arm, table, earlier))
            if comparison is not None:
                found.append((scorer.label, evaluation.arms[arm], comparison))
    return judged(found, suite.alarms)


def judged(found: Sequence[tuple[str, Arm, PairedComparison]], alarms: Sequence[Alarm]) -> tuple[Change, ...]:
    """Return the changes, with the alarms that they raise.

    A fall must reach the alarm's ``fall``, and the one-sided test must be below its level after Holm's correction for
    all alarms of the suite: among many models, prompts and scorers one falls by chance more often than a single one.
    """
    watched = [
        (place, alarm)
        for place, (scorer, arm, _) in enumerate(found)
        for alarm in alarms
        if alarm.concerns(scorer, arm.prompt, arm.model)
    ]
    tested = sorted({place for place, _ in watched})
    corrected = dict(zip(tested, holm([found[place][2].fall_p_value for place in tested]), strict=True))
    verdicts: dict[int, tuple[bool, float, float]] = {}
    for place, alarm in watched:
        comparison, p_value = found[place][2], corrected[place]
        is_raised = comparison.difference < 0 and -comparison.difference >= alarm.fall and p_value < alarm.level
        before = verdicts.get(place)
        # Of two alarms on one metric a raised one is shown, else the stricter one.
        if before is None or (is_raised, -alarm.fall) > (before[0], -before[1]):
            verdicts[place] = (is_raised, alarm.fall, p_value)
    return tuple(
        _change(scorer, arm, comparison, verdicts.get(place)) for place, (scorer, arm, comparison) in enumerate(found)
    )


def _change(scorer: str, arm: Arm, comparison: PairedComparison, verdict: tuple[bool, float, float] | None) -> Change:
    is_raised, threshold, p_value = verdict if verdict is not None else (False, None, None)
    return Change(
        scorer=scorer,
        prompt=arm.prompt,
        model=arm.model,
        before=comparison.before,
        after=comparison.after,
        difference=comparison.difference,
        low=comparison.low,
        high=comparison.high,
        p_value=comparison.p_value,
        method=comparison.method,
        pairs=comparison.pairs,
        is_alarm=is_raised,
        threshold=threshold,
        flipped_down=comparison.fell,
        flipped_up=comparison.rose,
        fall_p_value=p_value,
    )


def verdict_of(changes: Sequence[Change]) -> Literal["passed", "regressed"]:
    """Return the verdict of a run."""
    return "regressed" if any(change.is_alarm for change in changes) else "passed"
