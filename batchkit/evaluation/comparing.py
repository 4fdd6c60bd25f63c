"""The comparison of a run with an earlier one, and, for alarms over several runs, of the last ones among themselves.

Only what is comparable is compared: by the same scorers with the same labels. When these have changed, the kept answers of the earlier
run are scored again with those of today.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from batchkit import formatting
from batchkit.evaluation.differences import changed_scorers, described, judges_changed, row_differences
from batchkit.evaluation.lookback import compared_over
from batchkit.evaluation.measure import Pairing, RunScores, load_rows, load_scores, shared_arms
from batchkit.evaluation.rescoring import AnswersGone, labels_of, rescore
from batchkit.evaluation.results import SUMMARY, Change, summary
from batchkit.evaluation.suite import Suite
from batchkit.evaluation.verdict import Compared, judged, key_of
from batchkit.stats.paired import compare_pairs
from batchkit.store import evaluations

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from sqlalchemy.engine import Connection

    from batchkit.engine.runtime import Runner
    from batchkit.evaluation.measure import Rows, ScoreTable
    from batchkit.evaluation.scorers import ScorerBase
    from batchkit.evaluation.verdict import MetricKey
    from batchkit.store.evaluations import Evaluation


@dataclass(frozen=True, slots=True)
class Comparison:
    """A run compared with an earlier one: what differs between them, and how each metric and each slice changed.

    ``rescored`` is the derived run whose scores were compared, None if those of the earlier run were. ``uncompared`` says what could
    not be compared, and why; ``is_comparable`` is False if that concerns a watched scorer.
    """

    differences: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    slice_changes: tuple[Change, ...] = ()
    rescored: Evaluation | None = None
    uncompared: tuple[str, ...] = ()
    is_comparable: bool = True


def compare(
    runner: Runner, evaluation: Evaluation, suite: Suite, previous: Evaluation, *, table_digest: str
) -> Comparison:
    """Compare a scored run with an earlier one, row by row, and let the alarms judge."""
    then = _readable_suite(previous)
    if then is None:
        why = f"the suite of {previous.name} was written by a version of batchkit that this one cannot read"
        return Comparison(uncompared=(why,), is_comparable=False)
    is_same_table = bool(table_digest) and summary(runner, previous.name).table_digest == table_digest
    with runner.store.read() as connection:
        rows, earlier_rows = load_rows(connection, evaluation), load_rows(connection, previous)
    pairing = Pairing(rows, earlier_rows, is_same_table=is_same_table)
    rows_differ = row_differences(rows, earlier_rows, pairing)
    digests, earlier = ({arm.prompt: arm.prompt_digest for arm in run.arms} for run in (evaluation, previous))
    same_prompts = all(earlier.get(name, digest) == digest for name, digest in digests.items())
    differences = list(described(suite, then, rows_differ, same_prompts=same_prompts))
    scorers = changed_scorers(suite, then)
    incomparable: dict[str, str] = {}
    rescored = None
    if scorers.changed or scorers.new or rows_differ.relabelled:
        # What judges would say of the earlier answers would have to be bought.
        unjudged = judges_changed(suite, then)
        incomparable = dict.fromkeys(unjudged, f"its judgements of {previous.name} are of another judge")
        try:
            labels = labels_of(runner, evaluation, suite, rows_differ.relabelled or ())
            rescored = rescore(runner, previous, then, suite, without=unjudged, relabelled=labels)
        except AnswersGone as error:
            affected = _affected(suite, scorers.changed + scorers.new, has_other_labels=bool(rows_differ.relabelled))
            incomparable |= dict.fromkeys(affected, f"{previous.name} cannot be scored again: {error.message}")
        else:
            differences.append(f"{previous.name} was scored again with today's scorers and labels: {rescored.name}")
    with runner.store.read() as connection:
        within = _Within(RunScores(connection, evaluation, suite, rows))
        compared = list(within.compared(rescored or previous, earlier_rows, pairing, incomparable))
        compared += compared_over(within.now, previous)
        within.leave_out_unwatched(compared, previous)
        standing = _standing(connection, evaluation, previous)
    changes = judged(compared, suite.alarms, standing)
    uncompared = tuple(within.uncompared)
    return Comparison(
        differences=tuple(differences),
        changes=tuple(change for change in changes if change.slice is None),
        slice_changes=tuple(change for change in changes if change.slice is not None),
        rescored=rescored,
        uncompared=uncompared,
        is_comparable=not within.is_watched_uncompared,
    )


def _readable_suite(run: Evaluation) -> Suite | None:
    """Return the suite of an earlier run; None if this version cannot read it."""
    try:
        return Suite.model_validate_json(run.definition)
    except ValueError:
        return None


def _affected(suite: Suite, differing: Sequence[str], *, has_other_labels: bool) -> list[str]:
    return [
        scorer.label
        for scorer in suite.scorers
        if scorer.label in differing or (has_other_labels and scorer.needs_expected)
    ]


class _Pair(NamedTuple):
    """One arm by one scorer in this run, and the same in an earlier run."""

    scorer: ScorerBase
    arm: int
    earlier_arm: int
    earlier: ScoreTable
    previous: str


class _Within:
    """What comparisons of one run with earlier ones share; collects what could not be compared."""

    def __init__(self, now: RunScores) -> None:
        self.now, self.evaluation, self.suite = now, now.evaluation, now.suite
        self.uncompared: list[str] = []
        self.is_watched_uncompared = False

    def compared(
        self, previous: Evaluation, earlier_rows: Rows, pairing: Pairing, incomparable: Mapping[str, str]
    ) -> Iterator[Compared]:
        """Yield every metric and slice that both runs have; ``incomparable`` says why scorers cannot be compared, by label."""
        arms = shared_arms(self.evaluation, previous)
        if not arms:
            self._leave_out(None, f"no prompt with a model is also in {previous.name}")
            return
        for scorer in self.suite.scorers:
            if scorer.label in incomparable:
                self._leave_out(scorer.label, f"{scorer.label} was not compared: {incomparable[scorer.label]}")
                continue
            earlier = load_scores(self.now.connection, previous, scorer, len(earlier_rows.keys), self.suite.missing)
            for arm, earlier_arm in arms:
                yield from self._arm(_Pair(scorer, arm, earlier_arm, earlier, previous.name), pairing)

    def _arm(self, pair: _Pair, pairing: Pairing) -> Iterator[Compared]:
        table, its = self.now.table(pair.scorer), self.evaluation.arms[pair.arm]
        whole = self.rows_of_both(pair, pairing)
        if whole is None or not self._is_enough(whole):
            several = len({arm.prompt for arm in self.evaluation.arms}) > 1
            name = f"{pair.scorer.label} of {its.model}" + (f" ({its.prompt})" if several else "")
            count = 0 if whole is None else whole.comparison.pairs
            of = min(_scored(table, pair.arm), _scored(pair.earlier, pair.earlier_arm))
            if not of:
                return  # what has no scores is said to have none
            self._leave_out(
                pair.scorer.label,
                f"{name} was not compared: {formatting.counted(count, 'row')} of {of:,} scored in {pair.previous} and here"
                f" (min_paired: {self.suite.min_paired:g}){self._why_unpaired()}",
            )
            return
        yield whole
        for name, column, members in self.now.slices:
            of_slice = self.rows_of_both(pair, pairing, members)
            if of_slice is not None:
                yield replace(of_slice, slice=name, slice_column=column)

    def rows_of_both(self, pair: _Pair, pairing: Pairing, members: NDArray[np.bool_] | None = None) -> Compared | None:
        """Compare one arm by one scorer over the rows that both runs have scored; None without such rows."""
        table = self.now.table(pair.scorer)
        pairs = pairing.scores(pair.arm, pair.earlier_arm, table, pair.earlier, members)
        comparison = compare_pairs(pairs.before, pairs.after, pairs.clusters)
        if comparison is None:
            return None
        scored = min(_scored(table, pair.arm), _scored(pair.earlier, pair.earlier_arm))
        return Compared(pair.scorer.label, self.evaluation.arms[pair.arm], comparison, pairs, scored)

    def _is_enough(self, whole: Compared) -> bool:
        return whole.comparison.pairs >= self.suite.min_paired * whole.scored

    def leave_out_unwatched(self, found: Sequence[Compared], previous: Evaluation) -> None:
        """Leave out what alarms watch and none of them could compare, though the run before has it."""
        if self.is_watched_uncompared:
            return
        for scorer in self.suite.scorers:
            for place, _ in shared_arms(self.evaluation, previous):
                arm = self.evaluation.arms[place]
                if not scorer.concerns(arm.prompt, arm.model):
                    continue
                alarms = [alarm for alarm in self.suite.alarms if alarm.concerns(scorer.label, arm.prompt, arm.model)]
                of_arm = [one for one in found if (one.scorer, one.arm) == (scorer.label, arm)]
                if alarms and not any(one.is_watched_by(alarm) for one in of_arm for alarm in alarms):
                    has_scores = _scored(self.now.table(scorer), place) > 0
                    why = "its alarms found no passed runs to compare with" if has_scores else "no answer has a score"
                    self._leave_out(scorer.label, f"{scorer.label} of {arm.model} was not compared: {why}")

    def _why_unpaired(self) -> str:
        return "" if self.suite.dataset.key is not None else "; name the rows with `key`"

    def _leave_out(self, scorer: str | None, why: str) -> None:
        self.uncompared.append(why)
        if scorer is None or scorer in self.suite.watched:
            self.is_watched_uncompared = True


def _scored(table: ScoreTable, arm: int) -> int:
    return int((~np.isnan(table.of_rows[:, arm])).sum())


def _standing(connection: Connection, evaluation: Evaluation, previous: Evaluation) -> dict[MetricKey, str]:
    """Return the alarms of the run before that was compared with the same run, each with the run in which it first went off."""
    if evaluation.number is None:
        return {}
    for last in evaluations.before(connection, evaluation):
        found = None if last.summary is None else SUMMARY.validate_json(last.summary)
        if found is not None and found.previous == previous.name:
            return {key_of(change): change.since or last.name for change in found.alarms if change.window is None}
    return {}
