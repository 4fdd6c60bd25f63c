"""How much less clustered values say than independent ones."""

from __future__ import annotations

import numpy as np
import pytest

from batchkit.stats.clusters import cluster_totals, design_effect, effective_clusters, error_of_mean
from tests.lazy import LazyModule
from tests.stats.simulated import latent

statsmodels = LazyModule("statsmodels.api")


def test_values_are_added_up_by_cluster():
    """The numbers of the clusters need neither begin at 0 nor follow each other."""
    totals = cluster_totals(np.array([1.0, 0.0, 0.5, 1.0]), [9, -2, -2, 9])
    assert totals.sums.tolist() == [0.5, 2.0]
    assert totals.sizes.tolist() == [2.0, 2.0]
    assert totals.nonzero.tolist() == [1.0, 2.0]


def test_the_error_of_even_clusters_is_the_one_of_statsmodels():
    """A regression on a constant has the same cluster-robust error, up to its correction for few values."""
    random = np.random.default_rng(1)
    numbers = np.repeat(np.arange(30), 4)
    values = latent(random, numbers, 0.5)
    found = error_of_mean(values, cluster_totals(values, numbers))
    fitted = statsmodels.OLS(values, np.ones(120)).fit(cov_type="cluster", cov_kwds={"groups": numbers})
    correction = np.sqrt(119 / 120)  # statsmodels multiplies the variance by (n - 1) / (n - 1) and by G / (G - 1) only
    assert found.error == pytest.approx(fitted.bse[0], rel=1 - correction)
    assert found.freedom == pytest.approx(29)


#: One cluster with half of all values, and 20 small ones.
UNEVEN = np.concatenate([np.zeros(40, dtype=int), np.repeat(np.arange(1, 21), 2)])


def test_a_large_cluster_leaves_few_degrees_of_freedom():
    """If its values are alike it decides the mean alone; if they are independent it is as good as its small neighbours."""
    random = np.random.default_rng(1)
    freedom = {}
    for likeness in (0.0, 0.95):
        draws = [latent(random, UNEVEN, likeness) for _ in range(50)]
        found = [error_of_mean(values, cluster_totals(values, UNEVEN)).freedom for values in draws]
        freedom[likeness] = np.median(found)
        assert min(found) >= 1
    assert effective_clusters(cluster_totals(draws[0], UNEVEN)) == pytest.approx(6400 / (1600 + 20 * 4))
    assert freedom[0.95] < 2
    assert freedom[0.0] > 3


@pytest.mark.parametrize("likeness", [0.0, 0.5, 1.0])
def test_the_squared_error_is_the_variance_of_the_mean(likeness):
    """The mean of the squared errors of many draws of uneven clusters is the variance of their means."""
    random = np.random.default_rng(4)
    draws = [latent(random, UNEVEN, likeness) for _ in range(1_500)]
    found = np.mean([error_of_mean(values, cluster_totals(values, UNEVEN)).error ** 2 for values in draws])
    assert found == pytest.approx(np.var([values.mean() for values in draws]), rel=0.18)


@pytest.mark.parametrize(("likeness", "expected"), [(0.0, 1.0), (0.5, 3.0), (1.0, 5.0)])
def test_the_design_effect_is_that_of_the_correlation_within_clusters(likeness, expected):
    """Kish: 1 + (size - 1) times the correlation."""
    random = np.random.default_rng(6)
    numbers = np.repeat(np.arange(4_000), 5)
    assert design_effect(latent(random, numbers, likeness), numbers) == pytest.approx(expected, rel=0.06)


def test_a_design_effect_that_cannot_be_measured_is_the_largest_one():
    """Without spread, or with one cluster, the values of a cluster may all be alike; clusters of one value have none."""
    assert design_effect([1.0] * 8, [0, 0, 1, 1, 2, 2, 3, 3]) == 2.0
    assert design_effect([1.0, 0.0, 1.0], [5, 5, 5]) == 3.0
    assert design_effect([1.0, 0.0, 0.5], [1, 2, 3]) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="needs scores"):
        design_effect([], [])
