"""Confidence intervals of means: Wilson's for proportions, Student's t for other means, both by cluster where values belong together."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from batchkit.stats.clusters import (
    ROUNDING,
    cluster_totals,
    effective_clusters,
    error_of_mean,
    independent_count,
    numbers,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from batchkit.stats.clusters import Clusters, ClusterTotals, Values

CONFIDENCE = 0.95
#: The quantile of the normal distribution for it.
NORMAL = 1.959963984540054


class Interval(NamedTuple):
    """A mean with its bounds; ``method`` names the method for people."""

    mean: float
    low: float
    high: float
    method: str


def is_binary(values: NDArray[np.float64]) -> bool:
    """Whether all values are 0 or 1."""
    return bool(((values == 0.0) | (values == 1.0)).all())


def mean_interval(values: Values, clusters: Clusters | None = None) -> Interval | None:
    """Return the mean of values with its 95 % interval; None without values.

    Only 0 and 1: Wilson's score interval. Otherwise Student's t. ``clusters`` has one whole number for each value: values with the
    same number belong together (the questions of a passage). The error is then that of the clusters, with Student's quantile;
    for 0 and 1 it becomes the number of independent values in Wilson's formula.

    No interval has width 0. Equal values that are not 0 or 1 count as a share of their scale, which reaches from 0, or the
    lowest value, to 1, or the highest one: Wilson's formula with that share, as if it were one of right answers. So does a
    single value, and a single cluster counts as a single value. Clusters whose means are all equal count as one value each.

    Raises ``ValueError`` for other lengths of ``clusters``, and for values that are not finite.
    """
    array = numbers(values)
    totals = None if clusters is None else cluster_totals(array, clusters)
    if not array.size:
        return None
    # Clusters of one value each are no clusters.
    if totals is not None and totals.sums.size < array.size:
        return _clustered(array, totals)
    if is_binary(array):
        return share_interval(int(array.sum()), array.size)
    mean = float(array.mean())
    if is_constant(array):
        low, high = scaled_bounds(array, mean, array.size)
        return Interval(mean, low, high, "Wilson 95 %, no spread")
    half = student(array.size - 1.0) * float(array.std(ddof=1)) / math.sqrt(array.size)
    return Interval(mean, mean - half, mean + half, "t 95 %")


def _clustered(array: NDArray[np.float64], totals: ClusterTotals) -> Interval:
    mean = float(array.mean())
    error, freedom = error_of_mean(array, totals)
    if is_binary(array) and error > 0.0:
        low, high = wilson(mean, independent_count(array, totals, error), student(freedom))
        return Interval(mean, low, high, "Wilson 95 %, by cluster")
    if error == 0.0:
        low, high = scaled_bounds(array, mean, effective_clusters(totals))
        return Interval(mean, low, high, "Wilson 95 %, by cluster")
    half = student(freedom) * error
    return Interval(mean, mean - half, mean + half, "t 95 %, by cluster")


def share_interval(successes: int, count: int) -> Interval:
    """Return a share of ``count`` (at least 1) independent values with its 95 % interval.

    Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953.
    """
    share = successes / count
    return Interval(share, *wilson(share, count, NORMAL), "Wilson 95 %")


def wilson(share: float, count: float, quantile: float) -> tuple[float, float]:
    """Return Wilson's bounds of a share of ``count`` independent values, which need not be a whole number."""
    shrink = 1 + quantile**2 / count
    middle = (share + quantile**2 / (2 * count)) / shrink
    half = quantile * math.sqrt(share * (1 - share) / count + (quantile / (2 * count)) ** 2) / shrink
    # At 0 and at 1, rounding could put the share outside.
    return min(middle - half, share), max(middle + half, share)


def scale_of(*arrays: NDArray[np.float64]) -> tuple[float, float]:
    """Return the scale that scores are taken to have: 0 to 1, or further if a score lies outside."""
    return (
        min(0.0, *(float(array.min()) for array in arrays)),
        max(1.0, *(float(array.max()) for array in arrays)),
    )


def is_constant(array: NDArray[np.float64]) -> bool:
    """Whether all values are equal, apart from rounding."""
    return float(np.ptp(array)) <= ROUNDING * max(1.0, float(np.abs(array).max()))


def scaled_bounds(array: NDArray[np.float64], mean: float, count: float) -> tuple[float, float]:
    """Return Wilson's bounds of a mean as a share of the scale of ``array``, for ``count`` independent values."""
    lowest, highest = scale_of(array)
    width = highest - lowest
    share = min(max((mean - lowest) / width, 0.0), 1.0)
    low, high = wilson(share, count, NORMAL)
    return min(lowest + low * width, mean), max(lowest + high * width, mean)


@functools.lru_cache(maxsize=4096)
def student(freedom: float, tail: float = (1 - CONFIDENCE) / 2) -> float:
    """Return the quantile of Student's distribution that is exceeded with probability ``tail``."""
    from scipy import stats  # noqa: PLC0415 - takes half a second to load, and shares do not need it

    return float(stats.t.isf(tail, freedom))
