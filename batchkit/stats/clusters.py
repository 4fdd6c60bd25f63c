"""Values that belong together: the questions of one passage, document, user or conversation are one cluster.

They are right or wrong together, so that a hundred questions of ten passages say less than a hundred of a hundred. The error of
their mean is computed from the totals of the clusters. Sources: Miller 2024 (https://arxiv.org/abs/2411.00640, section 2.2);
Bell and McCaffrey 2002, "Bias Reduction in Standard Errors for Linear Regression with Multi-Stage Samples".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Values = Sequence[float] | NDArray[np.float64]
    Clusters = Sequence[int] | NDArray[np.int64]

#: Differences below this share of the scale are rounding.
ROUNDING = 1e-12


class ClusterTotals(NamedTuple):
    """The sum and the number of values of each cluster, in the order of the clusters' numbers; ``nonzero`` of them are not 0."""

    sums: NDArray[np.float64]
    sizes: NDArray[np.float64]
    nonzero: NDArray[np.float64]


class MeanError(NamedTuple):
    """The standard error of a mean, and the degrees of freedom of Student's distribution that it needs."""

    error: float
    freedom: float


def numbers(values: Values) -> NDArray[np.float64]:
    """Return values as an array. Raises ``ValueError`` unless they are a list of finite numbers."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError("scores must be a list of numbers")
    if not np.isfinite(array).all():
        raise ValueError("scores must be finite numbers; leave out the rows without a score")
    return array


def cluster_totals(values: NDArray[np.float64], clusters: Clusters) -> ClusterTotals:
    """Add up the values of each cluster.

    Raises ``ValueError`` unless ``clusters`` has one whole number for each value.
    """
    numbered = np.asarray(clusters)
    if numbered.shape != values.shape:
        raise ValueError("clusters and scores must have the same length")
    if numbered.size and not np.issubdtype(numbered.dtype, np.integer):
        raise ValueError("clusters must be whole numbers, one for each score")
    _, places = np.unique(numbered, return_inverse=True)
    ones = np.ones(values.size)
    return ClusterTotals(*(np.bincount(places, weights).astype(np.float64) for weights in (values, ones, values != 0)))


def effective_clusters(totals: ClusterTotals) -> float:
    """Return how many clusters of one size say as much, if the values of a cluster are always equal."""
    return float(totals.sizes.sum() ** 2 / (totals.sizes**2).sum())


def error_of_mean(values: NDArray[np.float64], totals: ClusterTotals) -> MeanError:
    """Return the cluster-robust standard error (CR2) of the mean of all values; 0 for clusters without spread, or a single one.

    Clusters of one size have one degree of freedom less than there are clusters, as Student's test of their means has.
    Clusters of different sizes have fewer (Satterthwaite), because the large ones decide.
    """
    count = totals.sizes.sum()
    shares = totals.sizes / count
    if shares.size < 2:  # noqa: PLR2004 - one cluster has no spread
        return MeanError(0.0, 1.0)
    # The part of the mean by which each cluster is off.
    off = totals.sums / count - totals.sums.sum() / count * shares
    if float(np.abs(off).max()) <= ROUNDING * max(1.0, float(np.abs(values).max())):
        return MeanError(0.0, 1.0)
    variance = float((off**2 / (1 - shares)).sum())
    worst = count / effective_clusters(totals)
    measured = variance / (float(values.var(ddof=1)) / count)
    # Clusters of one value each have no likeness.
    likeness = min(max((measured - 1) / (worst - 1), 0.0), 1.0) if worst > 1 else 0.0
    freedom, bias = _freedom(shares, shares * (1 + (totals.sizes - 1) * likeness))
    return MeanError(math.sqrt(variance / bias), freedom)


def _freedom(shares: NDArray[np.float64], variances: NDArray[np.float64]) -> tuple[float, float]:
    """Return Satterthwaite's degrees of freedom of the variance above, and its bias, if the sums have these variances.

    The variance is a quadratic form of the clusters' sums with the matrix D - b 1' - 1 b' + s 1 1', where w are the shares, D has
    1 / (1 - w) on its diagonal, b is D w and s is w' D w. Its trace and that of its square need no matrix of all clusters.
    """
    diagonal = 1 / (1 - shares)
    weights = diagonal * shares
    total = float((weights * shares).sum())
    trace = float((variances * (diagonal - 2 * weights + total)).sum())
    inner = np.array([[total, -1.0], [-1.0, 0.0]])
    factors = np.stack([np.ones(shares.size), weights])
    crossed = inner @ ((factors * variances) @ factors.T)
    mixed = inner @ ((factors * variances**2 * diagonal) @ factors.T)
    square = float(((diagonal * variances) ** 2).sum() + 2 * np.trace(mixed) + np.trace(crossed @ crossed))
    return max(trace**2 / square, 1.0), trace / float(variances.sum())


def independent_count(values: NDArray[np.float64], totals: ClusterTotals, error: float) -> float:
    """Return how many independent values of 0 and 1 (or their differences) say as much as these clustered ones.

    Only clusters that hold a value of the rarer kind tell how alike the values of a cluster are, and few of them tell little: a
    single wrong answer looks independent. So one more cluster is added, whose values are all alike.
    """
    worst = values.size / effective_clusters(totals)
    if error == 0.0:
        return values.size / worst
    informative = min(np.count_nonzero(totals.nonzero), np.count_nonzero(totals.nonzero < totals.sizes))
    measured = error**2 / (float(values.var()) / values.size)
    return values.size * (informative + 1) / (informative * measured + worst)


def design_effect(values: Values, clusters: Clusters) -> float:
    """Return how many times larger the variance of the mean is than that of as many independent values.

    500 values with a design effect of 5 say as much as 100 independent ones. Below 1 the values of a cluster balance each
    other. Without any spread, or with a single cluster, it cannot be measured: then it is the one of clusters whose
    values are always equal. Raises ``ValueError`` without values.
    """
    array = numbers(values)
    totals = cluster_totals(array, clusters)
    if not array.size:
        raise ValueError("a design effect needs scores")
    error = error_of_mean(array, totals).error
    if error == 0.0:
        return array.size / effective_clusters(totals)
    return error**2 / (float(array.var(ddof=1)) / array.size)
