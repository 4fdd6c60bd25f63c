"""One annotator against labels or numbers that people gave: accuracy, precision, recall, F1, confusion matrix, errors, kappa.

Computed from the number of times each pair of labels occurs. Tested against statsmodels and by hand.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchkit.stats.agreement import Coefficient, agreement
from batchkit.stats.intervals import Interval, share_interval
from batchkit.stats.ratings import RatingAgreement

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """One label: ``gold`` rows have it by people, ``given`` by the annotator.

    ``precision`` is the share of right ones among ``given``, ``recall`` among ``gold``, ``f1`` their harmonic mean; each None where
    there is nothing to divide by.
    """

    label: str
    gold: int
    given: int
    precision: Interval | None
    recall: Interval | None
    f1: Interval | None


@dataclass(frozen=True, slots=True)
class GoldReport:
    """The figures of an annotator over the ``rows`` that people labelled and it answered; it left out ``unanswered`` others.

    ``labels`` are in the order of their frequency by people, then by name. ``confusion`` maps (label by people, label of the
    annotator) to the number of rows. ``accuracy`` is None without rows, ``macro_f1`` is the mean F1 of the labels that people gave.
    """

    rows: int
    unanswered: int
    accuracy: Interval | None
    macro_f1: float | None
    kappa: Coefficient
    labels: tuple[LabelFigures, ...]
    confusion: dict[tuple[str, str], int]


def against_gold(counts: Mapping[tuple[str, str | None], int]) -> GoldReport:
    """Measure an annotator; ``counts`` maps (label by people, label of the annotator or None without an answer) to a number of rows."""
    confusion = {(gold, given): count for (gold, given), count in counts.items() if given is not None and count}
    rows = sum(confusion.values())
    by_people, by_annotator, right = Counter[str](), Counter[str](), Counter[str]()
    for (gold, given), count in confusion.items():
        by_people[gold] += count
        by_annotator[given] += count
        right[gold] += count if gold == given else 0
    names = sorted({*by_people, *by_annotator}, key=lambda name: (-by_people[name], name))
    labels = tuple(_figures(name, by_people[name], by_annotator[name], right[name]) for name in names)
    scores = [figures.f1.mean for figures in labels if figures.gold and figures.f1 is not None]
    return GoldReport(
        rows=rows,
        unanswered=sum(count for (_, given), count in counts.items() if given is None),
        accuracy=share_interval(right.total(), rows) if rows else None,
        macro_f1=sum(scores) / len(scores) if scores else None,
        kappa=agreement(confusion).mean_cohen,
        labels=labels,
        confusion=confusion,
    )


def _figures(label: str, gold: int, given: int, right: int) -> LabelFigures:
    return LabelFigures(
        label,
        gold,
        given,
        precision=share_interval(right, given) if given else None,
        recall=share_interval(right, gold) if gold else None,
        f1=_f1(right, gold + given - right),
    )


def _f1(right: int, either: int) -> Interval:
    """Return F1 with the bounds of the share of right rows among those with the label on ``either`` side, of which it is a function."""
    share = share_interval(right, either)
    low, high = (2 * bound / (1 + bound) for bound in (max(share.low, 0.0), share.high))
    return Interval(2 * share.mean / (1 + share.mean), low, high, share.method)


@dataclass(frozen=True, slots=True)
class NumberGoldReport:
    """The figures of an annotator over the ``rows`` that have a number by people and one of the annotator.

    ``mean_error`` is the annotator's number minus the people's, ``mean_absolute_error`` without its sign; both None without rows.
    ``kappa`` has quadratic weights.
    """

    rows: int
    unanswered: int
    mean_error: float | None
    mean_absolute_error: float | None
    kappa: Coefficient


class NumberGold:
    """Measures an annotator of numbers; ``add`` takes one row after the other."""

    def __init__(self) -> None:
        self._rows = self._unanswered = 0
        self._error = self._absolute_error = 0.0
        self._agreement = RatingAgreement(2)

    def add(self, gold: float, given: float | None) -> None:
        """Count a row with the number of people and that of the annotator, None without an answer."""
        if given is None:
            self._unanswered += 1
            return
        self._rows += 1
        self._error += given - gold
        self._absolute_error += abs(given - gold)
        self._agreement.add((gold, given))

    def report(self) -> NumberGoldReport:
        """Return the figures of all rows so far."""
        rows = self._rows
        return NumberGoldReport(
            rows,
            self._unanswered,
            mean_error=self._error / rows if rows else None,
            mean_absolute_error=self._absolute_error / rows if rows else None,
            kappa=self._agreement.report().mean_cohen,
        )
