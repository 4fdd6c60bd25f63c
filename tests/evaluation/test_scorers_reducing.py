"""From many scores and labels to few figures."""

from __future__ import annotations

from itertools import combinations
from math import isnan
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit.evaluation.confusion import OTHER, confusion
from batchkit.evaluation.reducers import reduce_samples

NAN = float("nan")
SAMPLES = np.array([[1, 1, 0], [1, 0, NAN], [0, 0, 0], [1, 1, 1], [NAN, NAN, NAN], [0.4, 0.6, NAN]])


@pytest.mark.parametrize(
    ("how", "reduced"),
    [
        ("mean", [2 / 3, 0.5, 0, 1, NAN, 0.5]),
        ("max", [1, 1, 0, 1, NAN, 0.6]),
        ("majority", [1, 0.5, 0, 1, NAN, 0.5]),
        ("any", [1, 1, 0, 1, NAN, 1]),
        ("all", [0, 0, 0, 1, NAN, 0]),
    ],
)
def test_samples_become_one_score(how, reduced):
    """Unscored samples are left out, and a row without any has no score."""
    np.testing.assert_allclose(reduce_samples(SAMPLES, how), reduced)
    np.testing.assert_allclose(reduce_samples(SAMPLES[:, None, :], how), np.array(reduced)[:, None])


@given(st.lists(st.sampled_from([0.0, 1.0, NAN]), min_size=1, max_size=6), st.integers(1, 6))
def test_pass_at_k_is_the_share_of_choices_with_a_right_one(scores, k):
    """The estimate is the mean over all choices of k scored samples."""
    scored = [score for score in scores if not isnan(score)]
    chosen = [max(choice) for choice in combinations(scored, k)]
    expected = sum(chosen) / len(chosen) if chosen else NAN
    np.testing.assert_allclose(reduce_samples(np.array([scores]), "any", k), [expected])


def test_k_belongs_to_any():
    """And is a number of samples."""
    refused: list[tuple[Any, int]] = [("mean", 1), ("any", 0)]
    for how, k in refused:
        with pytest.raises(ValueError, match="belongs to `any`"):
            reduce_samples(SAMPLES, how, k)


def test_a_matrix_counts_labels():
    """By hand: two classes, one that is only answered, and an answer that is none."""
    found = confusion(["a", "a", "a", "b", "b", "a"], ["a", "a", "b", "b", "c", None])
    assert found.classes == ("a", "b", "c")
    assert found.counts == ((2, 1, 0, 1), (0, 1, 1, 0), (0, 0, 0, 0))
    assert [(one.precision, one.recall, one.support, one.answered) for one in found.per_class] == [
        (1, 0.5, 4, 2), (0.5, 0.5, 2, 2), (0, None, 0, 1),
    ]  # fmt: skip
    assert [one.f1 for one in found.per_class] == [pytest.approx(2 / 3), 0.5, 0]
    assert pytest.approx((found.macro.precision, found.macro.recall, found.macro.f1)) == (0.75, 0.5, 7 / 12)
    assert pytest.approx((found.micro.precision, found.micro.recall, found.micro.f1)) == (0.6, 0.5, 6 / 11)
    assert (found.accuracy, found.rows, found.unanswered, found.has_other) == (0.5, 6, 1, False)


def test_rare_classes_are_one_together():
    """Two different rare labels are not the same answer."""
    labels = [label for number in range(40) for label in [f"l{number:02}"] * (41 - number)]
    wrong = [*labels[:-1], "l38"]
    found = confusion(labels, wrong)
    assert len(found.classes) == 30
    assert (found.classes[0], found.classes[-1], found.has_other) == ("l00", OTHER, True)
    assert found.accuracy == pytest.approx(1 - 1 / len(labels))
    assert found.per_class[-1].recall == pytest.approx(1 - 1 / sum(41 - number for number in range(29, 40)))
    named = confusion([OTHER, OTHER, "x", "y"], [OTHER, OTHER, "x", "y"], most_classes=2)
    assert named.classes == (OTHER, f"{OTHER} ")


def test_without_rows_there_are_no_figures():
    """Nothing is divided by nothing, and lists of different lengths are refused."""
    empty = confusion([], [])
    assert (empty.classes, empty.counts, empty.accuracy, empty.macro.f1, empty.micro.f1) == ((), (), None, None, None)
    silent = confusion(["a"], [None])
    assert (
        silent.per_class[0].precision,
        silent.per_class[0].recall,
        silent.per_class[0].f1,
        silent.micro.precision,
    ) == (None, 0, 0, None)
    with pytest.raises(ValueError, match="zip"):
        confusion(["a"], [])


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.one_of(st.none(), st.sampled_from("abcdef")))), st.integers(2, 8)
)
def test_counts_add_up(pairs, most):
    """Every row is in one cell, and all shares are shares."""
    found = confusion([one for one, _ in pairs], [other for _, other in pairs], most_classes=most)
    assert sum(map(sum, found.counts)) == found.rows == len(pairs)
    assert len(found.classes) <= most
    if pairs:
        assert found.accuracy == sum(one == other for one, other in pairs) / len(pairs)
    figures = [value for one in found.per_class for value in (one.precision, one.recall, one.f1) if value is not None]
    assert all(0 <= value <= 1 for value in figures)
