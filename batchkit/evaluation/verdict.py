"""From comparisons to a verdict: which alarms go off, and what the run is therefore called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from batchkit.evaluation.results import Change
from batchkit.stats.falls import fall_beyond
from batchkit.stats.paired import holm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.evaluation.measure import PairedScores
    from batchkit.evaluation.results import Verdict
    from batchkit.evaluation.suite import Alarm
    from batchkit.stats.paired import PairedComparison
    from batchkit.store.evaluations import Arm


@dataclass(frozen=True, slots=True)
class Compared:
    """A metric compared with that of an earlier run: over all rows, or over one value of a column (``slice``: ``column=value``).

    ``pairs`` are the scores that were compared, and ``scored`` is the number of rows of the run that scored fewer. ``baseline`` names
    the earlier run if alarms chose it, as ``kind`` says, from ``chosen_from`` runs, the last ``of_last`` that passed.
    """

    scorer: str
    arm: Arm
    comparison: PairedComparison
    pairs: PairedScores
    scored: int
    slice: str | None = None
    slice_column: str | None = None
    baseline: str | None = None
    kind: Literal["against", "best", "median"] = "against"
    chosen_from: int = 1
    of_last: int | None = None

    def is_watched_by(self, alarm: Alarm) -> bool:
        """Whether the alarm applies to this comparison."""
        return (
            alarm.concerns(self.scorer, self.arm.prompt, self.arm.model)
            and alarm.slice == self.slice_column
            and alarm.baseline == self.kind
            and (self.of_last is None or alarm.of_last == self.of_last)
        )


class _Hypothesis(NamedTuple):
    """A test of a comparison: for any fall, or for one beyond ``margin``."""

    place: int
    margin: float | None


class _Outcome(NamedTuple):
    is_raised: bool
    alarm: Alarm
    p_value: float


def judged(found: Sequence[Compared], alarms: Sequence[Alarm]) -> tuple[Change, ...]:
    """Return the changes, with the alarms that they raise.

    A fall must reach the alarm's ``fall`` (its lower bound must, if the alarm says so), and the one-sided test must be below its level
    after Holm's correction for everything that the suite's alarms watch: among many models, prompts, scorers and slices one falls by
    chance more often than a single one. The best of several earlier runs is good by chance as well: its p-value counts as many times
    as there were runs to choose from (Bonferroni).
    """
    watched = [
        (_Hypothesis(place, alarm.fall if alarm.bound == "truth" else None), alarm)
        for place, compared in enumerate(found)
        for alarm in alarms
        if compared.is_watched_by(alarm)
    ]
    tested = list(dict.fromkeys(hypothesis for hypothesis, _ in watched))
    corrected = dict(zip(tested, holm([_p_value(found[one.place], one.margin) for one in tested]), strict=True))
    outcomes: dict[int, _Outcome] = {}
    for hypothesis, alarm in watched:
        fell, p_value = -found[hypothesis.place].comparison.difference, corrected[hypothesis]
        is_raised = fell > 0 and fell >= alarm.fall and p_value < alarm.level
        before = outcomes.get(hypothesis.place)
        # Of two alarms on one metric a raised one is shown, else the stricter one.
        if before is None or (is_raised, -alarm.fall) > (before.is_raised, -before.alarm.fall):
            outcomes[hypothesis.place] = _Outcome(is_raised, alarm, p_value)
    return tuple(_change(compared, outcomes.get(place)) for place, compared in enumerate(found))


def _p_value(compared: Compared, margin: float | None) -> float:
    if margin is None:
        p_value = compared.comparison.fall_p_value
    else:
        pairs = compared.pairs
        p_value = fall_beyond(pairs.before, pairs.after, margin, pairs.clusters)
    return min(p_value * (compared.chosen_from if compared.kind == "best" else 1), 1.0)


def _change(compared: Compared, outcome: _Outcome | None) -> Change:
    comparison = compared.comparison
    return Change(
        scorer=compared.scorer,
        prompt=compared.arm.prompt,
        model=compared.arm.model,
        before=comparison.before,
        after=comparison.after,
        difference=comparison.difference,
        low=comparison.low,
        high=comparison.high,
        p_value=comparison.p_value,
        method=comparison.method,
        pairs=comparison.pairs,
        is_alarm=outcome is not None and outcome.is_raised,
        threshold=None if outcome is None else outcome.alarm.fall,
        flipped_down=comparison.fell,
        flipped_up=comparison.rose,
        fall_p_value=None if outcome is None else outcome.p_value,
        slice=compared.slice,
        baseline=compared.baseline,
        scored=compared.scored,
        bound="estimate" if outcome is None else outcome.alarm.bound,
    )


def verdict_of(
    changes: Sequence[Change], *, is_fully_scored: bool = True, is_comparable: bool = True, has_baseline: bool = True
) -> Verdict:
    """Return the verdict of a run. A fall that was found is told before anything that could not be found out."""
    if any(change.is_alarm for change in changes):
        return "regressed"
    if not is_fully_scored:
        return "unscored"
    if not has_baseline:
        return "first"
    return "passed" if is_comparable else "incomparable"
