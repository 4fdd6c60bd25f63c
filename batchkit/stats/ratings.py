"""Agreement of several annotators about numbers: Krippendorff's alpha at the interval level and weighted kappa.

Ratings of 3 and 4 disagree less than ratings of 1 and 5. Everything is computed from sums, so memory does not grow with the rows.
Tested against krippendorff and statsmodels.

Sources: Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability" (the difference function of the interval level);
Cohen 1968 (https://doi.org/10.1037/h0026256), with quadratic weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from batchkit.stats.agreement import NO_PAIRS, AgreementReport, Coefficient, mean_coefficient

if TYPE_CHECKING:
    from collections.abc import Sequence

ONE_VALUE = "all ratings are the same number: agreement beyond chance cannot be measured"
TOO_LARGE = "the squares of the numbers are too large"
NOT_FOR_NUMBERS = "Fleiss' kappa is for labels without an order"


class RatingAgreement:
    """Measures the agreement of ``raters`` annotators; ``add`` takes one row of ratings after the other."""

    def __init__(self, raters: int) -> None:
        self._raters = raters
        self._shift: float | None = None
        self._rows = self._rated_by_all = self._pairable = self._agreeing = 0
        self._all = _Moments()
        self._within = 0.0
        self._pairs = {pair: _PairMoments() for pair in combinations(range(raters), 2)}

    def add(self, ratings: Sequence[float | None]) -> None:
        """Count a row: the finite number that each annotator gave, None without one. Raises ``ValueError`` for another length."""
        if len(ratings) != self._raters:
            raise ValueError("every row must have one rating for each annotator")
        given = [rating for rating in ratings if rating is not None]
        self._rows += 1
        self._rated_by_all += len(given) == self._raters
        if len(given) < 2:  # noqa: PLR2004 - agreement needs two ratings
            return
        if self._shift is None:
            # Squares of numbers near the mean lose no digits.
            self._shift = given[0]
        shift = self._shift
        self._pairable += 1
        self._agreeing += len(set(given)) == 1
        unit = _Moments()
        for rating in given:
            unit.add(rating - shift)
        self._all.merge(unit)
        # Each row counts with its number of ratings.
        self._within += unit.squared_differences / (unit.count - 1)
        for (first, second), pair in self._pairs.items():
            one, other = ratings[first], ratings[second]
            if one is not None and other is not None:
                pair.add(one - shift, other - shift)

    def report(self) -> AgreementReport:
        """Return the agreement of all rows so far. Cohen's kappa has quadratic weights; Fleiss' kappa is undefined."""
        cohen = {pair: found.kappa() for pair, found in self._pairs.items()}
        return AgreementReport(
            rows=self._rows,
            raters=self._raters,
            rated_by_all=self._rated_by_all,
            rated_by_two=self._pairable,
            unanimous=self._agreeing / self._pairable if self._pairable else None,
            cohen=cohen,
            mean_cohen=mean_coefficient(cohen, self._pairable),
            fleiss=Coefficient(None, self._rated_by_all, NOT_FOR_NUMBERS),
            alpha=self._alpha(),
            level="interval",
        )

    def _alpha(self) -> Coefficient:
        if not self._pairable:
            return Coefficient(None, 0, NO_PAIRS)
        expected = self._all.squared_differences / (self._all.count - 1)
        if not expected:
            return Coefficient(None, self._pairable, ONE_VALUE)
        if not math.isfinite(expected):
            return Coefficient(None, self._pairable, TOO_LARGE)
        return Coefficient(1 - self._within / expected, self._pairable)


@dataclass(slots=True)
class _Moments:
    """The number of values, their sum, and the sum of their squares."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value
        self.squares += value * value

    def merge(self, other: _Moments) -> None:
        self.count += other.count
        self.total += other.total
        self.squares += other.squares

    @property
    def squared_differences(self) -> float:
        """The sum of the squared differences of all ordered pairs of values; rounding never makes it negative."""
        return max(2 * (self.count * self.squares - self.total * self.total), 0.0)


class _PairMoments:
    """The sums of the ratings of two annotators over the rows that both rated."""

    def __init__(self) -> None:
        self._first = _Moments()
        self._second = _Moments()
        self._squared_differences = 0.0

    def add(self, one: float, other: float) -> None:
        self._first.add(one)
        self._second.add(other)
        self._squared_differences += (one - other) * (one - other)

    def kappa(self) -> Coefficient:
        first, second = self._first, self._second
        rows = first.count
        if not rows:
            return Coefficient(None, 0, NO_PAIRS)
        by_chance = (rows * (first.squares + second.squares) - 2 * first.total * second.total) / rows**2
        if not math.isfinite(by_chance):
            return Coefficient(None, rows, TOO_LARGE)
        if by_chance <= 0:
            return Coefficient(None, rows, ONE_VALUE)
        return Coefficient(1 - self._squared_differences / rows / by_chance, rows)
