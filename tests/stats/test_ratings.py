"""Agreement about numbers equals that of the reference libraries, and a small difference weighs less than a large one."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from batchkit.stats.agreement import NO_PAIRS
from batchkit.stats.ratings import ONE_VALUE, TOO_LARGE, RatingAgreement
from tests.lazy import LazyModule

inter_rater = LazyModule("statsmodels.stats.inter_rater")
krippendorff = LazyModule("krippendorff")


def measured(rows):
    """Return the agreement of rows of ratings."""
    found = RatingAgreement(len(rows[0]))
    for row in rows:
        found.add(row)
    return found.report()


def draw(seed, *, rows=80, raters=3, missing=0.0):
    """Return random ratings from 1 to 5 near a true value."""
    random = np.random.default_rng(seed)
    truth = random.integers(1, 6, size=(rows, 1))
    drawn = np.clip(truth + random.integers(-1, 2, size=(rows, raters)), 1, 5).astype(float)
    kept = random.random((rows, raters)) >= missing
    return [
        tuple(value if keep else None for value, keep in zip(values, keeps, strict=True))
        for values, keeps in zip(drawn.tolist(), kept, strict=True)
    ]


def as_numbers(rows):
    """Return an array with NaN where there is no rating."""
    return np.array([[np.nan if value is None else value for value in row] for row in rows])


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_ratings_agree_with_the_libraries(seed, missing):
    """Alpha equals krippendorff's at the interval level, and kappa equals that of statsmodels with quadratic weights."""
    rows = draw(seed, missing=missing)
    found = measured(rows)
    table = as_numbers(rows)

    assert found.level == "interval"
    assert found.alpha.value == pytest.approx(krippendorff.alpha(table.T, level_of_measurement="interval"))
    for pair in combinations(range(3), 2):
        both = table[:, pair][~np.isnan(table[:, pair]).any(axis=1)].astype(int)
        classes = np.zeros((5, 5))
        np.add.at(classes, (both[:, 0] - 1, both[:, 1] - 1), 1)
        kappa = inter_rater.cohens_kappa(classes, weights=np.arange(5), wt="quadratic", return_results=False)
        assert found.cohen[pair].value == pytest.approx(kappa)
    assert found.fleiss.value is None


def test_a_difference_of_one_point_counts_less_than_one_of_four():
    """Annotators who never differ by more than a point agree well, although few ratings are equal."""
    near = measured([(1, 2), (2, 3), (3, 4), (4, 5), (5, 5), (1, 1), (2, 1), (3, 2), (4, 3), (5, 4)])
    far = measured([(1, 5), (2, 3), (3, 1), (4, 5), (5, 1), (1, 1), (2, 5), (3, 2), (4, 1), (5, 4)])

    assert near.alpha.value > 0.75
    assert near.unanimous == 0.2
    assert far.alpha.value < 0.1


def test_large_numbers_lose_no_digits():
    """The ratings are times a few seconds apart."""
    rows = [(value, value + offset) for value, offset in [(0.0, 1.0), (7.0, -2.0), (3.0, 0.0), (9.0, 1.0)]]
    shifted = [(one + 1.7e9, other + 1.7e9) for one, other in rows]

    assert measured(shifted).alpha.value == pytest.approx(measured(rows).alpha.value)
    assert measured(shifted).mean_cohen.value == pytest.approx(measured(rows).mean_cohen.value)


def test_unmeasurable_agreement_has_a_reason():
    """This covers a single value, no pairs, and a row of another length."""
    assert measured([(3.0, 3.0), (3.0, None)]).alpha.reason == ONE_VALUE
    assert measured([(3.0, 3.0)]).mean_cohen.reason == ONE_VALUE
    assert measured([(3.0, None), (None, None)]).alpha.reason == NO_PAIRS
    huge = measured([(1e200, -1e200), (0.0, 1.0)])
    assert (huge.alpha.reason, huge.mean_cohen.reason) == (TOO_LARGE, TOO_LARGE)
    with pytest.raises(ValueError, match="one rating for each annotator"):
        measured([(1.0, 2.0), (1.0,)])
