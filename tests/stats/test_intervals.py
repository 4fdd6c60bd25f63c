"""Intervals of means: the numbers of the reference libraries, and those of extreme scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

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


@pytest.mark.parametrize("rows", [2, 5, 400, 20_000])
def test_other_means_have_students_interval(rows):
    """The bounds are those of scipy."""
    values = np.random.default_rng(4).beta(2, 5, rows)
    found = mean_interval(values)
    assert found is not None
    expected = stats.t.interval(0.95, rows - 1, loc=values.mean(), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.method == "t 95 %"
    assert mean_interval(values) == found


def test_equal_values_have_the_interval_of_a_share_of_their_scale():
    """Three times 0.4 is as certain as 40 % of three right answers; a number above 1 stretches the scale, one below 0 too."""
    assert mean_interval([]) is None
    for values, share, lowest, width in (
        ([0.4] * 3, 0.4, 0.0, 1.0),
        ([0.3], 0.3, 0.0, 1.0),
        ([0.1 + 0.2, 0.3], 0.3, 0.0, 1.0),
        ([4.0] * 6, 1.0, 0.0, 4.0),
        ([-1.0] * 6, 0.0, -1.0, 2.0),
    ):
        found = mean_interval(values)
        assert found is not None
        low, high = proportion.proportion_confint(share * len(values), len(values), method="wilson")
        assert found.mean == pytest.approx(values[0])
        assert (found.low, found.high) == pytest.approx((lowest + low * width, lowest + high * width))
        assert found.low < found.high
        assert found.low <= found.mean <= found.high
        assert found.method == "Wilson 95 %, no spread"


def test_clusters_of_one_value_are_no_clusters():
    """The interval is the same, for right answers and for graded scores."""
    random = np.random.default_rng(2)
    for values in ((random.random(40) < 0.7).astype(float), random.random(40)):
        assert mean_interval(values, random.permutation(40)) == mean_interval(values)


def test_even_clusters_of_graded_scores_have_the_interval_of_their_means():
    """With as many questions in each passage, the passages' means are independent scores."""
    random = np.random.default_rng(2)
    means = random.random(12)
    values = (means[:, None] + random.normal(0, 0.1, (12, 5))).ravel()
    found = mean_interval(values, np.repeat(np.arange(12), 5))
    alone = mean_interval(values.reshape(12, 5).mean(axis=1))
    assert found is not None
    assert alone is not None
    assert found[:3] == pytest.approx(alone[:3])
    assert found.method == "t 95 %, by cluster"


def test_alike_questions_widen_the_interval_of_right_answers():
    """Passages with all questions right or all wrong say as much as one question each; balanced ones as much as all."""
    alike = np.repeat([1.0, 1.0, 1.0, 0.0] * 20, 5)
    found, naive = mean_interval(alike, np.arange(400) // 5), mean_interval(alike)
    as_many = mean_interval(alike[::5])
    assert found is not None
    assert naive is not None
    assert as_many is not None
    assert found.high - found.low == pytest.approx(as_many.high - as_many.low, rel=0.05)
    assert found.high - found.low > 2 * (naive.high - naive.low)
    assert 0 <= found.low <= found.mean <= found.high <= 1
    assert found.method == "Wilson 95 %, by cluster"


@pytest.mark.parametrize("values", [[1.0, 1.0, 0.0, 1.0], [1.0] * 4, [0.2, 0.9, 0.5, 0.6], [0.4] * 4])
def test_a_single_cluster_is_a_single_value(values):
    """All questions of one passage are as certain as one value with their mean."""
    found = mean_interval(values, [7] * 4)
    assert found is not None
    low, high = proportion.proportion_confint(np.mean(values), 1, method="wilson")
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.high - found.low > 0.7


def test_clusters_with_equal_means_count_as_one_value_each():
    """Nothing differs between the passages: Wilson's interval of as many values as there are passages."""
    for values in ([1.0, 0.0] * 6, [0.2, 0.6] * 6, [1.0] * 12):
        found = mean_interval(values, np.arange(12) // 2)
        assert found is not None
        low, high = proportion.proportion_confint(np.mean(values) * 6, 6, method="wilson")
        assert (found.low, found.high) == pytest.approx((low, high))


def test_values_that_are_no_scores_are_refused():
    """Each mistake is named."""
    mistakes: Any = (
        ([0.5, float("nan")], None, "finite"),
        ([0.5, float("inf")], None, "finite"),
        ([[0.5], [0.4]], None, "list"),
        ([0.5, 0.4], [1], "same length"),
        ([], [1], "same length"),
        ([0.5, 0.4], [1.0, float("nan")], "whole numbers"),
        ([0.5, 0.4], ["a", "b"], "whole numbers"),
    )
    for values, clusters, message in mistakes:
        with pytest.raises(ValueError, match=message):
            mean_interval(values, clusters)
    assert mean_interval([], []) is None
