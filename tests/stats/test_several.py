"""Several columns are compared with each other."""

from __future__ import annotations

import numpy as np
import pytest

from batchkit.stats.paired import compare_pairs, holm
from batchkit.stats.several import compare_all
from tests.stats.simulated import cluster_numbers, two_nights

NAN = float("nan")


def test_every_two_columns_are_compared_over_their_common_rows():
    """Three columns make three comparisons, in order, each with the p-value of the paired test after Holm's correction."""
    random = np.random.default_rng(1)
    columns = [(random.random(80) < share).astype(float) for share in (0.9, 0.6, 0.5)]
    columns[1][:5] = NAN
    found = compare_all(columns)
    assert [(entry.first, entry.second) for entry in found] == [(0, 1), (0, 2), (1, 2)]
    assert [entry.comparison.pairs for entry in found] == [75, 80, 75]
    assert found[0].comparison == compare_pairs(columns[0][5:], columns[1][5:])
    assert found[0].comparison.difference < 0
    assert [entry.p_value for entry in found] == holm([entry.comparison.p_value for entry in found])
    assert found[1].p_value > found[1].comparison.p_value


def test_clusters_belong_to_the_rows():
    """The clusters of the rows that both columns have are those of the comparison."""
    random = np.random.default_rng(2)
    numbers = cluster_numbers(random, 12)
    before, after = two_nights(random, numbers, 0.5, (0.9, 0.6))
    before[:7] = NAN
    (found,) = compare_all([before, after], numbers)
    assert found.comparison == compare_pairs(before[7:], after[7:], numbers[7:])
    assert found.comparison.clusters == 11


def test_columns_without_a_common_row_are_left_out():
    """Nothing is corrected for them either; fewer than two columns have no comparison."""
    found = compare_all([[1.0, NAN], [0.0, NAN], [NAN, 1.0]])
    assert [(entry.first, entry.second, entry.p_value) for entry in found] == [(0, 1, 1.0)]
    assert compare_all([]) == ()
    assert compare_all([[1.0, 0.0]]) == ()
    assert compare_all([[NAN], [NAN]], [3]) == ()


def test_columns_that_do_not_fit_are_refused():
    """Each mistake is named."""
    with pytest.raises(ValueError, match="the columns must have the same length"):
        compare_all([[1.0], [1.0, 0.0]])
    with pytest.raises(ValueError, match="clusters and scores"):
        compare_all([[1.0], [1.0]], [1, 2])


def test_the_chance_of_any_false_difference_holds():
    """Of 300 runs of four equal models, about one in twenty at most has a significant difference between any two."""
    random = np.random.default_rng(3)
    alarms = [
        any(entry.p_value < 0.05 for entry in compare_all(list((random.random((4, 100)) < 0.7).astype(float))))
        for _ in range(300)
    ]
    assert np.mean(alarms) <= 0.05 + 0.038
