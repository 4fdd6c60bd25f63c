"""Whether scores truly fell by more than an accepted amount, and by how much they fell at least."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from batchkit.stats.flips import (
    LARGEST_EXACT,
    LARGEST_FLIPPED,
    extreme_bound,
    fall_p_value,
    fall_shares,
    largest_rejected,
)
from batchkit.stats.intervals import scale_of, student
from batchkit.stats.paired import Pairs, independent_constants, paired, student_error
from batchkit.stats.paired_shares import fall_test, largest_rejected_fall

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from batchkit.stats.clusters import Clusters, Values


def fall_beyond(before: Values, after: Values, fall: float, clusters: Clusters | None = None) -> float:
    """Return the one-sided p-value against "the mean truly fell by at most ``fall``": small if it fell by more.

    An observed fall of a little more than ``fall`` is no evidence: its p-value is near 0.5. ``fall`` is a share of 1 for scores
    of 0 and 1, and on the scale of the scores otherwise.

    Only 0 and 1: a score test with its exact distribution at the likeliest shares, and no smaller than the p-value of McNemar's
    exact test. Otherwise, and by cluster, the differences are shifted by ``fall`` and their signs flipped; above 5,000
    pairs or clusters, Student's t. That takes the differences to be symmetrical about their mean: where nearly all scores fell by one amount
    and a few rose far, it rejects too often with few pairs (the README beside this file has figures). Differences without spread count as in ``compare_pairs``. Without pairs the p-value is 1. Raises ``ValueError`` for different lengths, and for scores or
    a ``fall`` that are not finite.
    """
    if not math.isfinite(fall):
        raise ValueError("an accepted fall must be a finite number")
    pairs = paired(before, after, clusters)
    if not pairs.moved.size:
        return 1.0
    shares = _shares(pairs)
    if shares is not None:
        fall /= shares.width
        if not -1 < fall < 1:
            return 1.0 if fall > 0 else 0.0
        return fall_test(shares.fell, shares.rose, shares.pairs, fall)
    falls, sizes = _falls(pairs)
    if falls.size <= LARGEST_FLIPPED:
        shares_of_flips = fall_shares(falls, sizes)
        p_value = fall_p_value(shares_of_flips, fall)
        beyond_it = falls - fall * sizes
        is_beyond_all = falls.size > LARGEST_EXACT and p_value * (1 + shares_of_flips.size) == 1
        # None of the random flips fell as far: see ``flip_p_values``.
        return min(p_value, extreme_bound(float(beyond_it.sum()), beyond_it)) if is_beyond_all else p_value
    from scipy import stats  # noqa: PLC0415 - takes half a second to load

    error, freedom = student_error(pairs.moved, pairs.totals)
    beyond = -float(pairs.moved.mean()) - fall
    return float(stats.t.sf(beyond / error, freedom))


def fall_bound(before: Values, after: Values, level: float, clusters: Clusters | None = None) -> float | None:
    """Return what the mean fell by at least, with a chance of error of ``level`` (0.05: 95 % confidence); None without pairs.

    Positive for a fall. It is the bound of ``fall_beyond``: the p-value is below ``level`` for every smaller fall, and not for a
    larger one. Where there are too few pairs for this level, it is the largest rise that the scale allows, which reaches from 0, or
    the lowest score, to 1, or the highest one. Raises ``ValueError`` as ``fall_beyond`` does, and for a ``level`` outside of 0 to 0.5.
    """
    if not 0 < level < 0.5:  # noqa: PLR2004 - from there on, the bound would not be below the observed fall
        raise ValueError("the level of a bound must lie between 0 and 0.5")
    pairs = paired(before, after, clusters)
    if not pairs.moved.size:
        return None
    shares = _shares(pairs)
    if shares is not None:
        return shares.width * largest_rejected_fall(shares.fell, shares.rose, shares.pairs, level)
    falls, sizes = _falls(pairs)
    if falls.size <= LARGEST_FLIPPED:
        lowest, highest = scale_of(pairs.before, pairs.after)
        return max(largest_rejected(fall_shares(falls, sizes), level), lowest - highest)
    error, freedom = student_error(pairs.moved, pairs.totals)
    return -float(pairs.moved.mean()) - student(freedom, level) * error


class _Shares(NamedTuple):
    """As many pairs fell and rose across a scale of this width, of ``pairs``."""

    fell: float
    rose: float
    pairs: int
    width: float


def _shares(pairs: Pairs) -> _Shares | None:
    """Return the pairs as changes of 0 and 1; None for differences with a spread of their own.

    Differences without spread would otherwise be known without any doubt. They count as in ``compare_pairs``.
    """
    if pairs.is_binary and pairs.totals is None:
        return _Shares(int((pairs.moved < 0).sum()), int((pairs.moved > 0).sum()), pairs.moved.size, 1.0)
    count = independent_constants(pairs)
    if count is None:
        return None
    lowest, highest = scale_of(pairs.before, pairs.after)
    share = float(pairs.moved.mean()) / (highest - lowest)
    whole = int(count)
    return _Shares(max(-share, 0.0) * whole, max(share, 0.0) * whole, whole, highest - lowest)


def _falls(pairs: Pairs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the falls of the pairs, or of the clusters, and the number of pairs in each."""
    if pairs.totals is None:
        return -pairs.moved, np.ones(pairs.moved.size)
    return -pairs.totals.sums, pairs.totals.sizes
