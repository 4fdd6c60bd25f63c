"""Intervals of means: the numbers of the reference libraries, and their coverage of the truth."""

from __future__ import annotations

import numpy as np
import pytest

from batchkit.stats import intervals
from batchkit.stats.intervals import mean_interval
from tests.lazy import LazyModule

proportion = LazyModule("statsmodels.stats.proportion")
stats = LazyModule("scipy.stats")


@pytest.mark.parametrize(("good", "count"), [(0, 7), (1, 1), (8, 10), (250, 300), (300, 300)])
def test_a_proportion_has_wilsons_interval(good, count):
    """Zeros and ones give the interval of statsmodels and of scipy, which never leaves 0 to 1."""
    found = mean_interval([1.0] * good + [0.0] * (count - good))
    assert found is not None
    low, high = proportion.proportion_confint(good, count, method="wilson")
    ci = stats.binomtest(good, count).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    assert (found.low, found.high) == pytest.approx((ci.low, ci.high), abs=1e-9)
    assert 0 <= found.low <= found.mean <= found.high <= 1
    assert found.method == "Wilson 95 %"


def test_other_means_are_resampled_reproducibly():
    """The bootstrap's bounds are near Student's where those are right, and the same at every call."""
    values = np.random.default_rng(4).beta(2, 5, 400)
    found = mean_interval(values)
    assert found is not None
    low, high = stats.t.interval(0.95, 399, loc=values.mean(), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.002)
    assert found.method == "bootstrap 95 %"
    assert mean_interval(values) == found


def test_many_values_are_not_resampled():
    """Above the limit the bounds are exactly Student's."""
    values = np.random.default_rng(4).random(intervals.LARGEST_RESAMPLED + 1)
    found = mean_interval(values)
    assert found is not None
    expected = stats.t.interval(0.95, values.size - 1, loc=values.mean(), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.method == "t 95 %"


def test_values_without_spread_have_a_degenerate_interval():
    """For a constant score or a single one, both bounds are the value itself; without scores there is no interval."""
    assert mean_interval([]) is None
    same = mean_interval([0.4, 0.4, 0.4])
    assert same is not None
    assert (same.mean, same.low, same.high) == pytest.approx((0.4, 0.4, 0.4))
    assert same.method == "no spread"
    alone = mean_interval([0.3])
    assert alone is not None
    assert (alone.low, alone.high) == (0.3, 0.3)


@pytest.mark.slow
def test_the_intervals_have_their_nominal_coverage():
    """Of 400 samples of 120 scores each, about 95 % of the intervals contain the mean of the distribution."""
    random = np.random.default_rng(11)
    for draw, mean in (
        (lambda: (random.random(120) < 0.8).astype(float), 0.8),
        (lambda: random.beta(4, 2, 120), 4 / 6),
    ):
        found = [mean_interval(draw()) for _ in range(400)]
        covered = sum(interval is not None and interval.low <= mean <= interval.high for interval in found)
        assert 365 <= covered <= 395
