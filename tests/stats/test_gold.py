"""An annotator is measured against the labels of people."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from batchkit.stats.agreement import NO_PAIRS
from batchkit.stats.gold import NumberGold, against_gold
from tests.lazy import LazyModule

inter_rater = LazyModule("statsmodels.stats.inter_rater")
proportion = LazyModule("statsmodels.stats.proportion")

COUNTS = Counter({("spam", "spam"): 40, ("spam", "ham"): 10, ("ham", "ham"): 45, ("ham", "spam"): 5, ("ham", None): 7})


def test_the_figures_are_those_of_the_confusion_matrix():
    """Accuracy, precision, recall and F1 of two labels are computed by hand; kappa and the bounds by statsmodels."""
    found: Any = against_gold(COUNTS)

    assert (found.rows, found.unanswered) == (100, 7)
    assert found.accuracy.mean == 0.85
    assert found.accuracy[1:3] == pytest.approx(proportion.proportion_confint(85, 100, method="wilson"))
    ham, spam = found.labels
    assert (ham.label, ham.gold, ham.given) == ("ham", 50, 55)
    assert (spam.precision.mean, spam.recall.mean) == (pytest.approx(40 / 45), 0.8)
    assert spam.recall[1:3] == pytest.approx(proportion.proportion_confint(40, 50, method="wilson"))
    assert spam.f1.mean == pytest.approx(80 / 95)
    assert spam.f1.low < spam.f1.mean < spam.f1.high
    assert found.macro_f1 == pytest.approx((80 / 95 + 90 / 105) / 2)
    table = np.array([[45, 5], [10, 40]])
    assert found.kappa.value == pytest.approx(inter_rater.cohens_kappa(table, return_results=False))
    assert found.confusion == {key: count for key, count in COUNTS.items() if key[1] is not None}


def test_a_label_used_by_one_side_only_has_half_of_its_figures():
    """A label that is absent from the gold labels has no recall, one that the annotator never gave has no precision; F1 is 0."""
    found: dict[str, Any] = {figures.label: figures for figures in against_gold({("a", "a"): 3, ("b", "c"): 1}).labels}

    assert found["b"].precision is None
    assert found["b"].recall.mean == 0.0
    assert found["c"].recall is None
    assert found["c"].precision.mean == 0.0
    assert found["b"].f1.mean == found["c"].f1.mean == 0.0
    assert against_gold({("a", "a"): 3, ("b", "c"): 1}).macro_f1 == 0.5


def test_without_answers_nothing_is_measured():
    """The result has the number of rows without an answer."""
    found = against_gold({("a", None): 4})

    assert (found.rows, found.unanswered, found.accuracy, found.macro_f1, found.labels) == (0, 4, None, None, ())
    assert found.kappa.reason == NO_PAIRS


def test_numbers_have_errors_with_and_without_their_sign():
    """Ratings that are a point too high, and one that is two points too low."""
    found = NumberGold()
    for gold, given in [(1.0, 2.0), (2.0, 3.0), (5.0, 3.0), (4.0, 4.0), (3.0, None)]:
        found.add(gold, given)
    report = found.report()

    assert (report.rows, report.unanswered, report.mean_error, report.mean_absolute_error) == (4, 1, 0.0, 1.0)
    assert report.kappa.value == pytest.approx(1 - (1 + 1 + 4) / 4 / (2 * 0 + 2.5 + 0.5 + 0.0), abs=1)
    assert NumberGold().report().mean_error is None
