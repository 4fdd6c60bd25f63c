"""The smallest fall that a paired test of so many rows finds, before anything is paid for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from batchkit.stats.paired_shares import chance_of_score, likely_changes

if TYPE_CHECKING:
    from collections.abc import Callable

_PRECISION = 1e-6
#: From so many pairs on, the noncentral t distribution is the normal one to six digits, and cheaper.
_NORMAL_FROM = 10_000


def smallest_fall(
    pairs: int, *, changing: float, level: float, power: float, beyond: float = 0.0, design_effect: float = 1.0
) -> float | None:
    """Return the smallest fall of a share that the paired test finds with this power; None if it finds none.

    ``changing`` is the share of rows whose score changes by noise alone, half of them down: the changed rows of two runs of the
    same model, or an assumption that the caller names. ``level`` is that of the one-sided test, after any correction. With
    ``beyond`` the fall must be significantly larger than that (``fall_beyond``), else than 0 (McNemar's exact test).
    ``design_effect`` divides the number of pairs.

    The power is exact for independent pairs; the fall is exact to a millionth. Raises ``ValueError`` for values out of range.
    """
    count = _independent(pairs, level, power, design_effect)
    if not 0 <= changing <= 1 or not 0 <= beyond < 1:
        raise ValueError("the share of changing rows and the accepted fall must lie between 0 and 1")
    if not count:
        return None

    def found(fall: float) -> float:
        rise = min(changing, 1 - fall) / 2
        return _share_power(count, rise=rise, fallen=min(rise + fall, 1.0), level=level, beyond=beyond)

    return _smallest(found, beyond, 1.0, power)


def smallest_graded_fall(
    pairs: int, *, deviation: float, level: float, power: float, beyond: float = 0.0, design_effect: float = 1.0
) -> float | None:
    """Return the smallest fall of a mean of graded scores that the paired test finds with this power; None for fewer than two pairs.

    It can be larger than the scale of the scores, which the caller knows: then there are too few pairs.

    ``deviation`` is the standard deviation of the differences (after minus before) of the rows of two runs of the same model. The
    others are those of ``smallest_fall``. The power is that of Student's test, which flipped signs have too, but for fewer than
    about ten pairs. Raises ``ValueError`` for values out of range.
    """
    count = _independent(pairs, level, power, design_effect)
    if not math.isfinite(deviation) or deviation < 0:
        raise ValueError("the deviation of the differences must be a finite number, and not negative")
    if count < 2:  # noqa: PLR2004 - one pair has no spread
        return None
    if deviation == 0:
        return beyond
    error = deviation / math.sqrt(count)
    from scipy import stats  # noqa: PLC0415 - takes half a second to load

    if count >= _NORMAL_FROM:
        return beyond + error * float(stats.norm.isf(level) + stats.norm.ppf(power))
    least = float(stats.t.isf(level, count - 1))

    def found(fall: float) -> float:
        return float(stats.nct.sf(least, count - 1, (fall - beyond) / error))

    largest = beyond + error
    # Two pairs and a strict level need thousands of standard errors.
    while found(largest) < power:
        largest = beyond + 2 * (largest - beyond)
    return _smallest(found, beyond, largest, power)


def _independent(pairs: int, level: float, power: float, design_effect: float) -> int:
    """Return the number of independent pairs that say as much."""
    if not 0 < level < 0.5 or not 0 < power < 1:  # noqa: PLR2004 - one side of the distribution
        raise ValueError("the level must lie between 0 and 0.5, the power between 0 and 1")
    if pairs < 0 or not math.isfinite(design_effect) or design_effect <= 0:
        raise ValueError("the number of pairs must not be negative, and the design effect must be larger than 0")
    return int(pairs / design_effect)


def _smallest(found: Callable[[float], float], low: float, high: float, power: float) -> float | None:
    """Return the smallest fall between the two that is found with this power."""
    if found(high) < power:
        return None
    while high - low > _PRECISION * max(high, _PRECISION):
        middle = (low + high) / 2
        low, high = (middle, high) if found(middle) < power else (low, middle)
    return high


def _share_power(count: int, *, rise: float, fallen: float, level: float, beyond: float) -> float:
    """Return the chance of a significant fall, if these are the true shares of pairs that rise and fall."""
    from scipy import stats  # noqa: PLC0415 - as above

    if beyond > 0:
        return chance_of_score(float(stats.norm.isf(level)), count, beyond, rise=rise, fallen=fallen)
    changing = min(rise + fallen, 1.0)
    if changing == 0:
        return 0.0
    changed = likely_changes(count, changing)
    # The smallest number of falls whose binomial tail is below the level.
    needed = stats.binom.isf(level, changed, 0.5) + 1
    needed += stats.binom.sf(needed - 1, changed, 0.5) >= level
    chances = stats.binom.pmf(changed, count, changing) * stats.binom.sf(needed - 1, changed, fallen / changing)
    return float(np.minimum(chances.sum(), 1.0))
