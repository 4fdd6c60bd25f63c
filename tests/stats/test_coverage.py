"""95 % intervals hold the truth 93 to 97 times of 100, and tests reject a true null hypothesis no more often than their level."""

from __future__ import annotations

import numpy as np
import pytest

from batchkit.stats.falls import fall_beyond, fall_bound
from batchkit.stats.intervals import mean_interval
from batchkit.stats.paired import compare_pairs, difference_bounds, paired
from batchkit.stats.paired_shares import fall_bounds, fall_test
from tests.lazy import LazyModule
from tests.stats.simulated import cluster_numbers, graded, latent, right, two_graded_nights, two_nights

stats = LazyModule("scipy.stats")

QUICK = 250
SLOW = 4_000
#: What chance adds to a measured share of 250 and of 4,000: three standard errors.
SLACK = {QUICK: 0.042, SLOW: 0.011}


def covered(found, truth):
    """Return the share of bounds that hold the truth."""
    return np.mean([low <= truth <= high for low, high in found])


def means(seed, times, draw):
    """Return the bounds of the means of many draws of (values, clusters)."""
    random = np.random.default_rng(seed)
    found = [mean_interval(*draw(random)) for _ in range(times)]
    return [(interval.low, interval.high) for interval in found if interval is not None]


def differences(seed, times, draw):
    """Return the bounds of the differences of many draws of (before, after, clusters)."""
    random = np.random.default_rng(seed)
    return [difference_bounds(paired(*draw(random))) for _ in range(times)]


def rejected(seed, times, draw, level):
    """Return the share of draws of (before, after, fall, clusters) whose true fall is rejected."""
    random = np.random.default_rng(seed)
    return np.mean([fall_beyond(*draw(random)) < level for _ in range(times)])


def holds(share, times, *, is_conservative):
    """Check a coverage; a conservative method may hold the truth more often, but no method less often."""
    assert share >= 0.93 - SLACK[times]
    assert is_conservative or share <= 0.97 + SLACK[times]


QUICKLY = [QUICK, pytest.param(SLOW, marks=[pytest.mark.slow, pytest.mark.timeout(1_200)])]


@pytest.mark.parametrize("times", QUICKLY)
@pytest.mark.parametrize("rows", [5, 20, 100, 1_000])
def test_means_of_graded_scores_cover_the_truth(rows, times):
    """Student's interval holds the mean of a bell and of samples of four."""
    bell = means(rows, times, lambda random: (random.beta(4, 2, rows), None))
    holds(covered(bell, 4 / 6), times, is_conservative=False)
    steps = means(rows, times, lambda random: (random.binomial(4, random.beta(6, 2, rows)) / 4, None))
    # Of five rows all may be equal: Wilson's interval is wide.
    holds(covered(steps, 6 / 8), times, is_conservative=rows < 20)


@pytest.mark.parametrize("rows", [5, 20, 100, 1_000])
def test_means_of_right_answers_cover_the_truth(rows):
    """The coverage of Wilson's interval, exact, and not simulated: on the average of many shares 93 to 97 %, but more for five rows.

    For a single share it jumps, because the number of right answers is whole: a little below 93 % for some, above 99 % for others.
    """
    known = [mean_interval([1.0] * right + [0.0] * (rows - right)) for right in range(rows + 1)]
    low, high = (np.array([getattr(interval, side) for interval in known]) for side in ("low", "high"))
    average = []
    for share in np.linspace(0.5, 0.98, 25):
        chances = stats.binom.pmf(np.arange(rows + 1), rows, share)
        average.append(chances[(low <= share) & (share <= high)].sum())
        assert average[-1] >= 0.83
    assert 0.93 <= np.mean(average) <= 0.97
    assert np.mean(np.array(average) < 0.93) <= 0.2


@pytest.mark.parametrize("times", QUICKLY)
@pytest.mark.parametrize("is_even", [True, False], ids=["even", "uneven"])
@pytest.mark.parametrize(("clusters", "likeness"), [(5, 0.3), (10, 0.9), (60, 0.0), (60, 0.3), (60, 0.9), (200, 0.3)])
def test_means_of_clustered_scores_cover_the_truth(clusters, likeness, is_even, times):
    """However alike the questions of a passage are, the interval holds the mean, and for even passages and graded scores not too often."""

    def draw(random, scores):
        numbers = cluster_numbers(random, clusters, is_even=is_even)
        return scores(latent(random, numbers, likeness)), numbers

    shares = means(clusters, times, lambda random: draw(random, lambda values: right(values, 0.8)))
    # Few passages with a wrong answer do not tell how alike their questions are: the method assumes the worst.
    holds(covered(shares, 0.8), times, is_conservative=clusters < 60 or not is_even)
    bounds = means(clusters, times, lambda random: draw(random, graded))
    # The degrees of freedom of uneven passages are estimated low.
    holds(covered(bounds, 0.5), times, is_conservative=not is_even)


@pytest.mark.parametrize("times", QUICKLY)
@pytest.mark.parametrize("rows", [5, 20, 100, 1_000])
def test_paired_differences_of_graded_scores_cover_the_truth(rows, times):
    """Student's interval of the differences holds the true one."""

    def draw(random):
        skill = random.beta(6, 2, rows)
        return skill + random.normal(0, 0.1, rows), skill - 0.05 + random.normal(0, 0.1, rows), None

    holds(covered(differences(rows, times, draw), -0.05), times, is_conservative=False)


@pytest.mark.parametrize("rows", [5, 20, 60])
@pytest.mark.parametrize(("rise", "fall"), [(0.02, 0.0), (0.05, 0.05), (0.15, 0.1)])
def test_paired_right_answers_cover_the_truth_and_hold_the_level(rows, rise, fall):
    """Tango's bounds and the test against a fall, exact: the chances of all combinations of falls and rises are added up.

    Where fewer than about ten pairs change, both are conservative, because so few combinations exist.
    """
    known = np.array([(fell, rose) for fell in range(rows + 1) for rose in range(rows + 1 - fell)])
    chances = stats.multinomial.pmf(
        np.column_stack([known, rows - known.sum(axis=1)]), rows, [rise + fall, rise, 1 - 2 * rise - fall]
    )
    known, chances = known[chances > 1e-6], chances[chances > 1e-6]
    bounds = [fall_bounds(fell, rose, rows, 1.959963984540054) for fell, rose in known]
    coverage = chances[[low <= fall <= high for low, high in bounds]].sum()
    assert coverage >= 0.93
    assert coverage <= 0.97 or (2 * rise + fall) * rows < 10
    p_values = np.array([fall_test(fell, rose, rows, fall) for fell, rose in known])
    for level in (0.01, 0.05):
        # The likeliest shares are not the true ones: the level holds to a seventh of itself.
        assert chances[p_values < level].sum() <= level * 8 / 7
    assert chances[p_values < 0.05].sum() >= 0.03 or (2 * rise + fall) * rows < 10


@pytest.mark.parametrize("times", QUICKLY)
@pytest.mark.parametrize("is_even", [True, False], ids=["even", "uneven"])
@pytest.mark.parametrize(("clusters", "likeness"), [(5, 0.5), (20, 0.5), (60, 0.0), (60, 0.9)])
def test_paired_differences_of_clusters_cover_the_truth(clusters, likeness, is_even, times):
    """Two nights on which the questions of a passage become harder together."""

    def draw(random):
        numbers = cluster_numbers(random, clusters, is_even=is_even)
        return *two_nights(random, numbers, likeness, (0.85, 0.8)), numbers

    found = differences(clusters, times, draw)
    holds(covered(found, -0.05), times, is_conservative=clusters < 60 or not is_even)

    def draw_graded(random):
        numbers = cluster_numbers(random, clusters, is_even=is_even)
        return *two_graded_nights(random, numbers, likeness, 0.05), numbers

    holds(covered(differences(clusters, times, draw_graded), -0.05), times, is_conservative=not is_even)


@pytest.mark.parametrize("times", [150, pytest.param(SLOW, marks=[pytest.mark.slow, pytest.mark.timeout(1_200)])])
@pytest.mark.parametrize(("clusters", "is_even"), [(8, True), (40, True), (40, False)])
def test_the_level_of_a_fall_holds_by_cluster(clusters, is_even, times):
    """A true fall of 0.05 is rejected as "at most 0.05" no more often than the level: right answers, and graded scores, in clusters.

    So is no fall by the comparison of two nights. With eight clusters, flipped signs have 256 combinations: the tests are conservative.
    """
    slack = 3 * np.sqrt(0.05 * 0.95 / times)

    def draw(random):
        numbers = cluster_numbers(random, clusters, is_even=is_even)
        return *two_nights(random, numbers, 0.5, (0.85, 0.8)), 0.05, numbers

    def draw_graded(random):
        numbers = cluster_numbers(random, clusters, is_even=is_even)
        return *two_graded_nights(random, numbers, 0.5, 0.05), 0.05, numbers

    assert rejected(clusters, times, draw, 0.05) <= 0.05 + slack
    assert 0.05 - slack - 0.01 <= rejected(clusters, times, draw_graded, 0.05) <= 0.05 + slack
    random = np.random.default_rng(clusters)
    alarms = 0
    for _ in range(times):
        numbers = cluster_numbers(random, clusters, is_even=is_even)
        before, after = two_nights(random, numbers, 0.5, (0.85, 0.85))
        comparison = compare_pairs(before, after, numbers)
        alarms += comparison is not None and comparison.fall_p_value < 0.05
    assert alarms / times <= 0.05 + slack


@pytest.mark.parametrize(
    ("rows", "times"),
    [
        (8, 300),
        (40, 300),
        *(pytest.param(rows, SLOW, marks=[pytest.mark.slow, pytest.mark.timeout(1_200)]) for rows in (8, 40)),
        pytest.param(300, 1_000, marks=[pytest.mark.slow, pytest.mark.timeout(1_200)]),
    ],
)
def test_the_level_of_a_fall_holds_for_graded_scores(rows, times):
    """A true fall of 0.05 is rejected about as often as the level says, and the bound lies above it as often."""
    slack = 3 * np.sqrt(0.05 * 0.95 / times)
    random = np.random.default_rng(rows)
    too_small = too_high = 0
    for _ in range(times):
        skill = random.beta(6, 2, rows)
        before, after = skill + random.normal(0, 0.1, rows), skill - 0.05 + random.normal(0, 0.1, rows)
        too_small += fall_beyond(before, after, 0.05) < 0.05
        bound = fall_bound(before, after, 0.05)
        too_high += bound is not None and bound > 0.05
    assert too_small == too_high
    assert 0.05 - slack <= too_small / times <= 0.05 + slack


def test_ignored_clusters_would_hold_the_truth_far_too_seldom():
    """Sixty passages whose five questions are alike: the interval of independent questions misses the truth more often than one in ten."""
    random = np.random.default_rng(3)
    naive: list[tuple[float, float]] = []
    clustered: list[tuple[float, float]] = []
    for _ in range(400):
        numbers = cluster_numbers(random, 60)
        values = right(latent(random, numbers, 0.64), 0.8)
        for found, members in ((naive, None), (clustered, numbers)):
            interval = mean_interval(values, members)
            assert interval is not None
            found.append((interval.low, interval.high))
    assert covered(naive, 0.8) < 0.85
    assert covered(clustered, 0.8) >= 0.93
