"""Paired comparisons: the numbers of the reference libraries, and the rates of true and false alarms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from batchkit.stats.falls import fall_beyond
from batchkit.stats.flips import LARGEST_FLIPPED, flip_p_values
from batchkit.stats.paired import compare_pairs, holm
from batchkit.stats.paired_shares import fall_bounds
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
    size = LARGEST_FLIPPED + 1
    many = compare_pairs(random.random(size), random.random(size))
    assert many is not None
    assert many.method == "paired t"

    bounds = stats.ttest_rel(before, after).confidence_interval()
    assert (found.low, found.high) == pytest.approx((-bounds.high, -bounds.low))
    before, after = random.random(size), random.random(size)
    many = compare_pairs(before, after)
    assert many is not None
    for side, p_value in (("two-sided", many.p_value), ("less", many.fall_p_value)):
        assert p_value == pytest.approx(stats.ttest_rel(after, before, alternative=side).pvalue)


def test_equal_scores_are_no_evidence_of_a_change_nor_of_none():
    """Equal scores have a difference of 0 and a p-value of 1, but bounds on both sides; without pairs there is no comparison."""
    same = compare_pairs([0.25, 0.5, 1.0], [0.25, 0.5, 1.0])
    assert same is not None
    assert (same.difference, same.p_value, same.fall_p_value) == (0, 1, 1)
    # Tango's bounds of three pairs that did not change.
    bound = 1.959963984540054**2 / (3 + 1.959963984540054**2)
    assert (same.low, same.high) == pytest.approx((-bound, bound))
    assert compare_pairs([], []) is None
    assert compare_pairs([], [], []) is None


@pytest.mark.parametrize("clusters", [None, [0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 2, 2]])
@pytest.mark.parametrize(
    ("before", "after"),
    [([1.0] * 6, [1.0] * 6), ([1.0] * 6, [0.0] * 6), ([0.5] * 6, [0.25] * 6), ([3.0] * 6, [4.0] * 6)],
)
def test_no_difference_is_known_without_doubt(before, after, clusters):
    """The bounds have a width even if all pairs changed alike, and contain the difference."""
    found = compare_pairs(before, after, clusters)
    assert found is not None
    assert found.low <= found.difference <= found.high
    scale = max(1.0, *before, *after)
    independent = 6 if clusters is None else len(set(clusters))
    assert 0.8 * scale / (independent + 4) < found.high - found.low <= 2 * scale


@pytest.mark.parametrize(("fell", "rose", "pairs"), [(0, 3, 10), (12, 1, 50), (40, 55, 300), (2.5, 1.5, 7.5)])
def test_bounds_of_two_shares_solve_tangos_equation(fell, rose, pairs):
    """The score at each bound, computed from its formula, is the quantile."""
    found = fall_bounds(fell, rose, pairs, 1.959963984540054)
    for bound, target in zip(found, (1.96, -1.96), strict=True):
        linear = -fell - rose + (2 * pairs - fell + rose) * bound
        share = (np.sqrt(linear**2 + 8 * pairs * rose * bound * (1 - bound)) - linear) / (4 * pairs)
        variance = pairs * (2 * share + bound * (1 - bound))
        assert (fell - rose - pairs * bound) / np.sqrt(variance) == pytest.approx(target, abs=1e-3)


def test_the_signs_of_a_whole_cluster_are_flipped_together():
    """Six falls in two passages have four combinations of signs, and six passages with one fall each have 64."""
    before, after = [1.0] * 6 + [0.0], [0.0] * 6 + [0.0]
    together = compare_pairs(before, after, [0, 0, 0, 1, 1, 1, 2])
    assert together is not None
    assert (together.fall_p_value, together.p_value, together.clusters) == (0.25, 0.5, 3)
    assert together.method == "sign-flip permutation by cluster"
    apart = compare_pairs(before, after, [0, 1, 2, 3, 4, 5, 5])
    assert apart is not None
    assert (apart.fall_p_value, apart.p_value) == (1 / 64, 2 / 64)
    alone = compare_pairs(before, after, range(7))
    plain = compare_pairs(before, after)
    assert alone is not None
    assert plain is not None
    assert alone == plain._replace(clusters=7)


def test_many_clusters_are_compared_as_students_test_of_their_means():
    """With as many pairs in each cluster, and more clusters than are flipped, the test and the bounds are those of their means."""
    random = np.random.default_rng(5)
    count = LARGEST_FLIPPED + 1
    before, after = random.random((count, 2)), random.random((count, 2)) - 0.01
    found = compare_pairs(before.ravel(), after.ravel(), np.repeat(np.arange(count), 2))
    assert found is not None
    moved = (after - before).mean(axis=1)
    assert found.p_value == pytest.approx(stats.ttest_1samp(moved, 0).pvalue)
    assert found.fall_p_value == pytest.approx(stats.ttest_1samp(moved, 0, alternative="less").pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(stats.ttest_1samp(moved, 0).confidence_interval()))
    assert (found.method, found.clusters) == ("paired t by cluster", count)


def test_thousands_of_equal_falls_are_significant():
    """Their spread is 0, and the test divides by it."""
    found = compare_pairs([0.5] * (LARGEST_FLIPPED + 1), [0.25] * (LARGEST_FLIPPED + 1))
    assert found is not None
    assert (found.p_value, found.fall_p_value) == (0.0, 0.0)


def test_random_flips_agree_with_all_of_them():
    """Fourteen differences are flipped at random; their p-values are those of all 16,384 combinations, to a hundredth."""
    moved = np.random.default_rng(8).normal(-0.3, 1, 14)
    signs = 1 - 2 * ((np.arange(2**14)[:, None] >> np.arange(14)) & 1)
    sums = signs @ moved
    two_sided, fall = flip_p_values(moved)
    assert fall == pytest.approx((sums <= moved.sum() + 1e-12).mean(), abs=0.01)
    assert two_sided == pytest.approx((np.abs(sums) >= abs(moved.sum()) - 1e-12).mean(), abs=0.01)


def test_scores_that_cannot_be_paired_are_refused():
    """Each mistake is named."""
    mistakes: Any = (
        ([1.0], [1.0, 0.0], None, "the same length"),
        ([1.0, 0.0], [1.0, 0.0], [1], "the same length"),
        ([float("nan")], [1.0], None, "finite"),
        ([1.0], [1.0], [1.5], "whole numbers"),
    )
    for before, after, clusters, message in mistakes:
        with pytest.raises(ValueError, match=message):
            compare_pairs(before, after, clusters)


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


def test_equal_differences_count_on_the_scale_of_the_scores():
    """Scores of 1 to 5 have the bounds of scores five times smaller, times five; so has the test of an accepted fall."""
    large, small = compare_pairs([5.0] * 8, [4.0] * 8), compare_pairs([1.0] * 8, [0.8] * 8)
    assert large is not None
    assert small is not None
    assert (large.low, large.high) == pytest.approx((5 * small.low, 5 * small.high))
    assert fall_beyond([5.0] * 8, [4.0] * 8, 0.5) == pytest.approx(fall_beyond([1.0] * 8, [0.8] * 8, 0.1))


def test_alike_pairs_widen_the_bounds_of_right_answers():
    """Twenty passages of five questions that changed together say little more than twenty questions."""
    before, after = np.ones(100), np.repeat([0.0] * 4 + [1.0] * 16, 5)
    together, apart = compare_pairs(before, after, np.arange(100) // 5), compare_pairs(before, after)
    assert together is not None
    assert apart is not None
    assert together.high - together.low > 1.8 * (apart.high - apart.low)
