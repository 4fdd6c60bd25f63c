"""Votes on labels that weigh annotators by their errors, learnt from the votes themselves or from labels of people.

Each annotator has a confusion matrix: how often it gives one label for another. It is estimated without any right answer by
expectation maximisation (Dawid & Skene 1979, https://doi.org/10.2307/2346806), or from rows that people labelled. A row's label is
the most probable one given all votes. Everything is computed from the number of times each combination of labels occurs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from batchkit.stats.agreement import Labels

    _Array = NDArray[np.float64]

#: The matrices have the square of this number of cells for each annotator.
MOST_LABELS = 200
#: About 160 MB for each of a few arrays.
_MOST_PROBABILITIES = 20_000_000
_MOST_ROUNDS = 200
_PRECISION = 1e-7
#: Added to each cell, so that a label that an annotator never gave is unlikely and not impossible.
_SMOOTHING = 0.01


class WeightedVote(NamedTuple):
    """The most probable ``label`` and its probability, 0 to 1."""

    label: str
    confidence: float


def dawid_skene(counts: Mapping[Labels, int]) -> dict[Labels, WeightedVote]:
    """Return the vote for each combination of labels that holds one; ``counts`` maps combinations to numbers of rows.

    Raises ``ValueError`` for more than ``MOST_LABELS`` labels, and for too many combinations of them.
    """
    votes = _Votes(counts)
    posterior = votes.shares()
    for _ in range(_MOST_ROUNDS):
        before = posterior
        posterior = votes.posterior(votes.prior(before), votes.confusions(before))
        if not posterior.size or float(np.abs(posterior - before).max()) < _PRECISION:
            break
    return votes.named(posterior)


def weighted_by_gold(
    counts: Mapping[Labels, int], confusions: Sequence[Mapping[tuple[str, str], int]]
) -> dict[Labels, WeightedVote]:
    """Like ``dawid_skene``, with the confusion of each annotator on rows that people labelled: (label by people, label given) to rows."""
    votes = _Votes(counts, extra={label for confusion in confusions for pair in confusion for label in pair})
    tables = np.full((len(confusions), len(votes.names), len(votes.names)), _SMOOTHING)
    prior = np.full(len(votes.names), _SMOOTHING)
    for number, confusion in enumerate(confusions):
        for (gold, given), count in confusion.items():
            tables[number, votes.place[gold], votes.place[given]] += count
            prior[votes.place[gold]] += count
    return votes.named(votes.posterior(prior / prior.sum(), tables / tables.sum(axis=2, keepdims=True)))


class _Votes:
    """Combinations of labels as arrays: one row for each, with 1 where an annotator gave a label."""

    def __init__(self, counts: Mapping[Labels, int], *, extra: set[str] | None = None) -> None:
        self.rows = [row for row in counts if any(label is not None for label in row)]
        self.names = sorted({label for row in self.rows for label in row if label is not None} | (extra or set()))
        if len(self.names) > MOST_LABELS:
            raise ValueError(f"{len(self.names):,} different labels; at most {MOST_LABELS} can be weighted")
        if len(self.rows) * len(self.names) > _MOST_PROBABILITIES:
            raise ValueError(
                f"{len(self.rows):,} different combinations of {len(self.names):,} labels; too many to weigh"
            )
        self.place = {name: number for number, name in enumerate(self.names)}
        self._weights = np.array([counts[row] for row in self.rows], dtype=np.float64)
        raters = len(self.rows[0]) if self.rows else 0
        #: Each annotator's label in each combination, -1 without one.
        self._given = [
            np.array([-1 if row[rater] is None else self.place[row[rater]] for row in self.rows], dtype=np.int64)  # type: ignore[index] # not None
            for rater in range(raters)
        ]

    def shares(self) -> _Array:
        """Return the share of the votes for each label."""
        shares = np.zeros((len(self.rows), len(self.names)))
        for given in self._given:
            voted = np.flatnonzero(given >= 0)
            np.add.at(shares, (voted, given[voted]), 1.0)
        shares /= shares.sum(axis=1, keepdims=True)
        return shares

    def prior(self, posterior: _Array) -> _Array:
        """Return how frequent each label is."""
        totals: _Array = self._weights @ posterior + _SMOOTHING
        totals /= totals.sum()
        return totals

    def confusions(self, posterior: _Array) -> _Array:
        """Return the probability of each given label for each true one, by annotator."""
        size = len(self.names)
        tables = np.full((len(self._given), size, size), _SMOOTHING)
        weighted = posterior * self._weights[:, None]
        for table, given in zip(tables, self._given, strict=True):
            voted = np.flatnonzero(given >= 0)
            np.add.at(table.T, given[voted], weighted[voted])
        tables /= tables.sum(axis=2, keepdims=True)
        return tables

    def posterior(self, prior: _Array, confusions: _Array) -> _Array:
        """Return the probability of each label of each combination, given its votes."""
        logs = np.tile(np.log(prior), (len(self.rows), 1))
        for table, given in zip(np.log(confusions), self._given, strict=True):
            voted = np.flatnonzero(given >= 0)
            logs[voted] += table.T[given[voted]]
        if not logs.size:
            return logs
        likelihood: _Array = np.exp(logs - logs.max(axis=1, keepdims=True))
        likelihood /= likelihood.sum(axis=1, keepdims=True)
        return likelihood

    def named(self, posterior: _Array) -> dict[Labels, WeightedVote]:
        """Return the most probable label of each combination."""
        best = posterior.argmax(axis=1) if posterior.size else []
        return {
            row: WeightedVote(self.names[place], float(posterior[number, place]))
            for number, (row, place) in enumerate(zip(self.rows, best, strict=True))
        }
