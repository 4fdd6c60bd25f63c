"""The scores of a run as arrays, and those of two runs row by row."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from batchkit.evaluation.reducers import reduce_samples
from batchkit.evaluation.scorers import NO_ANSWER, NO_EXPECTED
from batchkit.files import jsonl
from batchkit.store import evaluations

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from sqlalchemy.engine import Connection

    from batchkit.evaluation.scorers import Reduction, ScorerBase
    from batchkit.evaluation.suite import Suite
    from batchkit.store.evaluations import Evaluation

#: At most this many different messages of a scorer are counted.
_MOST_MESSAGES = 1_000
_UNKNOWN = "unknown"
#: In a column with more values, only the most frequent ones are slices.
LARGEST_SLICES = 50


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a run, in order: the key of each (None without a key), and the value of each slice's column.

    ``clusters`` numbers the cluster of each row, None without clusters. ``labels`` and ``contents`` have a number for each row that
    differs when its expected values or its other columns do, None in a run of an earlier version; they are comparable within one
    process.
    """

    keys: list[str | None]
    slices: dict[str, list[str | None]]
    clusters: NDArray[np.int64] | None = None
    labels: NDArray[np.int64] | None = None
    contents: NDArray[np.int64] | None = None


class Unscored:
    """Why answers of one arm have no score, and the messages of the scorer's errors."""

    __slots__ = ("messages", "reasons")

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self.messages: Counter[str] = Counter()

    def add(self, reason: str, detail: str | None) -> None:
        """Count one answer."""
        self.reasons[reason] += 1
        message = detail or reason
        if reason not in {NO_ANSWER, NO_EXPECTED} and (message in self.messages or len(self.messages) < _MOST_MESSAGES):
            self.messages[message] += 1


@dataclass(frozen=True)
class ScoreTable:
    """One scorer's scores of a run: rows x arms x samples. Unscored is NaN.

    ``own`` has the scorer's scores, ``counted`` also the values that the suite gives to failed answers. ``unscored`` has an entry for
    each arm.
    """

    own: NDArray[np.float64]
    counted: NDArray[np.float64]
    unscored: tuple[Unscored, ...] = ()
    reduction: Reduction = "mean"
    k: int | None = None

    @property
    def flat(self) -> NDArray[np.float64]:
        """The scorer's own scores in the order of the requests."""
        return self.own.reshape(-1)

    @cached_property
    def of_rows(self) -> NDArray[np.float64]:
        """One score of each row's samples, rows x arms: the samples of one row are not independent, rows are."""
        return reduce_samples(self.counted, self.reduction, self.k)


def load_rows(connection: Connection, evaluation: Evaluation) -> Rows:
    """Return the rows of a run."""
    keys: list[str | None] = []
    slices: dict[str, list[str | None]] = {}
    clusters: list[int] = []
    numbers: dict[str, int] = {}
    labels: list[int] = []
    contents: list[int] = []
    for row in evaluations.rows_of(connection, evaluation.id):
        keys.append(row.key)
        for column, value in jsonl.loads(row.slices).items():
            slices.setdefault(column, []).append(value)
        if row.cluster is not None:
            clusters.append(numbers.setdefault(row.cluster, len(numbers)))
        if row.labels is not None and row.content is not None:
            labels.append(hash(row.labels))
            contents.append(int.from_bytes(row.content, "big", signed=True))
    return Rows(
        keys,
        slices,
        _whole(clusters, len(keys)),
        _whole(labels, len(keys)),
        _whole(contents, len(keys)),
    )


def _whole(values: Sequence[int], count: int) -> NDArray[np.int64] | None:
    """Return the values of all rows as an array; None if some rows have none."""
    return np.array(values, dtype=np.int64) if count and len(values) == count else None


def load_scores(
    connection: Connection, evaluation: Evaluation, scorer: ScorerBase, rows: int, missing: Literal["zero", "ignore"]
) -> ScoreTable:
    """Return one scorer's scores of a run with ``rows`` rows."""
    arms = len(evaluation.arms)
    shape = (rows, arms, evaluation.samples)
    own, counted = np.full(shape, np.nan), np.full(shape, np.nan)
    flat_own, flat_counted = own.reshape(-1), counted.reshape(-1)
    unscored = tuple(Unscored() for _ in range(arms))
    for score in evaluations.scores_of(connection, evaluation.id, scorer.label):
        if score.score is not None:
            flat_own[score.seq] = flat_counted[score.seq] = score.score
            continue
        unscored[(score.seq // evaluation.samples) % arms].add(score.reason or _UNKNOWN, score.detail)
        if score.reason == NO_ANSWER and missing == "zero":
            flat_counted[score.seq] = 0.0
    return ScoreTable(own, counted, unscored, scorer.reduce, scorer.k)


class Slice(NamedTuple):
    """The rows of a run with one value of a column; ``name`` is ``column=value``."""

    name: str
    column: str
    members: NDArray[np.bool_]


def slices_of(rows: Rows, columns: Sequence[str]) -> Iterator[Slice]:
    """Yield the slices of a run, the largest ones of each column first."""
    for column in columns:
        values = rows.slices.get(column, [])
        frequent = Counter(values).most_common(LARGEST_SLICES)
        for value, _ in sorted(frequent, key=lambda entry: (-entry[1], str(entry[0]))):
            members = np.array([found == value for found in values], dtype=bool)
            yield Slice(f"{column}={'' if value is None else value}", column, members)


class RunScores:
    """A finished run with its rows, its slices and its scores, which are read once."""

    def __init__(self, connection: Connection, evaluation: Evaluation, suite: Suite, rows: Rows) -> None:
        self.connection, self.evaluation, self.suite, self.rows = connection, evaluation, suite, rows
        self.slices = list(slices_of(rows, suite.slices))
        self._tables: dict[str, ScoreTable] = {}

    def table(self, scorer: ScorerBase) -> ScoreTable:
        """Return the scores of a scorer."""
        if scorer.label not in self._tables:
            self._tables[scorer.label] = load_scores(
                self.connection, self.evaluation, scorer, len(self.rows.keys), self.suite.missing
            )
        return self._tables[scorer.label]


class Pairing:
    """Pairs the rows of two runs by key; rows without keys by number, only if the table is the same."""

    def __init__(self, rows: Rows, earlier: Rows, *, is_same_table: bool) -> None:
        places = {key: place for place, key in enumerate(earlier.keys) if key is not None}
        pairs = [(place, places[key]) for place, key in enumerate(rows.keys) if key in places]
        if not places and is_same_table and not any(rows.keys):
            pairs = [(place, place) for place in range(min(len(rows.keys), len(earlier.keys)))]
        self.now = np.array([pair[0] for pair in pairs], dtype=np.int64)
        self.then = np.array([pair[1] for pair in pairs], dtype=np.int64)
        self._clusters = rows.clusters

    def scores(
        self,
        arm: int,
        earlier_arm: int,
        table: ScoreTable,
        earlier: ScoreTable,
        members: NDArray[np.bool_] | None = None,
    ) -> PairedScores:
        """Return the scores before and after of the rows that have both; only of the rows of this run that are ``members``."""
        after, before = table.of_rows[self.now, arm], earlier.of_rows[self.then, earlier_arm]
        both = ~(np.isnan(before) | np.isnan(after))
        if members is not None:
            both &= members[self.now]
        clusters = None if self._clusters is None else self._clusters[self.now][both]
        return PairedScores(before[both], after[both], clusters)

    def moves(
        self, evaluation: Evaluation, previous: Evaluation, table: ScoreTable, earlier: ScoreTable
    ) -> np.ndarray[Any, Any]:
        """Return for each answer, in the order of the requests, how far its row's score changed; 0 without a pair."""
        moved = np.zeros_like(table.of_rows)
        for arm, earlier_arm in shared_arms(evaluation, previous):
            difference = table.of_rows[self.now, arm] - earlier.of_rows[self.then, earlier_arm]
            moved[self.now, arm] = np.nan_to_num(difference)
        return np.repeat(moved[:, :, None], evaluation.samples, axis=2).reshape(-1)


@dataclass(frozen=True, slots=True)
class PairedScores:
    """The scores of the same rows before and after, place by place, and the cluster of each row, None without clusters."""

    before: NDArray[np.float64]
    after: NDArray[np.float64]
    clusters: NDArray[np.int64] | None


def shared_arms(evaluation: Evaluation, previous: Evaluation) -> list[tuple[int, int]]:
    """Return the arms that two runs share, by the prompt's name and the model."""
    known = {(arm.prompt, arm.model): place for place, arm in enumerate(previous.arms)}
    return [
        (place, known[arm.prompt, arm.model])
        for place, arm in enumerate(evaluation.arms)
        if (arm.prompt, arm.model) in known
    ]
