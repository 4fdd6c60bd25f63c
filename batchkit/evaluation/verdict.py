"""From comparisons to a verdict: which alarms go off, and what the run is therefore called."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from batchkit.evaluation.results import Change
from batchkit.stats.falls import fall_beyond
from batchkit.stats.paired import holm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batchkit.evaluation.measure import PairedScores
    from batchkit.evaluation.results import Verdict, Window
    from batchkit.evaluation.suite import Alarm
    from batchkit.stats.paired import PairedComparison
    from batchkit.store.evaluations import Arm


#: An alarm that is on goes off again while its fall is significant at this level, tested alone.
STANDING_LEVEL: Final = 0.05

#: Scorer, prompt, model, and slice or None.
MetricKey: TypeAlias = tuple[str, str, str, str | None]


@dataclass(frozen=True, slots=True)
class Compared:
    """A metric compared with that of an earlier run: over all rows, or over one value of a column (``slice``: ``column=value``).

    ``pairs`` are the scores that were compared, and ``scored`` is the number of rows of the run that scored fewer. With a ``window`` means of
    several runs were compared, for the alarms ``over`` so many.
    """

    scorer: str
    arm: Arm
    comparison: PairedComparison
    pairs: PairedScores
    scored: int
    slice: str | None = None
    slice_column: str | None = None
    window: Window | None = None
    over: int | None = None

    def is_watched_by(self, alarm: Alarm) -> bool:
        """Whether the alarm applies to this comparison."""
        return (
            alarm.concerns(self.scorer, self.arm.prompt, self.arm.model)
            and alarm.slice == self.slice_column
            and alarm.over == self.over
        )


class _Hypothesis(NamedTuple):
    """A test of a comparison: for any fall, or for one beyond ``margin``."""

    place: int
    margin: float | None


class _Outcome(NamedTuple):
    is_raised: bool
    alarm: Alarm
    p_value: float
    since: str | None = None
    is_suspect: bool = False


def key_of(change: Change | Compared) -> MetricKey:
    """Return the scorer, prompt, model and slice of a metric."""
    arm = change if isinstance(change, Change) else change.arm
    return change.scorer, arm.prompt, arm.model, change.slice


def judged(
    found: Sequence[Compared], alarms: Sequence[Alarm], standing: Mapping[MetricKey, str] = MappingProxyType({})
) -> tuple[Change, ...]:
    """Return the changes, with the alarms that they raise.

    A fall must reach the alarm's ``fall``, and the one-sided test must be below its level after Holm's correction for everything that the
    suite's alarms watch: among many models, prompts, scorers and slices one falls by chance more often than a single one.

    ``standing`` are alarms that are on since a run, which was compared with the same run. They have been found among all others
    already, so each is tested alone, and stays on while the fall is at least ``fall`` and its p-value below ``STANDING_LEVEL``.
    """
    watched = [
        (_Hypothesis(place, alarm.fall if alarm.bound == "truth" else None), alarm)
        for place, compared in enumerate(found)
        for alarm in alarms
        if compared.is_watched_by(alarm)
    ]
    tested = list(dict.fromkeys(hypothesis for hypothesis, _ in watched))
    alone = dict(zip(tested, (_p_value(found[one.place], one.margin) for one in tested), strict=True))
    corrected = dict(zip(tested, holm(list(alone.values())), strict=True))
    outcomes: dict[int, _Outcome] = {}
    for hypothesis, alarm in watched:
        compared = found[hypothesis.place]
        since = standing.get(key_of(compared)) if compared.window is None else None
        outcome = _outcome(compared, alarm, corrected[hypothesis], alone[hypothesis], since)
        before = outcomes.get(hypothesis.place)
        # Of two alarms on one metric a raised one is shown, else the stricter one.
        if before is None or (outcome.is_raised, -alarm.fall) > (before.is_raised, -before.alarm.fall):
            outcomes[hypothesis.place] = outcome
    return tuple(_change(compared, outcomes.get(place)) for place, compared in enumerate(found))


def _outcome(compared: Compared, alarm: Alarm, corrected: float, alone: float, since: str | None) -> _Outcome:
    fell = -compared.comparison.difference
    if fell <= 0 or fell < alarm.fall:
        return _Outcome(False, alarm, corrected)
    if since is not None and alone < STANDING_LEVEL:
        return _Outcome(True, alarm, alone, since)
    is_raised = corrected < alarm.level
    return _Outcome(is_raised, alarm, corrected, is_suspect=not is_raised and alone < alarm.level)


def _p_value(compared: Compared, margin: float | None) -> float:
    if margin is None:
        return compared.comparison.fall_p_value
    return fall_beyond(compared.pairs.before, compared.pairs.after, margin, compared.pairs.clusters)


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
        scored=compared.scored,
        bound="estimate" if outcome is None else outcome.alarm.bound,
        window=compared.window,
        since=None if outcome is None else outcome.since,
        is_suspect=outcome is not None and outcome.is_suspect,
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
