"""A random part of a table's rows, as many of each combination of slices as they are frequent."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from batchkit.datasets import rows_of
from batchkit.datasets.table import Table
from batchkit.datasets.values import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from batchkit.evaluation.suite import Suite


def chosen_rows(table: Table, suite: Suite) -> Table:
    """Return the rows of a table that a suite asks about, all of them if it does not say otherwise."""
    dataset = suite.dataset
    if dataset.subset is None:
        return table
    taken = table if dataset.limit is None else table.head(dataset.limit)
    return Subset(taken, suite.slices, dataset.subset, dataset.subset_seed)


class Subset(Table):
    """``count`` rows of a table in their order, chosen at random by ``seed``, the same ones each time."""

    def __init__(self, table: Table, slices: Sequence[str], count: int, seed: int) -> None:
        super().__init__(table.name)
        self._table, self._slices, self._count, self._seed = table, tuple(slices), count, seed
        self._kept: NDArray[np.int64] | None = None

    def _find_schema(self) -> pa.Schema:
        return self._table.schema

    def _read(self, rows: int) -> Iterator[pa.RecordBatch]:
        if self._kept is None:
            self._kept = chosen_places(_strata(self._table, self._slices), self._count, self._seed)
        first = 0
        for batch in self._table.batches(rows=rows):
            begin, end = np.searchsorted(self._kept, (first, first + len(batch)))
            if end > begin:
                yield batch.take((self._kept[begin:end] - first).tolist())
            first += len(batch)

    def _content_digest(self) -> str:
        chosen = f"{self._table.digest()}:subset:{self._count}:{self._seed}:{','.join(self._slices)}"
        return hashlib.sha256(chosen.encode()).hexdigest()


def chosen_places(strata: Sequence[int] | NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Return ``count`` places of rows in their order, of each stratum in proportion to its size; all if there are no more.

    What is left by rounding goes to the strata with the largest remainders.
    """
    numbered = np.asarray(strata, dtype=np.int64)
    if count >= numbered.size:
        return np.arange(numbered.size, dtype=np.int64)
    random = np.random.default_rng(seed)
    sizes = np.bincount(numbered)
    shares = sizes * (count / numbered.size)
    quotas = np.floor(shares).astype(np.int64)
    for stratum in np.argsort(quotas - shares, kind="stable")[: count - int(quotas.sum())]:
        quotas[stratum] += 1
    kept = [
        random.choice(np.flatnonzero(numbered == stratum), size=quota, replace=False)
        for stratum, quota in enumerate(quotas)
        if quota
    ]
    return np.sort(np.concatenate(kept))


def _strata(table: Table, slices: Sequence[str]) -> NDArray[np.int64]:
    """Number the combination of slices of each row."""
    numbers: dict[tuple[str, ...], int] = {}
    found: list[int] = []
    for batch in table.batches():
        if not slices:
            found += [0] * len(batch)
            continue
        for row in rows_of(batch.select(list(slices))):
            name = tuple("" if row[column] is None else text_of(row[column]) for column in slices)
            found.append(numbers.setdefault(name, len(numbers)))
    return np.array(found, dtype=np.int64)
