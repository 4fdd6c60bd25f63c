"""The smallest fall that the rows of a suite can find, before anything is paid for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from batchkit.evaluation.measure import load_rows, load_scores
from batchkit.evaluation.results import SUMMARY, Change
from batchkit.stats.clusters import design_effect
from batchkit.stats.power import smallest_fall, smallest_graded_fall
from batchkit.store import evaluations

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from batchkit.evaluation.scorers import ScorerBase
    from batchkit.evaluation.suite import Alarm, Suite

#: The share of rows whose score changes by chance from run to run, until two runs have shown it.
ASSUMED_CHANGING = 0.1
ASSUMED_LEVEL = 0.01
POWERS = (0.8, 0.95)
_EARLIER_RUNS = 5
_NORMAL = 1.959963984540054


class FindableFall(NamedTuple):
    """The smallest fall of a metric that is found with a chance of 80 % (``found_80``) and 95 %; None if no fall is.

    ``rows`` rows are compared, with the one-sided ``level`` after correction for all ``tests`` of the suite's alarms; ``beyond`` is
    the fall that must be exceeded. ``changing`` is the share of rows that change by chance, None for graded scores; ``source`` says
    where that is from: the name of a run, None for an assumption. ``design_effect`` is what clusters make of the variance.
    """

    scorer: str
    prompt: str
    model: str
    rows: int
    level: float
    tests: int
    beyond: float
    changing: float | None
    source: str | None
    design_effect: float
    found_80: float | None
    found_95: float | None


def findable_falls(suite: Suite, rows: int, connection: Connection | None) -> tuple[FindableFall, ...]:
    """Return what ``rows`` rows can find, for every metric that an alarm watches over all rows, or for all without such alarms.

    ``connection`` reads earlier runs of the suite, None where there is no database.
    """
    arms = [(name, model) for name in _prompts(suite) for model in suite.models]
    watched = [alarm for alarm in suite.alarms if alarm.slice is None]
    tests = max(
        sum(
            alarm.concerns(scorer.label, *arm)
            for alarm in suite.alarms
            for scorer in suite.scorers
            for arm in arms
            if scorer.concerns(*arm)
        ),
        1,
    )
    earlier = _Earlier(suite, connection)
    found = []
    for scorer in suite.scorers:
        for prompt, model in arms:
            alarm = next((one for one in watched if one.concerns(scorer.label, prompt, model)), None)
            if scorer.concerns(prompt, model) and (alarm is not None or not watched):
                found.append(_findable(earlier, scorer, (prompt, model), alarm, rows=rows, tests=tests))
    return tuple(found)


def _prompts(suite: Suite) -> tuple[str, ...]:
    return tuple(suite.named_prompts)


def _findable(
    earlier: _Earlier, scorer: ScorerBase, arm: tuple[str, str], alarm: Alarm | None, *, rows: int, tests: int
) -> FindableFall:
    level = (ASSUMED_LEVEL if alarm is None else alarm.level) / tests
    beyond = alarm.fall if alarm is not None and alarm.bound == "truth" else 0.0
    change, source = earlier.change(scorer.label, *arm)
    effect = earlier.design_effect(scorer, *arm)
    changing: float | None = None
    if change is not None and not _is_of_shares(change):
        deviation = (change.high - change.low) / 2 / _NORMAL * math.sqrt(change.pairs / effect)
        falls = [
            smallest_graded_fall(
                rows, deviation=deviation, level=level, power=power, beyond=beyond, design_effect=effect
            )
            for power in POWERS
        ]
    else:
        # As if one more row had changed: that none did shows no certainty.
        changing = (
            ASSUMED_CHANGING if change is None else (change.flipped_down + change.flipped_up + 1) / (change.pairs + 2)
        )
        falls = [
            smallest_fall(rows, changing=changing, level=level, power=power, beyond=beyond, design_effect=effect)
            for power in POWERS
        ]
    return FindableFall(scorer.label, *arm, rows, level, tests, beyond, changing, source, effect, falls[0], falls[1])


def _is_of_shares(change: Change) -> bool:
    return float(change.before * change.pairs).is_integer() or "McNemar" in change.method


class _Earlier:
    """What earlier runs of a suite show about chance."""

    def __init__(self, suite: Suite, connection: Connection | None) -> None:
        self._suite, self._connection = suite, connection
        self._runs = [] if connection is None else evaluations.last_scored(connection, suite.name, limit=_EARLIER_RUNS)

    def change(self, scorer: str, prompt: str, model: str) -> tuple[Change | None, str | None]:
        """Return the last comparison of two runs in which no alarm went off for this metric, and the later run's name."""
        for run in self._runs:
            for change in SUMMARY.validate_json(run.summary or "").changes:
                is_metric = (change.scorer, change.prompt, change.model) == (scorer, prompt, model)
                if is_metric and not change.is_alarm and change.window is None:
                    return change, run.name
        return None, None

    def design_effect(self, scorer: ScorerBase, prompt: str, model: str) -> float:
        """Return what the clusters of the last run make of the variance of a mean; 1 without clusters or runs."""
        if self._suite.dataset.cluster is None or self._connection is None:
            return 1.0
        for run in self._runs:
            rows = load_rows(self._connection, run)
            place = next(
                (place for place, arm in enumerate(run.arms) if (arm.prompt, arm.model) == (prompt, model)), None
            )
            if rows.clusters is None or place is None:
                continue
            scores = load_scores(self._connection, run, scorer, len(rows.keys), self._suite.missing).of_rows[:, place]
            is_scored = scores == scores  # noqa: PLR0124 - NaN is not scored
            if is_scored.any():
                return design_effect(scores[is_scored], rows.clusters[is_scored])
        return 1.0
