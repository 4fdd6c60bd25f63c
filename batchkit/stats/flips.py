"""Sign flips of differences: every combination of a few, seeded random ones of many. Seeded: the same values, the same p-value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from batchkit.stats.clusters import ROUNDING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

#: With more differences their mean is nearly normal, and flipping only costs time.
LARGEST_FLIPPED = 5_000
#: Up to so many differences all combinations of signs are made: 8,192.
LARGEST_EXACT = 13
#: The chances of all sums of whole numbers are added up where that takes no more additions.
_MOST_ADDITIONS = 20_000_000
#: Random flips of more of them: alone they could show no p-value below one ten-thousandth.
_FLIPS = 9_999
_SEED = 20_240_229
#: The number of signs in memory at the same time: about 16 MB.
_VALUES_AT_ONCE = 2_000_000


def _flipped(count: int) -> Iterator[NDArray[np.float64]]:
    """Yield blocks of combinations, a row each: 1 where a sign is flipped. The one that flips nothing is not among all of a few."""
    if count <= LARGEST_EXACT:
        combinations = np.arange(1, 2**count)[:, None]
        yield ((combinations >> np.arange(count)) & 1).astype(np.float64)
        return
    generator = np.random.default_rng(_SEED)
    at_once = max(_VALUES_AT_ONCE // count, 1)
    for start in range(0, _FLIPS, at_once):
        rows = min(at_once, _FLIPS - start)
        drawn = generator.integers(0, 256, (rows, -(-count // 8)), dtype=np.uint8)
        yield np.unpackbits(drawn, axis=1, count=count).astype(np.float64)


def flip_p_values(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Return the p-values of a difference in either direction, and of a fall, of the sum of ``differences``.

    Exact up to 13 differences that are not 0, and for whole numbers, which right and wrong answers give. If none of the random flips is
    as extreme, the p-value is Hoeffding's bound, where that is smaller: corrected for many tests, one ten-thousandth could never be
    significant (Hoeffding 1963, https://www.jstor.org/stable/2282952, theorem 2).
    """
    # A flipped sign does not change a difference of 0.
    changes = differences[np.abs(differences) > 0]
    if changes.size > LARGEST_EXACT and _is_whole(changes):
        return _of_whole_numbers(changes.astype(np.int64))
    total = float(changes.sum())
    slack = ROUNDING * float(np.abs(changes).sum())
    # The combination that flips nothing is as extreme as itself.
    combinations = as_extreme = as_low = 1
    for flipped in _flipped(changes.size):
        moved = total - 2 * (flipped @ changes)
        combinations += moved.size
        as_low += int((moved <= total + slack).sum())
        as_extreme += int((np.abs(moved) >= abs(total) - slack).sum())
    bound = extreme_bound(total, changes)
    p_value, fall_p_value = as_extreme / combinations, as_low / combinations
    if changes.size > LARGEST_EXACT:
        p_value = min(p_value, 2 * bound) if as_extreme == 1 else p_value
        fall_p_value = min(fall_p_value, bound) if as_low == 1 and total < 0 else fall_p_value
    return p_value, fall_p_value


def extreme_bound(total: float, values: NDArray[np.float64]) -> float:
    """Return a bound of the chance that random signs make the sum of ``values`` as far on one side of 0 as ``total`` (Hoeffding)."""
    return math.exp(-(total**2) / (2 * max(float((values**2).sum()), 1e-300)))


def _is_whole(changes: NDArray[np.float64]) -> bool:
    additions = changes.size * float(np.abs(changes).sum())
    return additions <= _MOST_ADDITIONS and bool((changes == np.rint(changes)).all())


def _of_whole_numbers(changes: NDArray[np.int64]) -> tuple[float, float]:
    """Return both p-values from the chances of every sum that random signs can make."""
    sizes, total = np.abs(changes), int(changes.sum())
    largest = int(sizes.sum())
    # The chance of each sum of the sizes with a negative sign; the whole sum is the largest one less twice that.
    chances = np.zeros(largest + 1)
    chances[0] = 1.0
    for size in sizes:
        chances /= 2
        chances[size:] += chances[:-size].copy()
    fall_p_value = float(chances[(largest - total) // 2 :].sum())
    one_side = float(chances[(largest + abs(total)) // 2 :].sum())
    return min(2 * one_side, 1.0), min(fall_p_value, 1.0)


def fall_shares(falls: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean fall of each combination's flipped part: the total of ``falls`` over the number of pairs.

    A flip of the differences, shifted by a fall, is as low as the differences themselves if its flipped part fell by no more
    than that. So these means answer for every fall at once.
    """
    both = np.column_stack([falls, sizes])
    found = []
    for flipped in _flipped(falls.size):
        fell, pairs = (flipped @ both).T
        # A combination that flips nothing is as low as itself.
        found.append(np.divide(fell, pairs, out=np.full(fell.shape, -math.inf), where=pairs > 0))
    return np.concatenate(found)


def fall_p_value(shares: NDArray[np.float64], fall: float) -> float:
    """Return the one-sided p-value against a true fall of at most ``fall``."""
    slack = ROUNDING * max(1.0, abs(fall))
    return (1 + int((shares <= fall + slack).sum())) / (1 + shares.size)


def largest_rejected(shares: NDArray[np.float64], level: float) -> float:
    """Return the fall up to which all falls have a p-value below ``level``; minus infinity if none has."""
    needed = math.ceil(level * (1 + shares.size) - 1 - ROUNDING)
    return float(np.partition(shares, needed - 1)[needed - 1]) if needed > 0 else -math.inf
