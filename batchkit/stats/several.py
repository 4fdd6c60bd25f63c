"""Several models or prompts of one run over the same rows, each compared with each."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from batchkit.stats.paired import PairedComparison, compare_pairs, holm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.stats.clusters import Clusters, Values


class ColumnComparison(NamedTuple):
    """Two columns, numbered from 0: ``comparison`` has ``first`` as before and ``second`` as after.

    ``p_value`` is two-sided and corrected (Holm) for all comparisons that were made together.
    """

    first: int
    second: int
    comparison: PairedComparison
    p_value: float


def compare_all(columns: Sequence[Values], clusters: Clusters | None = None) -> tuple[ColumnComparison, ...]:
    """Compare every two of several columns of scores of the same rows; NaN is a row without a score.

    Two columns are compared over the rows that both have; two without such a row are left out. ``clusters`` has one whole number
    for each row. Raises ``ValueError`` for columns of different length.
    """
    arrays = [np.asarray(column, dtype=np.float64) for column in columns]
    numbered = None if clusters is None else np.asarray(clusters)
    if len({array.shape for array in arrays}) > 1:
        raise ValueError("the columns must have the same length")
    if numbered is not None and arrays and numbered.shape != arrays[0].shape:
        raise ValueError("clusters and scores must have the same length")
    found = []
    for first, second in combinations(range(len(arrays)), 2):
        both = ~(np.isnan(arrays[first]) | np.isnan(arrays[second]))
        members = None if numbered is None else numbered[both]
        comparison = compare_pairs(arrays[first][both], arrays[second][both], members)
        if comparison is not None:
            found.append((first, second, comparison))
    corrected = holm([comparison.p_value for *_, comparison in found])
    return tuple(ColumnComparison(*entry, p_value) for entry, p_value in zip(found, corrected, strict=True))
