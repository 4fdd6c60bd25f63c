"""Agreement of several annotators: Cohen's and Fleiss' kappa, Krippendorff's alpha, for labels without an order (numbers: ``ratings``).

Everything is computed from the number of times each combination of labels occurs, so that ten million rows cost no more than the
few hundred combinations in them. Tested against statsmodels and krippendorff.

Sources: Cohen 1960; Fleiss 1971 (https://doi.org/10.1037/h0031619); Krippendorff 2011, "Computing Krippendorff's
Alpha-Reliability".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Labels = tuple[str | None, ...]

ONE_LABEL = "all ratings are the same label: agreement beyond chance cannot be measured"
NO_PAIRS = "no row was rated by two annotators"


@dataclass(frozen=True, slots=True)
class Coefficient:
    """A coefficient, 1 for perfect agreement and 0 for agreement by chance; None with the reason if it is undefined."""

    value: float | None
    rows: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class AgreementReport:
    """The agreement of annotators.

    ``cohen`` has one coefficient for each pair of annotators (numbered from 0), over the rows that both rated, and ``mean_cohen`` is the
    mean of the defined ones. ``fleiss`` covers the rows that all rated, ``alpha`` the rows that at least two rated. ``unanimous`` is the
    share of rows with two or more ratings whose ratings are all equal; None without such rows. ``level`` is the level of measurement:
    ``nominal`` for labels, ``interval`` for numbers.
    """

    rows: int
    raters: int
    rated_by_all: int
    rated_by_two: int
    unanimous: float | None
    cohen: dict[tuple[int, int], Coefficient]
    mean_cohen: Coefficient
    fleiss: Coefficient
    alpha: Coefficient
    level: str = "nominal"


def agreement(labels: Iterable[Iterable[str | None]] | Mapping[Labels, int]) -> AgreementReport:
    """Measure the agreement of ``labels``: rows with one label for each rater, None without a rating.

    Or a mapping from such rows to the number of times they occur (a ``Counter``). Raises ``ValueError`` if rows differ in length.
    """
    counts: Mapping[Labels, int] = labels if isinstance(labels, Mapping) else Counter(tuple(row) for row in labels)
    raters = _rater_count(counts)
    pairable = {row: count for row, count in counts.items() if len(_given(row)) > 1}
    rated_by_two = sum(pairable.values())
    agreeing = sum(count for row, count in pairable.items() if len(set(_given(row))) == 1)
    cohen = {pair: _cohen(counts, *pair) for pair in combinations(range(raters), 2)}
    complete = {row: count for row, count in counts.items() if None not in row}
    return AgreementReport(
        rows=sum(counts.values()),
        raters=raters,
        rated_by_all=sum(complete.values()),
        rated_by_two=rated_by_two,
        unanimous=agreeing / rated_by_two if rated_by_two else None,
        cohen=cohen,
        mean_cohen=mean_coefficient(cohen, rated_by_two),
        fleiss=_fleiss(complete, raters),
        alpha=_alpha(pairable),
    )


def _rater_count(counts: Mapping[Labels, int]) -> int:
    lengths = {len(row) for row in counts}
    if len(lengths) > 1:
        raise ValueError("every row must have one label for each annotator")
    return lengths.pop() if lengths else 0


def _given(row: Labels) -> list[str]:
    return [label for label in row if label is not None]


def _cohen(counts: Mapping[Labels, int], first: int, second: int) -> Coefficient:
    both: Counter[tuple[str, str]] = Counter()
    for row, count in counts.items():
        one, other = row[first], row[second]
        if one is not None and other is not None:
            both[one, other] += count
    rows = both.total()
    if not rows:
        return Coefficient(None, 0, NO_PAIRS)
    names = sorted({label for pair in both for label in pair})
    if len(names) == 1:
        return Coefficient(None, rows, ONE_LABEL)
    place = {name: number for number, name in enumerate(names)}
    table = np.zeros((len(names), len(names)))
    for (one, other), count in both.items():
        table[place[one], place[other]] = count
    observed = float(np.trace(table)) / rows
    by_chance = float(table.sum(axis=0) @ table.sum(axis=1)) / rows**2
    return Coefficient((observed - by_chance) / (1 - by_chance), rows)


def mean_coefficient(cohen: Mapping[tuple[int, int], Coefficient], rows: int) -> Coefficient:
    """Return the mean of the defined coefficients of pairs, over ``rows`` rows."""
    values = [found.value for found in cohen.values() if found.value is not None]
    if values:
        return Coefficient(float(np.mean(values)), rows)
    reasons = [found.reason for found in cohen.values() if found.reason != NO_PAIRS]
    return Coefficient(None, rows, reasons[0] if reasons else NO_PAIRS)


def _table(counts: Mapping[Labels, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how often each label was given in each combination, and how often each combination occurs."""
    names = sorted({label for row in counts for label in _given(row)})
    place = {name: number for number, name in enumerate(names)}
    table = np.zeros((len(counts), len(names)))
    for number, row in enumerate(counts):
        for label in _given(row):
            table[number, place[label]] += 1
    return table, np.array(list(counts.values()), dtype=np.float64)


def _fleiss(complete: Mapping[Labels, int], raters: int) -> Coefficient:
    rows = sum(complete.values())
    if not rows or raters < 2:  # noqa: PLR2004 - agreement needs two raters
        return Coefficient(None, rows, NO_PAIRS)
    table, weights = _table(complete)
    if table.shape[1] == 1:
        return Coefficient(None, rows, ONE_LABEL)
    agreed = ((table**2).sum(axis=1) - raters) / (raters * (raters - 1))
    observed = float(weights @ agreed) / rows
    shares = weights @ table / (rows * raters)
    by_chance = float((shares**2).sum())
    return Coefficient((observed - by_chance) / (1 - by_chance), rows)


def _alpha(pairable: Mapping[Labels, int]) -> Coefficient:
    rows = sum(pairable.values())
    if not rows:
        return Coefficient(None, 0, NO_PAIRS)
    table, weights = _table(pairable)
    if table.shape[1] == 1:
        return Coefficient(None, rows, ONE_LABEL)
    ratings = table.sum(axis=1)
    # Pairs of different labels within rows; each row counts with its number of ratings.
    differing = (ratings**2 - (table**2).sum(axis=1)) / (ratings - 1)
    totals = weights @ table
    total = totals.sum()
    expected = (total**2 - float((totals**2).sum())) / (total - 1)
    return Coefficient(1 - float(weights @ differing) / float(expected), rows)
