"""The difference of two shares of the same rows: bounds, and the test against a fall of a given size.

Both use the score statistic of Tango 1998 (https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B): the
distance from the assumed fall in standard errors, which are those of the likeliest shares under that assumption. The test takes
its p-value from the binomial distributions at those shares and not from the normal one (the E test of Lloyd 2008,
https://doi.org/10.1111/j.1541-0420.2007.00963.x), so that it holds its level with few rows too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STEPS = 60
#: Standard deviations to both sides of the expected number of changed pairs; beyond is less than 1e-14.
_REACH = 8
_TINY = 1e-9


def likeliest_rise(fell: Any, rose: Any, count: float, fall: float) -> Any:
    """Return the likeliest share of pairs that rise, if the share that falls is larger by ``fall``. Takes numbers or arrays."""
    linear = -fell - rose + (2 * count - fell + rose) * fall
    constant = -rose * fall * (1 - fall)
    root = np.sqrt(np.maximum(linear**2 - 8 * count * constant, 0.0))
    return np.clip((root - linear) / (4 * count), max(0.0, -fall), (1 - fall) / 2)


def score(fell: Any, rose: Any, count: float, fall: float) -> Any:
    """Return by how many standard errors the observed fall exceeds ``fall``. Takes numbers or arrays."""
    share = likeliest_rise(fell, rose, count, fall)
    variance = count * (2 * share + fall * (1 - fall))
    return (fell - rose - count * fall) / np.sqrt(np.maximum(variance, 1e-30))


def fall_bounds(fell: float, rose: float, count: float, quantile: float) -> tuple[float, float]:
    """Return the bounds of the fall: where the score is ``quantile`` and where it is minus ``quantile``.

    The numbers of pairs need not be whole.
    """
    observed = (fell - rose) / count
    return (
        _crossing(fell, rose, count, quantile, (-1.0, observed)),
        _crossing(fell, rose, count, -quantile, (observed, 1.0)),
    )


def _crossing(fell: float, rose: float, count: float, target: float, between: tuple[float, float]) -> float:
    low, high = between
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _plain_score(fell, rose, count, middle) > target:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _plain_score(fell: float, rose: float, count: float, fall: float) -> float:
    """Return ``score`` of plain numbers, without the cost of arrays."""
    linear = -fell - rose + (2 * count - fell + rose) * fall
    root = math.sqrt(max(linear**2 + 8 * count * rose * fall * (1 - fall), 0.0))
    share = min(max((root - linear) / (4 * count), 0.0, -fall), (1 - fall) / 2)
    variance = count * (2 * share + fall * (1 - fall))
    return (fell - rose - count * fall) / math.sqrt(max(variance, 1e-30))


def fall_test(fell: float, rose: float, count: int, fall: float) -> float:
    """Return the one-sided p-value against a true fall of at most ``fall``, between -1 and 1.

    For an accepted fall of 0 or more it is no smaller than that of McNemar's exact test, so that no run fell by more than 0 whose
    scores did not fall significantly.
    """
    observed = float(score(fell, rose, count, fall))
    rise = float(likeliest_rise(fell, rose, count, fall))
    found = chance_of_score(observed, count, fall, rise=rise, fallen=rise + fall)
    return max(found, _mcnemar(fell, rose)) if fall >= 0 else found


def _mcnemar(fell: float, rose: float) -> float:
    """Return the one-sided p-value of a fall by McNemar's exact test."""
    from scipy import stats  # noqa: PLC0415 - takes half a second to load

    return float(stats.binom.sf(int(fell) - 1, int(fell) + int(rose), 0.5))


def chance_of_score(least: float, count: int, fall: float, *, rise: float, fallen: float) -> float:
    """Return the chance of a score against ``fall`` of at least ``least``, if these are the true shares that rise and fall."""
    from scipy import stats  # noqa: PLC0415 - as above

    changing = min(max(rise + fallen, 0.0), 1.0)
    changed = likely_changes(count, changing)
    needed = _least_falls(changed, count, fall, least)
    falling = min(max(fallen / changing, 0.0), 1.0) if changing > 0 else 0.0
    chances = stats.binom.pmf(changed, count, changing) * stats.binom.sf(needed - 1, changed, falling)
    return min(float(chances.sum()), 1.0)


def likely_changes(count: int, changing: float) -> NDArray[np.int64]:
    """Return the numbers of changed pairs that can occur, if each changes with this chance."""
    reach = _REACH * math.sqrt(count * changing * (1 - changing)) + _REACH
    low, high = max(math.floor(count * changing - reach), 0), min(math.ceil(count * changing + reach), count)
    return np.arange(low, high + 1)


def _least_falls(changed: NDArray[np.int64], count: int, fall: float, least: float) -> NDArray[np.int64]:
    """Return for each number of changed pairs how many must be falls for a score of ``least``; one more than there are if all do not."""
    low, high = np.zeros_like(changed), changed + 1
    while bool((low < high).any()):
        middle = (low + high) // 2
        # The number above all changed pairs stands for none.
        is_enough = (score(middle, changed - middle, count, fall) >= least - _TINY) | (middle > changed)
        high = np.where(is_enough, middle, high)
        low = np.where(is_enough, low, np.minimum(middle + 1, high))
    return high


def largest_rejected_fall(fell: float, rose: float, count: int, level: float) -> float:
    """Return the fall at which the p-value reaches ``level``: below it every fall is rejected."""
    low, high = -1.0, (fell - rose) / count
    if _mcnemar(fell, rose) >= level:
        high = min(high, 0.0)
    while high - low > _TINY:
        middle = (low + high) / 2
        if fall_test(fell, rose, count, middle) < level:
            low = middle
        else:
            high = middle
    return high
