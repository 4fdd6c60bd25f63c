"""Paired comparisons: the numbers of the reference libraries, and the rates of true and false alarms."""

from __future__ import annotations

import numpy as np
import pytest

from batchkit.stats.intervals import LARGEST_RESAMPLED
from batchkit.stats.paired import compare_pairs, holm
from tests.lazy import LazyModule

contingency_tables = LazyModule("statsmodels.stats.contingency_tables")
multitest = LazyModule("statsmodels.stats.multitest")
stats = LazyModule("scipy.stats")


@pytest.mark.parametrize(("fell", "rose"), [(0, 0), (1, 0), (3, 12), (12, 3), (5, 5), (40, 18)])
def test_right_and_wrong_answers_are_compared_with_mcnemars_test(fell, rose):
    """The two-sided p-value is that of statsmodels; the one-sided p-value of a fall is the binomial tail."""
    before = [1.0] * fell + [0.0] * rose + [1.0] * 30 + [0.0] * 7
    after = [0.0] * fell + [1.0] * rose + [1.0] * 30 + [0.0] * 7
    found = compare_pairs(before, after)
    assert found is not None
    assert found.p_value == pytest.approx(float(contingency_tables.mcnemar([[30, fell], [rose, 7]], exact=True).pvalue))
    tail = float(stats.binom.sf(fell - 1, fell + rose, 0.5)) if fell + rose else 1.0
    assert found.fall_p_value == pytest.approx(tail)
    assert (found.fell, found.rose, found.pairs) == (fell, rose, fell + rose + 37)
    assert found.difference == pytest.approx((rose - fell) / found.pairs)
    assert found.low <= found.difference <= found.high


def test_few_means_are_compared_with_all_sign_flips():
    """With eight pairs the p-value is the exact share of the 256 combinations of signs."""
    before = np.array([0.9, 0.8, 0.7, 0.9, 0.6, 0.8, 0.9, 0.5])
    after = before - np.array([0.1, 0.2, -0.05, 0.3, 0.12, 0.07, 0.2, -0.01])
    found = compare_pairs(before, after)
    assert found is not None
    moved = after - before
    signs = np.array(np.meshgrid(*[[-1, 1]] * 8)).reshape(8, -1).T
    means = (signs * moved).mean(axis=1)
    assert found.fall_p_value == pytest.approx((means <= moved.mean() + 1e-12).mean())
    assert found.p_value == pytest.approx((np.abs(means) >= abs(moved.mean()) - 1e-12).mean())
    assert found.method == "sign-flip permutation"


def test_many_means_are_compared_as_students_test_does():
    """The seeded permutation agrees with the paired t test where that is right; for many more pairs the t test is used."""
    random = np.random.default_rng(3)
    before = random.normal(0.6, 0.1, 300)
    after = before + random.normal(-0.01, 0.1, 300)
    found, again = compare_pairs(before, after), compare_pairs(before, after)
    assert found is not None
    assert found == again
    assert found.fall_p_value == pytest.approx(stats.ttest_rel(after, before, alternative="less").pvalue, abs=0.01)
    size = LARGEST_RESAMPLED + 1
    many = compare_pairs(random.random(size), random.random(size))
    assert many is not None
    assert many.method == "paired t"


def test_equal_scores_are_no_evidence():
    """Equal scores have a difference of 0 and a p-value of 1; without pairs there is no comparison."""
    same = compare_pairs([0.25, 0.5, 1.0], [0.25, 0.5, 1.0])
    assert same is not None
    assert (same.difference, same.low, same.high, same.p_value, same.fall_p_value) == (0, 0, 0, 1, 1)
    assert compare_pairs([], []) is None
    with pytest.raises(ValueError, match="the same length"):
        compare_pairs([1.0], [1.0, 0.0])


def test_one_changed_score_is_no_evidence():
    """A single changed row could have changed in either direction."""
    found = compare_pairs([0.5, 0.5], [0.5, 0.1])
    assert found is not None
    assert (found.p_value, found.fall_p_value) == (1.0, 0.5)


def test_simultaneous_p_values_are_corrected():
    """Holm's correction, by hand: the smallest times their number, the next times one fewer, never decreasing."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


@pytest.mark.parametrize("seed", range(4))
def test_corrected_p_values_are_those_of_the_library(seed):
    """Holm's correction equals that of statsmodels for values that are small, equal, 0 and 1."""
    random = np.random.default_rng(seed)
    p_values = [*random.random(6) ** 4, 0.0, 1.0, 0.02, 0.02]
    random.shuffle(p_values)
    assert holm(p_values) == pytest.approx(list(multitest.multipletests(p_values, method="holm")[1]), abs=1e-15)
