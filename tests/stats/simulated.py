"""Draws of scores whose true mean is known, independent and in clusters."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

NORMAL = NormalDist()


def cluster_numbers(random, clusters, *, is_even=True):
    """Number values by cluster: five in each, or between 1 and 60."""
    sizes = np.full(clusters, 5) if is_even else (5 * random.pareto(1.5, clusters) + 1).astype(int).clip(1, 60)
    return np.repeat(np.arange(clusters), sizes)


def latent(random, numbers, likeness):
    """Draw standard normal values, of which those of one cluster are correlated."""
    shared = random.normal(size=numbers.max() + 1)[numbers]
    return np.sqrt(likeness) * shared + np.sqrt(1 - likeness) * random.normal(size=numbers.size)


def right(values, share):
    """Return 1 for the values that are right answers, so that this share is."""
    return (values < NORMAL.inv_cdf(share)).astype(float)


def graded(values):
    """Return scores between 0 and 1 with the mean 0.5, in steps of a hundredth."""
    return np.round((1 + np.tanh(values)) / 2, 2)


def two_nights(random, numbers, likeness, shares):
    """Draw two nights of right and wrong answers: half of the difficulty is the question's, half the night's, by cluster."""
    question = random.normal(size=numbers.size)
    return [right(np.sqrt(0.5) * (question + latent(random, numbers, likeness)), share) for share in shares]


def two_graded_nights(random, numbers, likeness, fall):
    """Draw two nights of graded scores, of which the second is lower by ``fall``."""
    question = random.normal(size=numbers.size)
    first, second = (graded((question + latent(random, numbers, likeness)) / 2) for _ in range(2))
    return first, second - fall
