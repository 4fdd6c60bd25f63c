"""Whether the true fall is larger than an accepted one."""

from __future__ import annotations

import time

import numpy as np
import pytest

from batchkit.stats.falls import fall_beyond, fall_bound
from batchkit.stats.flips import LARGEST_FLIPPED
from batchkit.stats.paired import compare_pairs
from tests.lazy import LazyModule
from tests.stats.simulated import two_graded_nights, two_nights

stats = LazyModule("scipy.stats")


def changes(fell, rose, same):
    """Return right and wrong answers of two runs with so many changes."""
    return [1.0] * fell + [0.0] * rose + [1.0] * same, [0.0] * fell + [1.0] * rose + [1.0] * same


def nights(kind, seed=1, rows=300):
    """Return two nights of a kind: scores and clusters."""
    random = np.random.default_rng(seed)
    numbers = np.arange(rows) // 5 if "clustered" in kind else None
    members = np.arange(rows) if numbers is None else numbers
    if "graded" in kind:
        return *two_graded_nights(random, members, 0.3, 0.1), numbers
    return *two_nights(random, members, 0.3, (0.85, 0.72)), numbers


KINDS = ["right", "right clustered", "graded", "graded clustered"]


@pytest.mark.parametrize(("fell", "rose"), [(12, 3), (30, 15), (5, 0), (9, 9), (0, 0), (3, 8)])
def test_without_an_accepted_fall_the_test_is_mcnemars(fell, rose):
    """A comparison without a significant fall has no bound above 0, and one with a significant fall has."""
    before, after = changes(fell, rose, 200)
    exact = compare_pairs(before, after)
    assert exact is not None
    assert fall_beyond(before, after, 0.0) == pytest.approx(exact.fall_p_value)
    for level in (0.01, 0.05, 0.1):
        bound = fall_bound(before, after, level)
        assert bound is not None
        assert (bound > 0) == (exact.fall_p_value < level)


def test_only_falls_have_the_binomial_tail():
    """If no pair rose, and hardly more fell than accepted, so many falls are as unlikely as so many successes with that chance."""
    before, after = changes(8, 0, 92)
    assert fall_beyond(before, after, 0.05) == pytest.approx(stats.binom.sf(7, 100, 0.05))


@pytest.mark.parametrize("kind", KINDS)
def test_an_observed_fall_of_the_accepted_size_is_no_evidence(kind):
    """Its p-value is about a half; a smaller accepted fall has a smaller one, a larger one a larger one."""
    before, after, clusters = nights(kind)
    observed = float(np.mean(before) - np.mean(after))
    p_values = [fall_beyond(before, after, observed + extra, clusters) for extra in (-0.08, -0.03, 0, 0.03, 0.08)]
    assert p_values == sorted(p_values)
    assert p_values[2] == pytest.approx(0.5, abs=0.06)
    assert p_values[0] < 0.05
    assert p_values[4] > 0.95


@pytest.mark.parametrize("level", [0.01, 0.05, 0.25])
@pytest.mark.parametrize("rows", [10, 40, 300])
@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_is_where_the_test_reaches_its_level(kind, rows, level):
    """Every smaller fall is rejected, and no larger one."""
    before, after, clusters = nights(kind, rows=rows)
    bound = fall_bound(before, after, level, clusters)
    assert bound is not None
    if bound > -1:
        assert fall_beyond(before, after, bound - 1e-6, clusters) < level
    else:
        assert fall_beyond(before, after, -0.99, clusters) >= level
    assert fall_beyond(before, after, bound + 1e-6, clusters) >= level
    assert bound <= np.mean(before) - np.mean(after)


@pytest.mark.parametrize("is_clustered", [False, True])
def test_many_graded_scores_have_students_bound(is_clustered):
    """Above the limit of the flips, the test and the bound are those of scipy, of the pairs or of the means of even clusters."""
    random = np.random.default_rng(2)
    before = random.random((LARGEST_FLIPPED + 1, 2))
    after = before - 0.05 + random.normal(0, 0.3, before.shape)
    clusters = np.repeat(np.arange(LARGEST_FLIPPED + 1), 2) if is_clustered else None
    falls = (before - after).mean(axis=1) if is_clustered else (before - after).ravel()
    expected = stats.ttest_1samp(falls, 0.045, alternative="greater")
    assert fall_beyond(before.ravel(), after.ravel(), 0.045, clusters) == pytest.approx(expected.pvalue)
    low = stats.ttest_1samp(falls, 0.0, alternative="greater").confidence_interval(0.99).low
    assert fall_bound(before.ravel(), after.ravel(), 0.01, clusters) == pytest.approx(low)


def test_few_graded_scores_have_all_flips():
    """Five falls above the accepted one have one of 32 combinations; the bound at 1/16 is the smallest mean of any of them."""
    before, after = [0.9, 0.8, 0.9, 0.7, 0.6], [0.7, 0.7, 0.5, 0.4, 0.1]
    assert fall_beyond(before, after, 0.05) == 1 / 32
    assert fall_bound(before, after, 1 / 16) == pytest.approx(0.1)
    assert fall_beyond(before, after, 0.1) == 1 / 16
    # No combination is as rare as this.
    assert fall_bound(before, after, 0.01) == -1.0


@pytest.mark.parametrize("clusters", [None, [0, 0, 1, 1, 2, 2, 3, 3]])
@pytest.mark.parametrize(("before", "after", "scale"), [(1.0, 1.0, 1), (0.5, 0.5, 1), (0.5, 0.4, 1), (5.0, 4.5, 5)])
def test_equal_differences_are_not_known_without_doubt(before, after, scale, clusters):
    """The bound lies well below the fall of every pair, and an accepted fall a little below it is not rejected."""
    bound = fall_bound([before] * 8, [after] * 8, 0.05, clusters)
    assert bound is not None
    assert -scale < bound < before - after - 0.05 * scale
    assert fall_beyond([before] * 8, [after] * 8, before - after - 0.05 * scale, clusters) > 0.05
    assert fall_beyond([before] * 8, [after] * 8, bound - 1e-6, clusters) < 0.05 + 1e-6


def test_impossible_falls_have_a_certain_answer():
    """Shares cannot fall by more than 1, nor rise by more; without pairs nothing is rejected."""
    before, after = changes(5, 0, 5)
    assert (fall_beyond(before, after, 1.0), fall_beyond(before, after, -1.0)) == (1.0, 0.0)
    assert fall_beyond([1.0], [1.0], 0.0) == 1.0
    assert fall_beyond([], [], 0.1) == 1.0
    assert fall_bound([], [], 0.1) is None
    everything = fall_bound([1.0] * 30, [0.0] * 30, 0.05)
    # Shares that fall and rise by (1 + fall) / 2 and (1 - fall) / 2 are the likeliest: thirty falls in a row.
    assert everything == pytest.approx(2 * 0.05 ** (1 / 30) - 1, abs=1e-6)


def test_mistakes_are_refused():
    """A fall and a level must be numbers of the right range."""
    with pytest.raises(ValueError, match="finite"):
        fall_beyond([1.0], [0.0], float("nan"))
    with pytest.raises(ValueError, match="the same length"):
        fall_beyond([1.0], [0.0, 1.0], 0.1)
    for level in (0.0, 0.5, 0.95, float("nan")):
        with pytest.raises(ValueError, match="level"):
            fall_bound([1.0], [0.0], level)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_thousand_rows_take_less_than_a_second(kind):
    """The comparison, the test and the bound of one hundred thousand rows, in processor time."""
    before, after, clusters = nights(kind, rows=100_000)
    started = time.process_time()
    compare_pairs(before, after, clusters)
    fall_beyond(before, after, 0.1, clusters)
    fall_bound(before, after, 0.01, clusters)
    assert time.process_time() - started < 3


def test_uneven_clusters_weigh_as_many_pairs_as_they_have():
    """A passage with one question that fell, and one with three that did not: the four flips fell by nothing, 1, 0 and 1 in 4."""
    before, after, numbers = [1.0] * 4, [0.0, 1.0, 1.0, 1.0], [0, 1, 1, 1]
    p_values = [fall_beyond(before, after, fall, numbers) for fall in (-0.01, 0.0, 0.24, 0.25, 0.99, 1.0)]
    assert p_values == [0.25, 0.5, 0.5, 0.75, 0.75, 1.0]
    assert fall_bound(before, after, 0.3, numbers) == 0.0
