"""Two runs over the same rows: how far the mean changed, and whether that is significant."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from batchkit.stats.clusters import (
    ClusterTotals,
    cluster_totals,
    effective_clusters,
    error_of_mean,
    independent_count,
    numbers,
)
from batchkit.stats.flips import LARGEST_FLIPPED, flip_p_values
from batchkit.stats.intervals import NORMAL, is_binary, is_constant, scale_of, student
from batchkit.stats.paired_shares import fall_bounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from batchkit.stats.clusters import Clusters, Values


class PairedComparison(NamedTuple):
    """A paired comparison. ``low`` and ``high`` bound the difference (after minus before) with 95 % confidence.

    ``p_value`` is two-sided; ``fall_p_value`` is one-sided, for a fall. ``fell`` and ``rose`` count the pairs that changed.
    ``clusters`` is the number of clusters that the pairs belong to, None if the pairs were compared as independent ones.
    """

    before: float
    after: float
    difference: float
    low: float
    high: float
    p_value: float
    fall_p_value: float
    method: str
    pairs: int
    fell: int
    rose: int
    clusters: int | None = None


class Pairs(NamedTuple):
    """Checked scores of the same rows.

    ``totals`` are those of the differences by cluster; None without clusters, or if each of them has one pair, which is the same.
    """

    before: NDArray[np.float64]
    after: NDArray[np.float64]
    moved: NDArray[np.float64]
    totals: ClusterTotals | None
    is_binary: bool
    clusters: int | None


def paired(before: Values, after: Values, clusters: Clusters | None) -> Pairs:
    """Check scores of the same rows. Raises ``ValueError`` for different lengths and for scores that are not finite."""
    first, second = numbers(before), numbers(after)
    if first.shape != second.shape:
        raise ValueError("before and after must have the same length")
    moved = second - first
    both_binary = is_binary(first) and is_binary(second)
    if clusters is None:
        return Pairs(first, second, moved, None, both_binary, None)
    totals = cluster_totals(moved, clusters)
    count = totals.sums.size
    return Pairs(first, second, moved, totals if count < moved.size else None, both_binary, count)


def compare_pairs(before: Values, after: Values, clusters: Clusters | None = None) -> PairedComparison | None:
    """Compare scores of the same rows, place by place; None without pairs.

    Only 0 and 1: McNemar's exact test. Otherwise the sign-flip permutation test of the mean difference (exact up to 13 pairs
    that differ, else 9,999 seeded flips), and above 5,000 differing pairs the paired t test. ``clusters`` has one whole number
    for each pair: pairs with the same number belong together, and the signs of a whole cluster are flipped at once.

    The bounds are Tango's for 0 and 1, else Student's t, both with the error of the clusters if there are any. They never
    have width 0: pairs that all changed by the same amount, or not at all, count as the share of the scale that this
    amount is, as if so many pairs had moved across the whole scale and the others not at all.

    Raises ``ValueError`` for different lengths and for scores that are not finite.
    """
    pairs = paired(before, after, clusters)
    moved, totals = pairs.moved, pairs.totals
    if not moved.size:
        return None
    fell, rose = int((moved < 0).sum()), int((moved > 0).sum())
    low, high = difference_bounds(pairs)
    if pairs.is_binary and totals is None:
        p_value, fall_p_value, method = *_mcnemar(fell, rose), "McNemar exact"
    else:
        p_value, fall_p_value, method = _means(moved, totals)
    return PairedComparison(
        float(pairs.before.mean()),
        float(pairs.after.mean()),
        float(moved.mean()),
        low,
        high,
        p_value,
        fall_p_value,
        method,
        moved.size,
        fell,
        rose,
        pairs.clusters,
    )


def difference_bounds(pairs: Pairs) -> tuple[float, float]:
    """Return the 95 % bounds of the mean difference of at least one pair."""
    moved, totals = pairs.moved, pairs.totals
    mean = float(moved.mean())
    if pairs.is_binary and totals is None:
        return _share_bounds(pairs, moved.size, NORMAL)
    count = independent_constants(pairs)
    if count is not None:
        return _constant_bounds(pairs, count)
    error, freedom = student_error(moved, totals)
    quantile = student(freedom)
    if pairs.is_binary and totals is not None:
        return _share_bounds(pairs, independent_count(moved, totals, error), quantile)
    return mean - quantile * error, mean + quantile * error


def independent_constants(pairs: Pairs) -> float | None:
    """Return how many independent pairs there are if the differences, or the means of their clusters, are all equal; else None."""
    if pairs.totals is None:
        return pairs.moved.size if is_constant(pairs.moved) else None
    return effective_clusters(pairs.totals) if error_of_mean(pairs.moved, pairs.totals).error == 0.0 else None


def _share_bounds(pairs: Pairs, count: float, quantile: float) -> tuple[float, float]:
    """Return the bounds of the difference of two shares, for pairs that say as much as ``count`` independent ones."""
    fell, rose = float((pairs.moved < 0).mean()) * count, float((pairs.moved > 0).mean()) * count
    smallest, largest = fall_bounds(fell, rose, count, quantile)
    return -largest, -smallest


def _constant_bounds(pairs: Pairs, count: float) -> tuple[float, float]:
    """Return the bounds of differences without spread, for ``count`` independent pairs."""
    lowest, highest = scale_of(pairs.before, pairs.after)
    mean, width = float(pairs.moved.mean()), highest - lowest
    share = mean / width
    smallest, largest = fall_bounds(max(-share, 0.0) * count, max(share, 0.0) * count, count, NORMAL)
    return min(-largest * width, mean), max(-smallest * width, mean)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return corrected p-values of simultaneous tests, in their order: the chance of any false alarm stays below the level.

    Holm 1979, https://www.jstor.org/stable/4615733.
    """
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty(len(p_values))
    # The smallest is multiplied by the number of values, the next by one less; none is below the one before it.
    remaining = np.arange(len(p_values), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * remaining), 1.0)
    return [float(value) for value in corrected]


def _mcnemar(fell: int, rose: int) -> tuple[float, float]:
    """Return the two-sided and the one-sided p-value of as many falls as rises among the changed pairs."""
    if not fell + rose:
        return 1.0, 1.0
    from scipy import stats  # noqa: PLC0415 - takes half a second to load, and most runs have no pairs that changed

    two_sided = stats.binomtest(fell, fell + rose, 0.5).pvalue
    return float(two_sided), float(stats.binomtest(fell, fell + rose, 0.5, alternative="greater").pvalue)


def _means(moved: NDArray[np.float64], totals: ClusterTotals | None) -> tuple[float, float, str]:
    """Return the two-sided and the one-sided p-value of no difference, and the name of the test."""
    sums = moved if totals is None else totals.sums
    by_cluster = "" if totals is None else " by cluster"
    if np.count_nonzero(sums) <= LARGEST_FLIPPED:
        return *flip_p_values(sums), f"sign-flip permutation{by_cluster}"
    from scipy import stats  # noqa: PLC0415 - as above

    error, freedom = student_error(moved, totals)
    # The error of thousands of equal differences is 0, and their distance from no difference infinite.
    distance = float(moved.mean()) / max(error, 1e-300)
    fall_p_value = float(stats.t.cdf(distance, freedom))
    return 2 * float(stats.t.sf(abs(distance), freedom)), fall_p_value, f"paired t{by_cluster}"


def student_error(moved: NDArray[np.float64], totals: ClusterTotals | None) -> tuple[float, float]:
    """Return the standard error of the mean difference and its degrees of freedom, by cluster if there are any."""
    if totals is not None:
        return error_of_mean(moved, totals)
    return float(moved.std(ddof=1)) / math.sqrt(moved.size), moved.size - 1.0
