"""Votes that weigh annotators by their errors."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from batchkit.annotation.votes import majority
from batchkit.stats.weighted_votes import MOST_LABELS, dawid_skene, weighted_by_gold

LABELS = ("a", "b", "c")


def draw(seed, accuracies, *, rows=600, missing=0.1):
    """Return random true labels, and the labels of annotators with these accuracies; a wrong one is another label at random."""
    random = np.random.default_rng(seed)
    truth = random.choice(3, size=rows, p=[0.6, 0.3, 0.1])
    given = []
    for row in range(rows):
        labels = []
        for accuracy in accuracies:
            is_right = random.random() < accuracy
            label = truth[row] if is_right else (truth[row] + random.integers(1, 3)) % 3
            labels.append(None if random.random() < missing else LABELS[label])
        given.append(tuple(labels))
    return [LABELS[label] for label in truth], given


def share_right(truth, chosen):
    """Return the share of rows whose label is the true one."""
    return np.mean([one == other for one, other in zip(truth, chosen, strict=True)])


@pytest.mark.parametrize("seed", range(3))
def test_a_good_annotator_outweighs_poor_ones(seed):
    """With one good annotator among four poor ones, votes weighted without any gold label beat the majority."""
    truth, given = draw(seed, (0.95, 0.5, 0.5, 0.5, 0.5))

    found = dawid_skene(Counter(given))
    weighted = [found[row].label if row in found else None for row in given]

    assert (
        share_right(truth, weighted) > share_right(truth, [majority(filter(None, row)).value for row in given]) + 0.05
    )


def test_confidence_is_the_share_of_correct_labels():
    """Of the rows with a confidence of about 0.9, about nine in ten are correct."""
    truth, given = draw(7, (0.8, 0.75, 0.7), rows=4_000)
    found = dawid_skene(Counter(given))
    pairs = [(found[row], right) for row, right in zip(given, truth, strict=True) if row in found]

    confidence = np.mean([vote.confidence for vote, _ in pairs])
    right = np.mean([vote.label == label for vote, label in pairs])

    assert confidence == pytest.approx(right, abs=0.03)
    assert all(1 / 3 <= vote.confidence <= 1 for vote, _ in pairs)


def test_gold_labels_determine_the_weights():
    """An annotator who always swaps two labels is as good as a correct one, once the confusion is known."""
    confusions = [{("a", "b"): 50, ("b", "a"): 50}, {("a", "a"): 30, ("a", "b"): 20, ("b", "b"): 30, ("b", "a"): 20}]

    found = weighted_by_gold({("b", "b"): 1, ("a", None): 1, (None, "a"): 1, (None, None): 1}, confusions)

    assert found["b", "b"].label == "a"
    assert found["b", "b"].confidence > 0.95
    assert found["a", None].label == "b"
    assert found[None, "a"].confidence == pytest.approx(0.6, abs=0.01)
    assert (None, None) not in found


def test_no_votes_and_too_many_labels():
    """Without votes the result is empty; free texts are refused."""
    assert dawid_skene({}) == {}
    assert dawid_skene({(None, None): 3}) == {}
    with pytest.raises(ValueError, match="different labels"):
        dawid_skene({(str(number), str(number)): 1 for number in range(MOST_LABELS + 1)})
