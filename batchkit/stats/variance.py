"""Several samples of a row: how much of the spread lies within rows, and what more samples would buy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class SampleSpread(NamedTuple):
    """The spread of the scores of rows with several samples. Rows without a score are left out.

    ``samples`` is the mean number of scored samples of a row. ``mean`` is the mean of the rows' means. ``within`` is the variance
    of the samples of one row, ``between`` that of the true means of the rows. ``error`` is the standard error of the mean as it
    is, ``error_doubled`` with twice as many samples of each row, ``error_unlimited`` with any number of them: what remains can
    only be lowered by more rows.

    ``within``, ``between`` and the two expected errors are None where no row has two samples, and with a single row, where
    ``error`` is None too.
    """

    rows: int
    samples: float
    mean: float
    within: float | None
    between: float | None
    error: float | None
    error_doubled: float | None
    error_unlimited: float | None


def sample_spread(scores: Sequence[Sequence[float]] | NDArray[np.float64]) -> SampleSpread | None:
    """Split the spread of ``scores``, rows x samples with NaN where there is no score; None without any score.

    Raises ``ValueError`` for another shape and for infinite scores.
    """
    table = np.asarray(scores, dtype=np.float64)
    if not table.size:
        return None
    if table.ndim != 2:  # noqa: PLR2004 - rows and samples
        raise ValueError("scores must be a table of rows and samples")
    if np.isinf(table).any():
        raise ValueError("scores must be finite numbers, or NaN where there is none")
    is_scored = ~np.isnan(table)
    counts = is_scored.sum(axis=1)
    table, is_scored, counts = table[counts > 0], is_scored[counts > 0], counts[counts > 0]
    rows = counts.size
    if not rows:
        return None
    filled = np.where(is_scored, table, 0.0)
    means = filled.sum(axis=1) / counts
    spare = int((counts - 1).sum())
    within = float((np.where(is_scored, table - means[:, None], 0.0) ** 2).sum()) / spare if spare else None
    samples, mean = float(counts.mean()), float(means.mean())
    if rows < 2:  # noqa: PLR2004 - one row has no spread between rows
        return SampleSpread(rows, samples, mean, within, None, None, None, None)
    of_means = float(means.var(ddof=1))
    error = math.sqrt(of_means / rows)
    if within is None:
        return SampleSpread(rows, samples, mean, None, None, error, None, None)
    # The part of the spread of the rows' means that comes from having so few samples of each.
    by_sampling = within * float((1 / counts).mean())
    between = max(of_means - by_sampling, 0.0)
    # Where chance made the means closer than their samples allow, more samples promise nothing that can be measured.
    doubled = min(math.sqrt((between + by_sampling / 2) / rows), error)
    return SampleSpread(rows, samples, mean, within, between, error, doubled, math.sqrt(between / rows))
