"""The spread within rows and between rows."""

from __future__ import annotations

import numpy as np
import pytest

from batchkit.stats.variance import sample_spread

NAN = float("nan")


def test_a_small_table_is_split_by_hand():
    """Two rows of two samples; a row without a score is left out."""
    found = sample_spread([[0.0, 1.0], [1.0, 1.0], [NAN, NAN]])
    assert found is not None
    assert (found.rows, found.samples, found.mean) == (2, 2.0, 0.75)
    assert found.within == pytest.approx(0.5 / 2)
    # The means 0.5 and 1 have the variance 0.125, which is what samples alone explain: 0.25 / 2.
    assert found.between == pytest.approx(0.0)
    assert found.error == pytest.approx(np.sqrt(0.125 / 2))
    assert found.error_doubled == pytest.approx(np.sqrt(0.125 / 2 / 2))
    assert found.error_unlimited == pytest.approx(0.0)


def test_missing_samples_count_by_row():
    """A row with one sample says nothing about the spread within rows, and more about that of its mean."""
    found = sample_spread([[0.0, 1.0, NAN], [0.2, NAN, NAN], [0.9, 0.7, 0.8]])
    assert found is not None
    assert found.samples == 2.0
    assert found.within == pytest.approx((0.5 + 0.02) / 3)
    means = np.var([0.5, 0.2, 0.8], ddof=1)
    by_sampling = (0.52 / 3) * (1 / 2 + 1 + 1 / 3) / 3
    assert found.between == pytest.approx(max(means - by_sampling, 0))
    assert found.error == pytest.approx(np.sqrt(means / 3))


@pytest.mark.parametrize("samples", [2, 5])
def test_the_known_spread_of_many_draws_is_found(samples):
    """Rows with the variance 0.04 and samples with 0.25: both are found, and so is the error after twice as many samples."""
    random = np.random.default_rng(samples)

    def draw(count):
        return random.normal(0, 0.2, (400, 1)) + random.normal(0, 0.5, (400, count))

    found = [sample_spread(draw(samples)) for _ in range(300)]
    spreads = [spread for spread in found if spread is not None]
    for name, expected in (("within", 0.25), ("between", 0.04), ("error_unlimited", np.sqrt(0.04 / 400))):
        assert np.mean([getattr(spread, name) for spread in spreads]) == pytest.approx(expected, rel=0.06)
    doubled = np.std([draw(2 * samples).mean() for _ in range(2_000)])
    assert np.mean([spread.error_doubled for spread in spreads]) == pytest.approx(doubled, rel=0.06)
    assert np.mean([spread.error for spread in spreads]) == pytest.approx(
        np.sqrt((0.04 + 0.25 / samples) / 400), rel=0.03
    )


def test_what_cannot_be_measured_is_none():
    """One sample of each row has no spread within rows, one row none between them, and no score nothing at all."""
    one_sample = sample_spread([[0.2], [0.6]])
    assert one_sample is not None
    assert one_sample.error == pytest.approx(0.2)
    assert (one_sample.within, one_sample.between, one_sample.error_doubled, one_sample.error_unlimited) == (None,) * 4
    one_row = sample_spread([[0.2, 0.6]])
    assert one_row is not None
    assert one_row.within == pytest.approx(0.08)
    assert (one_row.between, one_row.error) == (None, None)
    assert sample_spread([]) is None
    assert sample_spread(np.empty((0, 3))) is None
    assert sample_spread([[NAN, NAN]]) is None
    equal = sample_spread([[0.5, 0.5], [0.5, 0.5]])
    assert equal is not None
    assert (equal.within, equal.between, equal.error, equal.error_doubled) == (0, 0, 0, 0)


def test_more_samples_never_promise_a_larger_error():
    """If chance made the rows more alike than their samples allow, the expected error is no larger than the present one."""
    found = sample_spread([[0.0, 1.0], [1.0, 0.0], [0.0, 0.9]])
    assert found is not None
    assert (found.between, found.error_doubled) == (0.0, found.error)


def test_other_shapes_are_refused():
    """Each mistake is named."""
    with pytest.raises(ValueError, match="rows and samples"):
        sample_spread([0.5, 0.4])  # type: ignore[list-item] # what the test is about
    with pytest.raises(ValueError, match="finite"):
        sample_spread([[float("inf")]])
