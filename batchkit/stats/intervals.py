"""Confidence intervals of means: Wilson's for proportions, the bootstrap for other means. Seeded: the same values, the same bounds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CONFIDENCE = 0.95
# Its quantile of the normal distribution.
_Z = 1.959963984540054
#: With more values the mean is nearly normal, and resampling only costs time.
LARGEST_RESAMPLED = 5_000
#: The bootstrap's bounds are then exact to about a fiftieth of their distance from the mean.
RESAMPLES = 2_999
_SEED = 20_240_229
#: The number of resampled values in memory at the same time: about 16 MB.
_VALUES_AT_ONCE = 2_000_000


class Interval(NamedTuple):
    """A mean with its bounds; ``method`` names the method for people."""

    mean: float
    low: float
    high: float
    method: str


def is_binary(values: NDArray[np.float64]) -> bool:
    """Whether all values are 0 or 1."""
    return bool(np.isin(values, (0.0, 1.0)).all())


def mean_interval(values: Sequence[float] | NDArray[np.float64]) -> Interval | None:
    """Return the mean of independent values with its 95 % interval; None without values.

    Only 0 and 1: Wilson's score interval. Otherwise the percentile bootstrap, and above 5,000 values Student's t. Equal values,
    or a single one, have no spread: the bounds are the mean.
    """
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        return None
    mean = float(array.mean())
    if is_binary(array):
        return share_interval(int(array.sum()), array.size)
    if float(np.ptp(array)) == 0.0:
        return Interval(mean, mean, mean, "no spread")
    low, high, method = spread_of_mean(array)
    return Interval(mean, low, high, method)


def share_interval(successes: int, count: int) -> Interval:
    """Return a share of ``count`` (at least 1) independent values with its 95 % interval.

    Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953.
    """
    share = successes / count
    shrink = 1 + _Z**2 / count
    middle = (share + _Z**2 / (2 * count)) / shrink
    half = _Z * math.sqrt(share * (1 - share) / count + (_Z / (2 * count)) ** 2) / shrink
    # At 0 and at 1, rounding could put the share outside.
    return Interval(share, min(middle - half, share), max(middle + half, share), "Wilson 95 %")


def spread_of_mean(array: NDArray[np.float64]) -> tuple[float, float, str]:
    """Return the bounds of the mean of different values: percentile bootstrap, or Student's t for many values."""
    from scipy import stats  # noqa: PLC0415 - takes half a second to load, and shares do not need it

    if array.size > LARGEST_RESAMPLED:
        low, high = stats.t.interval(CONFIDENCE, array.size - 1, loc=array.mean(), scale=stats.sem(array))
        return float(low), float(high), "t 95 %"
    found = stats.bootstrap(
        (array,),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        batch=values_at_once(array.size),
        method="percentile",
        rng=generator(),
    ).confidence_interval
    return float(found.low), float(found.high), "bootstrap 95 %"


def values_at_once(size: int) -> int:
    """Return the number of resamples of ``size`` values that are made together."""
    return max(_VALUES_AT_ONCE // size, 1)


def generator() -> np.random.Generator:
    """Return the generator of all resampling, always with the same seed, so that a report is reproducible."""
    return np.random.default_rng(_SEED)
