"""Agreement among annotators equals that of the reference libraries on the same labels."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from batchkit.stats.agreement import NO_PAIRS, ONE_LABEL, agreement
from tests.lazy import LazyModule

inter_rater = LazyModule("statsmodels.stats.inter_rater")
krippendorff = LazyModule("krippendorff")


def draw(seed, *, rows=80, raters=4, missing=0.0):
    """Return random labels: annotators agree with a truth most of the time, in four classes of different size."""
    random = np.random.default_rng(seed)
    truth = random.choice(4, size=rows, p=[0.5, 0.3, 0.15, 0.05])
    other = random.choice(4, size=(rows, raters))
    drawn = np.where(random.random((rows, raters)) < 0.7, truth[:, None], other)
    kept = random.random((rows, raters)) >= missing
    return [
        tuple(f"class {label}" if keep else None for label, keep in zip(labels, keeps, strict=True))
        for labels, keeps in zip(drawn, kept, strict=True)
    ]


def cohen(ratings):
    """Return Cohen's kappa of two columns of numbers, computed with statsmodels alone."""
    return inter_rater.cohens_kappa(inter_rater.to_table(ratings.astype(int))[0], return_results=False)


def numbers(labels):
    """Return labels as numbers, NaN for missing ones."""
    return np.array([[np.nan if label is None else int(label[-1]) for label in row] for row in labels])


@pytest.mark.parametrize("seed", range(8))
def test_complete_labels_agree_with_the_libraries(seed):
    """Cohen's and Fleiss' kappas equal those of statsmodels, and alpha equals that of krippendorff."""
    labels = draw(seed)
    found = agreement(labels)
    table = numbers(labels).astype(int)
    for one, other in combinations(range(4), 2):
        assert found.cohen[one, other].value == pytest.approx(cohen(table[:, [one, other]]))
    cohens = [coefficient.value for coefficient in found.cohen.values()]
    assert found.mean_cohen.value == pytest.approx(np.mean([value for value in cohens if value is not None]))
    assert found.fleiss.value == pytest.approx(inter_rater.fleiss_kappa(inter_rater.aggregate_raters(table)[0]))
    assert found.alpha.value == pytest.approx(krippendorff.alpha(table.T, level_of_measurement="nominal"))
    assert found.unanimous == pytest.approx((table == table[:, :1]).all(axis=1).mean())


@pytest.mark.parametrize("seed", range(8))
def test_missing_labels_are_left_out_as_the_libraries_do(seed):
    """Cohen's kappa uses the rows that both rated, Fleiss' those that all rated, and alpha those with two ratings."""
    labels = draw(seed, missing=0.3)
    found = agreement(labels)
    table = numbers(labels)
    for one, other in combinations(range(4), 2):
        both = ~np.isnan(table[:, [one, other]]).any(axis=1)
        expected = cohen(table[both][:, [one, other]])
        assert found.cohen[one, other].value == pytest.approx(expected)
        assert found.cohen[one, other].rows == both.sum()
    complete = ~np.isnan(table).any(axis=1)
    assert found.fleiss.value == pytest.approx(
        inter_rater.fleiss_kappa(inter_rater.aggregate_raters(table[complete].astype(int))[0])
    )
    assert found.alpha.value == pytest.approx(krippendorff.alpha(table.T, level_of_measurement="nominal"))
    assert found.alpha.rows == ((~np.isnan(table)).sum(axis=1) >= 2).sum()


def test_counted_labels_are_the_same_as_listed_ones():
    """Counts of combinations give the same as the rows, even for ten million rows."""
    labels = draw(5, missing=0.2)
    counted = Counter(labels)
    assert agreement(counted) == agreement(labels)
    scaled = agreement({row: count * 125_000 for row, count in counted.items()})
    assert scaled.rows == 10_000_000
    assert scaled.fleiss.value == pytest.approx(agreement(labels).fleiss.value)


def test_agreement_on_a_single_label_cannot_be_measured():
    """When chance would agree as well, there is a reason instead of a coefficient; the rows are unanimous anyway."""
    found = agreement([("yes", "yes", "yes")] * 5)
    for coefficient in (found.mean_cohen, found.fleiss, found.alpha, found.cohen[0, 2]):
        assert (coefficient.value, coefficient.reason) == (None, ONE_LABEL)
    assert found.unanimous == 1.0


def test_rows_without_two_ratings_have_no_agreement():
    """Rows with one rating or none have no agreement to measure, and neither has an empty table."""
    found = agreement([("yes", None), (None, "no"), (None, None)])
    assert (found.rows, found.rated_by_two, found.unanimous) == (3, 0, None)
    assert {found.mean_cohen.reason, found.fleiss.reason, found.alpha.reason} == {NO_PAIRS}
    assert agreement([]).alpha.value is None
    with pytest.raises(ValueError, match="one label for each"):
        agreement([("yes",), ("yes", "no")])


def test_perfect_agreement_on_several_labels_is_one():
    """When every row is unanimous and there are several labels, every coefficient is 1."""
    found = agreement([("a", "a", "a"), ("b", "b", "b"), ("a", "a", "a")])
    values = [found.mean_cohen.value, found.fleiss.value, found.alpha.value]
    assert values == pytest.approx([1.0, 1.0, 1.0])
