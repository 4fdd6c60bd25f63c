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
    """The sum and the number of values of each cluster, in the order of the clusters' numbers."""

    sums: NDArray[np.float64]
    sizes: NDArray[np.float64]


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
    return ClusterTotals(np.bincount(places, weights=values).astype(np.float64), np.bincount(places).astype(np.float64))


def as_clusters(values: NDArray[np.float64], clusters: Clusters | None) -> ClusterTotals | None:
    """Return the totals of the clusters; None without clusters, or if each has a single value, which is the same."""
    if clusters is None:
        return None
    totals = cluster_totals(values, clusters)
    return totals if totals.sums.size < values.size else None


def error_of_mean(totals: ClusterTotals) -> MeanError:
    """Return the cluster-robust standard error (CR2) of the mean of all values; 0 for a single cluster.

    Clusters of one size have one degree of freedom less than there are clusters, as Student's test of their means has.
    Clusters of different sizes have fewer (Satterthwaite), because the large ones decide.
    """
    shares = totals.sizes / totals.sizes.sum()
    if shares.size < 2:  # noqa: PLR2004 - one cluster has no spread
        return MeanError(0.0, 1.0)
    mean = totals.sums.sum() / totals.sizes.sum()
    # The share of the total by which each cluster is off.
    off = totals.sums / totals.sizes.sum() - mean * shares
    if float(np.abs(off).max()) <= ROUNDING * max(1.0, float(np.abs(totals.sums).max())) / totals.sizes.sum():
        return MeanError(0.0, 1.0)
    variance = float((off**2 / (1 - shares)).sum())
    return MeanError(math.sqrt(variance), _freedom(shares))


def _freedom(shares: NDArray[np.float64]) -> float:
    """Return Satterthwaite's degrees of freedom of the variance above, for values that are equal within a cluster.

    The variance is a quadratic form of the clusters' means with the matrix D - w a' - a w' + s w w', where w are the shares, a
    is w^2 / (1 - w), D has a on its diagonal and s is the sum of a. Its trace and that of its square need no matrix.
    """
    weights = shares**2 / (1 - shares)
    total = weights.sum()
    squares = float((shares**2).sum())
    trace = float((weights * (1 - 2 * shares + squares)).sum())
    crossed = np.array([[squares, (shares * weights).sum()], [(shares * weights).sum(), (weights**2).sum()]])
    inner = np.array([[total, -1.0], [-1.0, 0.0]])
    diagonal = np.array(
        [
            [(weights * shares**2).sum(), (weights**2 * shares).sum()],
            [(weights**2 * shares).sum(), (weights**3).sum()],
        ]
    )
    square = (
        float((weights**2).sum())
        + 2 * float(np.trace(inner @ diagonal))
        + float(np.trace(inner @ crossed @ inner @ crossed))
    )
    return max(trace**2 / square, 1.0)


def design_effect(values: Values, clusters: Clusters) -> float:
    """Return how many times larger the variance of the mean is than that of as many independent values.

    500 values with a design effect of 5 say as much as 100 independent ones. Below 1 the values of a cluster balance each
    other. Without any spread, or with a single cluster, it cannot be measured: then it is the mean size of the clusters, as if the
    values of a cluster were always equal. Raises ``ValueError`` without values.
    """
    array = numbers(values)
    totals = cluster_totals(array, clusters)
    if not array.size:
        raise ValueError("a design effect needs scores")
    error = error_of_mean(totals).error
    if error == 0.0:
        return array.size / totals.sums.size
    return error**2 / (float(array.var(ddof=1)) / array.size)
