"""One score for the samples of a row."""

from __future__ import annotations

import warnings
from math import comb
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from batchkit.evaluation.scorers.base import Reduction

#: From here on a score counts as right where only right and wrong are counted.
RIGHT: Final = 0.5


def reduce_samples(scores: NDArray[np.float64], how: Reduction, k: int | None = None) -> NDArray[np.float64]:
    """Return one score for each row from the scores of its samples, which are the last axis. Unscored is NaN and is left out.

    ``mean`` and ``max`` use the scores as they are. ``majority``, ``any`` and ``all`` count the samples from 0.5 on as right: more than
    half of them (0.5 for an even split), one, or all. ``any`` with ``k`` is the unbiased estimate of pass@k (Chen et al. 2021), the
    probability that one of ``k`` samples is right: 1 - C(n - c, k) / C(n, k); a row with fewer than ``k`` scored samples has none.
    Raises ``ValueError`` for a ``k`` without ``any`` or below 1.
    """
    if k is not None and (how != "any" or k < 1):
        raise ValueError("k is a number of samples from 1 on, and belongs to `any`")
    is_scored = ~np.isnan(scores)
    scored = is_scored.sum(axis=-1)
    right = ((scores >= RIGHT) & is_scored).sum(axis=-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a row without a score is NaN on purpose
        match how:
            case "mean":
                reduced = np.nanmean(scores, axis=-1)
            case "max":
                reduced = np.nanmax(scores, axis=-1)
            case "majority":
                reduced = (np.sign(2 * right - scored) + 1) / 2
            case "all":
                reduced = (right == scored).astype(np.float64)
            case "any" if k is None:
                reduced = (right > 0).astype(np.float64)
            case "any":
                table = _pass_at_k(scores.shape[-1], k or 1)
                reduced = table[scored, right]
    found: NDArray[np.float64] = np.where(scored > 0, reduced, np.nan)
    return found


def _pass_at_k(samples: int, k: int) -> NDArray[np.float64]:
    """Return the estimate by the number of samples and that of the right ones."""
    table = np.full((samples + 1, samples + 1), np.nan)
    for n in range(k, samples + 1):
        for right in range(n + 1):
            table[n, right] = 1 - comb(n - right, k) / comb(n, k)
    return table
