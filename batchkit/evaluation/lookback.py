"""The last passed runs of a suite in thirds: the first third against the last one shows a decay that is too slow for two nights.

Both thirds have as many runs. So, where nothing changed, the difference of a row is as likely as its opposite, which is what a paired
test by flipped signs needs: it holds its level, by row and by cluster, however skewed the scores are.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from batchkit.evaluation.differences import changed_scorers
from batchkit.evaluation.measure import PairedScores, load_scores
from batchkit.evaluation.results import PASSED, SUMMARY, RunSpan, Window
from batchkit.evaluation.suite import Suite
from batchkit.evaluation.verdict import Compared
from batchkit.stats.paired import compare_pairs
from batchkit.store import evaluations

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from numpy.typing import NDArray
    from sqlalchemy.engine import Connection

    from batchkit.evaluation.measure import RunScores
    from batchkit.evaluation.scorers import ScorerBase
    from batchkit.evaluation.suite import Alarm
    from batchkit.store.evaluations import Evaluation, RunOfSeries


class _Past(NamedTuple):
    """An earlier run: its name, and the places of its arms by scorer, prompt and model, of scorers that are the same today.

    One that has not passed, because an alarm over several runs went off, belongs to the last third only.
    """

    name: str
    has_passed: bool
    arms: dict[tuple[str, str, str], int]


def compared_over(now: RunScores, previous: Evaluation) -> Iterator[Compared]:
    """Yield what the suite's alarms ``over`` several runs watch, as far as there are runs and rows to compare; ``previous`` is the baseline.

    Memory grows with the rows, not with the runs: each of them is read once and added up.
    """
    alarms = [alarm for alarm in now.suite.alarms if alarm.over is not None]
    if not alarms:
        return
    longest = max(alarm.over or 0 for alarm in alarms)
    past = list(_past_runs(now, previous, limit=longest - 1))
    for over in sorted({alarm.over or 0 for alarm in alarms}):
        for scorer in now.suite.scorers:
            of_both = [alarm for alarm in alarms if alarm.over == over and alarm.scorer == scorer.label]
            for compared in _of_scorer(now, scorer, of_both, past, over):
                yield replace(compared, over=over)


def _of_scorer(
    now: RunScores, scorer: ScorerBase, alarms: Collection[Alarm], past: Sequence[_Past], over: int
) -> Iterator[Compared]:
    """Yield the comparisons of one scorer over one number of runs. A model that was renamed has fewer of them than the others."""
    arms_of: dict[tuple[str, ...], list[int]] = {}
    for place, arm in enumerate(now.evaluation.arms):
        if any(alarm.concerns(scorer.label, arm.prompt, arm.model) for alarm in alarms):
            runs = tuple(run.name for run in past if (scorer.label, arm.prompt, arm.model) in run.arms)
            arms_of.setdefault(runs, []).append(place)
    by_name = {run.name: run for run in past}
    for names, places in arms_of.items():
        thirds = _thirds([by_name[name] for name in names], over)
        if thirds is not None:
            yield from _compared(now, scorer, alarms, thirds, places)


class _Thirds(NamedTuple):
    """The runs of the first and the last third, without the present one, and the number of runs from the first to the present one."""

    first: Sequence[_Past]
    last: Sequence[_Past]
    runs: int


def _thirds(past: Sequence[_Past], over: int) -> _Thirds | None:
    """Return the thirds of the last ``over`` passed runs and the present one; None without any.

    What went off over several runs was no bad night: such runs stand in the last third, so that it follows the decay, and never in the first
    one, so that a decay does not become the measure by going on.
    """
    passed = [run for run in past if run.has_passed][-(over - 1) :]
    if not passed:
        return None
    third = max((len(passed) + 1) // 3, 1)
    since = past[past.index(passed[0]) :]
    return _Thirds(passed[:third], since[len(since) - third + 1 :], len(since) + 1)


def _compared(
    now: RunScores, scorer: ScorerBase, alarms: Collection[Alarm], thirds: _Thirds, places: Sequence[int]
) -> Iterator[Compared]:
    first, last, third = thirds.first, thirds.last, len(thirds.first)
    before, after = _Mean(now, scorer, places), _Mean(now, scorer, places)
    for run in first:
        before.add_run(run)
    for run in last:
        after.add_run(run)
    table = now.table(scorer).of_rows[:, places]
    after.add(table)
    here = now.evaluation.name
    window = Window(
        thirds.runs,
        RunSpan(third, first[0].name, first[-1].name),
        RunSpan(third, last[0].name if last else here, here),
    )
    was, became = before.of_rows(third), after.of_rows(third)
    for column, place in enumerate(places):
        arm = now.evaluation.arms[place]
        scored = int((~np.isnan(table[:, column])).sum())
        of_both = ~(np.isnan(was[:, column]) | np.isnan(became[:, column]))
        if not of_both.any() or of_both.sum() < now.suite.min_paired * scored:
            continue
        watched = {alarm.slice for alarm in alarms if alarm.concerns(scorer.label, arm.prompt, arm.model)}
        parts: list[tuple[str | None, str | None, NDArray[np.bool_]]] = []
        parts += [(None, None, of_both)] if None in watched else []
        parts += [(one.name, one.column, of_both & one.members) for one in now.slices if one.column in watched]
        for name, slice_column, members in parts:
            clusters = None if now.rows.clusters is None else now.rows.clusters[members]
            pairs = PairedScores(was[members, column], became[members, column], clusters)
            comparison = compare_pairs(pairs.before, pairs.after, pairs.clusters)
            if comparison is not None:
                yield Compared(scorer.label, arm, comparison, pairs, scored, name, slice_column, window)


class _Mean:
    """The mean of several runs for each row of the present one, by arm."""

    def __init__(self, now: RunScores, scorer: ScorerBase, places: Sequence[int]) -> None:
        self._now, self._scorer = now, scorer
        self._arms = [now.evaluation.arms[place] for place in places]
        shape = (len(now.rows.keys), len(places))
        self._sums, self._counts = np.zeros(shape), np.zeros(shape, dtype=np.int64)

    def add(self, scores: NDArray[np.float64]) -> None:
        """Add a run's scores of the present rows, rows x arms; NaN is none."""
        self._sums += np.nan_to_num(scores)
        self._counts += ~np.isnan(scores)

    def add_run(self, past: _Past) -> None:
        """Read an earlier run and add it. Scores by other labels than those of today say nothing about the model."""
        connection, rows = self._now.connection, self._now.rows
        run = evaluations.find(connection, past.name)
        if run is None:
            return  # deleted in this moment
        places = {key: place for place, key in enumerate(rows.keys) if key is not None}
        kept: list[tuple[int, int]] = []
        count = 0
        for then, (key, labels) in enumerate(evaluations.labels_of(connection, run.id)):
            place = -1 if key is None else places.get(key, -1)
            if place >= 0 and (rows.labels is None or labels is None or hash(labels) == rows.labels[place]):
                kept.append((place, then))
            count += 1
        if not kept:
            return
        table = load_scores(connection, run, self._scorer, count, self._now.suite.missing).of_rows
        columns = [past.arms[self._scorer.label, arm.prompt, arm.model] for arm in self._arms]
        found = np.full(self._sums.shape, np.nan)
        here, there = np.array(kept).T
        found[here] = table[np.ix_(there, columns)]
        self.add(found)

    def of_rows(self, runs: int) -> NDArray[np.float64]:
        """Return the mean of each row; NaN where fewer than half of the ``runs`` have scored it."""
        return np.where(2 * self._counts >= runs, self._sums / np.maximum(self._counts, 1), np.nan)


def _past_runs(now: RunScores, previous: Evaluation, *, limit: int) -> Iterator[_Past]:
    """Yield the last passed runs, and recent ones that only fell over several runs, from where the present level was accepted on; oldest first."""
    connection = now.connection
    series = evaluations.series_before(connection, now.evaluation, verdicts=PASSED, limit=limit)
    accepted = _accepted(connection, series, previous)
    read: dict[str, frozenset[str]] = {}
    recent = frozenset(one.name for one in series[-limit:])
    for one in series:
        has_passed = one.verdict in PASSED
        if one.number <= accepted or not (has_passed or one.name in recent):
            continue
        run = evaluations.find(connection, one.name)
        if run is None or not (has_passed or _fell_over_runs_only(run)):
            continue  # deleted in this moment, or a bad night
        if run.definition not in read:
            read = {run.definition: _same_scorers(now.suite, run.definition)}
        yield _Past(
            run.name,
            has_passed,
            {
                (label, arm.prompt, arm.model): place
                for label in read[run.definition]
                for place, arm in enumerate(run.arms)
            },
        )


def _fell_over_runs_only(run: Evaluation) -> bool:
    found = None if run.summary is None else SUMMARY.validate_json(run.summary)
    return found is not None and bool(found.alarms) and all(change.window is not None for change in found.alarms)


def _same_scorers(suite: Suite, definition: str) -> frozenset[str]:
    """Return the labels of the scorers that an earlier suite has in the same form; none if this version cannot read it."""
    try:
        scorers = changed_scorers(suite, Suite.model_validate_json(definition))
    except ValueError:
        return frozenset()
    return frozenset(scorer.label for scorer in suite.scorers).difference(scorers.changed, scorers.new)


def _accepted(connection: Connection, series: Sequence[RunOfSeries], previous: Evaluation) -> int:
    """Return the number of the last run that regressed and was named as what to compare with: its level is the accepted one. 0: none."""
    if previous.verdict == "regressed" and previous.number is not None:
        return previous.number
    for before, after in reversed(list(pairwise(series))):
        if before.verdict != "regressed" or after.verdict not in PASSED:
            continue
        run = evaluations.find(connection, after.name)
        summary = None if run is None or run.summary is None else SUMMARY.validate_json(run.summary)
        named = None if summary is None or summary.previous is None else evaluations.find(connection, summary.previous)
        if named is not None and named.verdict == "regressed" and named.number is not None:
            return named.number
    return 0
