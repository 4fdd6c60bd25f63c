"""Two runs over the same rows: how far the mean changed, and whether that is significant."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from batchkit.stats.intervals import (
    LARGEST_RESAMPLED,
    generator,
    is_binary,
    spread_of_mean,
    values_at_once,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Flips of the permutation test: its smallest p-value is one ten-thousandth.
_FLIPS = 9_999


class PairedComparison(NamedTuple):
    """A paired comparison. ``low`` and ``high`` bound the difference (after minus before) with 95 % confidence.

    ``p_value`` is two-sided; ``fall_p_value`` is one-sided, for a fall. ``fell`` and ``rose`` count the pairs that changed.
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


def compare_pairs(
    before: Sequence[float] | NDArray[np.float64], after: Sequence[float] | NDArray[np.float64]
) -> PairedComparison | None:
    """Compare scores of the same rows, place by place; None without pairs.

    Only 0 and 1: McNemar's exact test. Otherwise the sign-flip permutation test of the mean difference (exact up to 13 pairs
    that differ, else 9,999 seeded flips), and above 5,000 differing pairs the paired t test. The bounds come from the paired
    bootstrap.
    """
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError("before and after must have the same length")
    if not first.size:
        return None
    moved = second - first
    fell, rose = int((moved < 0).sum()), int((moved > 0).sum())
    mean = float(moved.mean())
    low, high = (mean, mean) if float(np.ptp(moved)) == 0.0 else spread_of_mean(moved)[:2]
    if is_binary(first) and is_binary(second):
        p_value, fall_p_value, method = *_mcnemar(fell, rose), "McNemar exact"
    else:
        p_value, fall_p_value, method = _means(moved)
    return PairedComparison(
        float(first.mean()),
        float(second.mean()),
        mean,
        low,
        high,
        p_value,
        fall_p_value,
        method,
        first.size,
        fell,
        rose,
    )


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


def _means(moved: NDArray[np.float64]) -> tuple[float, float, str]:
    # A flipped sign does not change a difference of 0.
    changes = moved[moved != 0]
    if changes.size < 2:  # noqa: PLR2004 - a single change is not significant
        return 1.0, 0.5 if changes.size and changes[0] < 0 else 1.0, "sign-flip permutation"
    if changes.size > LARGEST_RESAMPLED:
        from scipy import stats  # noqa: PLC0415 - as above

        two_sided, one_sided = (
            float(stats.ttest_1samp(moved, 0.0, alternative=side).pvalue) for side in ("two-sided", "less")
        )
        return two_sided, one_sided, "paired t"
    two_sided, one_sided = (_sign_flips(changes, side) for side in ("two-sided", "less"))
    return two_sided, one_sided, "sign-flip permutation"


def _sign_flips(changes: NDArray[np.float64], alternative: str) -> float:
    from scipy import stats  # noqa: PLC0415 - as above

    found = stats.permutation_test(
        (changes,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=_FLIPS,
        batch=values_at_once(changes.size),
        alternative=alternative,
        rng=generator(),
    )
    return float(found.pvalue)
