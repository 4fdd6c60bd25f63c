"""The scores of a run as arrays, and those of two runs row by row."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from batchkit.evaluation.scorers import NO_ANSWER
from batchkit.files import jsonl
from batchkit.store import evaluations

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sqlalchemy.engine import Connection

    from batchkit.store.evaluations import Evaluation


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a run, in order: the key of each (None without a key), and the value of each slice's column."""

    keys: list[str | None]
    slices: dict[str, list[str | None]]


@dataclass(frozen=True)
class ScoreTable:
    """One scorer's scores of a run: rows x arms x samples. Unscored is NaN.

    ``own`` has the scorer's scores, ``counted`` also the values that the suite gives to failed answers.
    """

    own: NDArray[np.float64]
    counted: NDArray[np.float64]

    @property
    def flat(self) -> NDArray[np.float64]:
        """The scorer's own scores in the order of the requests."""
        return self.own.reshape(-1)

    @cached_property
    def of_rows(self) -> NDArray[np.float64]:
        """The mean of each row's samples, rows x arms: the samples of one row are not independent, rows are."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a row without a score is NaN on purpose
            means: NDArray[np.float64] = np.nanmean(self.counted, axis=2)
        return means


def load_rows(connection: Connection, evaluation: Evaluation) -> Rows:
    """Return the rows of a run."""
    keys: list[str | None] = []
    slices: dict[str, list[str | None]] = {}
    for row in evaluations.rows_of(connection, evaluation.id):
        keys.append(row.key)
        for column, value in jsonl.loads(row.slices).items():
            slices.setdefault(column, []).append(value)
    return Rows(keys, slices)


def load_scores(
    connection: Connection, evaluation: Evaluation, scorer: str, rows: int, missing: Literal["zero", "ignore"]
) -> ScoreTable:
    """Return one scorer's scores of a run with ``rows`` rows."""
    shape = (rows, len(evaluation.arms), evaluation.samples)
    own, counted = np.full(shape, np.nan), np.full(shape, np.nan)
    flat_own, flat_counted = own.reshape(-1), counted.reshape(-1)
    for score in evaluations.scores_of(connection, evaluation.id, scorer):
        if score.score is not None:
            flat_own[score.seq] = flat_counted[score.seq] = score.score
        elif score.reason == NO_ANSWER and missing == "zero":
            flat_counted[score.seq] = 0.0
    return ScoreTable(own, counted)


class Pairing:
    """Pairs the rows of two runs by key; rows without keys by number, only if the table is the same."""

    def __init__(self, rows: Rows, earlier: Rows, *, is_same_table: bool) -> None:
        places = {key: place for place, key in enumerate(earlier.keys) if key is not None}
        pairs = [(place, places[key]) for place, key in enumerate(rows.keys) if key in places]
        if not places and is_same_table and not any(rows.keys):
            pairs = [(place, place) for place in range(min(len(rows.keys), len(earlier.keys)))]
        self.now = np.array([pair[0] for pair in pairs], dtype=np.int64)
        self.then = np.array([pair[1] for pair in pairs], dtype=np.int64)

    def scores(
        self, arm: int, earlier_arm: int, table: ScoreTable, earlier: ScoreTable
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the scores before and after of the rows that have both."""
        after, before = table.of_rows[self.now, arm], earlier.of_rows[self.then, earlier_arm]
        both = ~(np.isnan(before) | np.isnan(after))
        return before[both], after[both]

    def moves(
        self, evaluation: Evaluation, previous: Evaluation, table: ScoreTable, earlier: ScoreTable
    ) -> np.ndarray[Any, Any]:
        """Return for each answer, in the order of the requests, how far its row's score changed; 0 without a pair."""
        moved = np.zeros_like(table.of_rows)
        for arm, earlier_arm in shared_arms(evaluation, previous):
            difference = table.of_rows[self.now, arm] - earlier.of_rows[self.then, earlier_arm]
            moved[self.now, arm] = np.nan_to_num(difference)
        return np.repeat(moved[:, :, None], evaluation.samples, axis=2).reshape(-1)


def shared_arms(evaluation: Evaluation, previous: Evaluation) -> list[tuple[int, int]]:
    """Return the arms that two runs share, by the prompt's name and the model."""
    known = {(arm.prompt, arm.model): place for place, arm in enumerate(previous.arms)}
    return [
        (place, known[arm.prompt, arm.model])
        for place, arm in enumerate(evaluation.arms)
        if (arm.prompt, arm.model) in known
    ]
