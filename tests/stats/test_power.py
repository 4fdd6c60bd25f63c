"""The smallest fall that is found: the promised power, in simulations."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from batchkit.stats.paired import compare_pairs
from batchkit.stats.paired_shares import fall_test
from batchkit.stats.power import smallest_fall, smallest_graded_fall
from tests.lazy import LazyModule

stats = LazyModule("scipy.stats")


@pytest.mark.parametrize("power", [0.8, 0.95])
@pytest.mark.parametrize(("pairs", "changing", "level"), [(60, 0.1, 0.05), (300, 0.1, 0.01), (1_000, 0.3, 0.01)])
def test_the_smallest_fall_of_right_answers_is_found_with_its_power(pairs, changing, level, power):
    """Of 20,000 pairs of nights with this fall, as many as the power says are significant by McNemar's test."""
    fall = smallest_fall(pairs, changing=changing, level=level, power=power)
    assert fall is not None
    random = np.random.default_rng(pairs)
    shares = [changing / 2 + fall, changing / 2, 1 - changing - fall]
    fell, rose, _ = random.multinomial(pairs, shares, 20_000).T
    found = np.mean(stats.binom.sf(fell - 1, fell + rose, 0.5) < level)
    assert found == pytest.approx(power, abs=0.01)


@pytest.mark.parametrize("power", [0.8, 0.95])
def test_more_than_an_accepted_fall_is_found_with_its_power(power):
    """Of 1,000 pairs of nights, as many as the power says have a fall that is significantly larger than the accepted one."""
    fall = smallest_fall(300, changing=0.1, level=0.05, power=power, beyond=0.03)
    assert fall is not None
    random = np.random.default_rng(1)
    tested = cache(lambda fell, rose: fall_test(fell, rose, 300, 0.03))
    drawn = random.multinomial(300, [0.05 + fall, 0.05, 0.9 - fall], 1_000)
    assert np.mean([tested(int(fell), int(rose)) < 0.05 for fell, rose, _ in drawn]) == pytest.approx(power, abs=0.03)


def test_the_smallest_fall_of_few_rows_is_computed_by_hand():
    """Seven pairs without noise need seven falls, which are found if each of them falls; six never reach the level."""
    assert smallest_fall(7, changing=0.0, level=0.01, power=0.8) == pytest.approx(0.8 ** (1 / 7), abs=1e-5)
    assert smallest_fall(6, changing=0.0, level=0.01, power=0.8) is None
    assert smallest_fall(0, changing=0.0, level=0.01, power=0.8) is None
    # Where all rows change by noise, a fall takes their place.
    assert smallest_fall(300, changing=1.0, level=0.01, power=0.8) == pytest.approx(0.184, abs=0.005)


@pytest.mark.parametrize("pairs", [10, 60])
def test_the_smallest_fall_of_graded_scores_is_found_with_its_power(pairs):
    """Of 500 pairs of nights, four in five are significant by flipped signs."""
    fall = smallest_graded_fall(pairs, deviation=0.2, level=0.05, power=0.8)
    assert fall is not None
    random = np.random.default_rng(pairs)
    found = [compare_pairs(np.zeros(pairs), random.normal(-fall, 0.2, pairs)) for _ in range(500)]
    share = np.mean([comparison is not None and comparison.fall_p_value < 0.05 for comparison in found])
    assert share == pytest.approx(0.8, abs=0.054)


def test_graded_scores_scale_with_their_deviation():
    """Half the deviation finds half the fall, an accepted fall is added, and no noise finds any larger fall."""
    fall = smallest_graded_fall(50, deviation=0.2, level=0.01, power=0.95)
    assert fall is not None
    assert smallest_graded_fall(50, deviation=0.1, level=0.01, power=0.95) == pytest.approx(fall / 2, rel=1e-4)
    assert smallest_graded_fall(50, deviation=0.2, level=0.01, power=0.95, beyond=0.1) == pytest.approx(fall + 0.1)
    assert smallest_graded_fall(50, deviation=0.0, level=0.01, power=0.95, beyond=0.1) == 0.1
    assert smallest_graded_fall(1, deviation=0.2, level=0.01, power=0.95) is None
    alone = smallest_graded_fall(2, deviation=0.2, level=0.001, power=0.99)
    assert alone is not None
    assert alone > 50
    below, above = (smallest_graded_fall(pairs, deviation=0.2, level=0.01, power=0.8) for pairs in (9_999, 10_000))
    assert below == pytest.approx(above, rel=1e-3)


def test_a_design_effect_divides_the_rows():
    """300 pairs with a design effect of 3 find what 100 pairs find."""
    assert smallest_fall(300, changing=0.1, level=0.01, power=0.8, design_effect=3.0) == smallest_fall(
        100, changing=0.1, level=0.01, power=0.8
    )
    assert smallest_graded_fall(300, deviation=0.1, level=0.01, power=0.8, design_effect=3.0) == (
        smallest_graded_fall(100, deviation=0.1, level=0.01, power=0.8)
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"changing": 1.5}, "share of changing rows"),
        ({"beyond": -0.1}, "accepted fall"),
        ({"beyond": 1.0}, "accepted fall"),
        ({"level": 0.5}, "level"),
        ({"level": 0.0}, "level"),
        ({"power": 1.0}, "power"),
        ({"design_effect": 0.0}, "design effect"),
        ({"design_effect": float("nan")}, "design effect"),
        ({"pairs": -1}, "number of pairs"),
    ],
)
def test_values_out_of_range_are_refused(wrong, message):
    """Each mistake is named."""
    arguments = {"pairs": 10, "changing": 0.1, "level": 0.01, "power": 0.8} | wrong
    with pytest.raises(ValueError, match=message):
        smallest_fall(**arguments)
    with pytest.raises(ValueError, match="not negative"):
        smallest_graded_fall(10, deviation=-1.0, level=0.01, power=0.8)
