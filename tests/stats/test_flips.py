"""Flipped signs: as small a p-value as the differences deserve, however many tests it must withstand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from batchkit.stats.falls import fall_beyond
from batchkit.stats.flips import flip_p_values
from batchkit.stats.paired import compare_pairs
from tests.lazy import LazyModule

stats = LazyModule("scipy.stats")


def enumerated(differences):
    """Return both p-values from all combinations of signs."""
    total = sum(differences)
    sums = [
        sum(sign * abs(value) for sign, value in zip(signs, differences, strict=True))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    return (
        sum(abs(one) >= abs(total) for one in sums) / len(sums),
        sum(one <= total for one in sums) / len(sums),
    )


@pytest.mark.parametrize("seed", range(4))
def test_whole_numbers_have_their_exact_distribution(seed):
    """Right and wrong answers of clusters give whole numbers: the same as all combinations of signs."""
    differences = np.random.default_rng(seed).choice([-3, -2, -1, 1, 2], size=14)
    assert flip_p_values(differences.astype(float)) == pytest.approx(enumerated(differences.tolist()))


def test_differences_of_one_are_mcnemar():
    """38 fell and 12 rose."""
    two_sided, fell = flip_p_values(np.array([-1.0] * 38 + [1.0] * 12))
    assert two_sided == pytest.approx(stats.binomtest(38, 50, 0.5).pvalue)
    assert fell == pytest.approx(stats.binomtest(38, 50, 0.5, alternative="greater").pvalue)


@pytest.mark.parametrize("step", [1.0, 0.37])
def test_a_collapse_withstands_any_correction(step):
    """One ten-thousandth, the least that random flips show, would be none after a correction for a hundred tests."""
    differences = -step * np.linspace(1, 2, 200).round(0 if step == 1 else 3)
    two_sided, fell = flip_p_values(differences)
    assert 0 <= fell < 1e-9
    assert two_sided < 1e-9
    rises = flip_p_values(-differences)
    assert rises[1] == pytest.approx(1.0)
    assert rises[0] == pytest.approx(two_sided)


def test_a_fall_of_clusters_beyond_an_accepted_one_withstands_it_too():
    """Every passage fell from right to wrong; that they fell by more than 0.2 is beyond doubt, by more than 1 it is not."""
    clusters = np.repeat(np.arange(60), 5)
    before = np.ones(300)
    before[::7] = 0.0
    after = np.zeros(300)
    assert fall_beyond(before, after, 0.2, clusters) < 1e-6
    assert fall_beyond(before, after, 0.95, clusters) > 0.5
    compared = compare_pairs(before, after, clusters)
    assert compared is not None
    assert compared.fall_p_value < 1e-9
