"""The rows of an evaluation run to read first, found in one pass over its answers."""

from __future__ import annotations

import heapq
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from batchkit.datasets.values import text_of
from batchkit.reports.evaluation_headline import brief
from batchkit.reports.rows import rows_of
from batchkit.reports.text import cut

if TYPE_CHECKING:
    from batchkit.engine.runtime import Runner
    from batchkit.evaluation.results import ScoredRow
    from batchkit.models import Workload
    from batchkit.reports.rows import ShownRow

_EXPECTED_BYTES = 400
_MOST_RISES = 100


class WorstRows:
    """At most ``limit`` rows: first those whose score fell, then failed answers, then the lowest scores, and at the end some that rose."""

    def __init__(self, limit: int) -> None:
        self._limit, self._risen_room = limit, min(limit // 5, _MOST_RISES)
        self._worst: list[tuple[Any, int, ScoredRow]] = []
        self._risen: list[tuple[Any, int, ScoredRow]] = []

    def add(self, row: ScoredRow) -> None:
        """Consider a row; a part of the limit is reserved for those that rose."""
        heap, room = (self._risen, self._risen_room) if row.flipped == "up" else (self._worst, self._limit)
        # The first of a heap is its smallest: the best of the worst rows is dropped.
        entry = (_inverted(_rank(row)), -row.seq, replace(row, row={}, answer_text=None))
        if len(heap) < room:
            heapq.heappush(heap, entry)
        elif room:
            heapq.heappushpop(heap, entry)

    def rows(self) -> list[ScoredRow]:
        """Return the rows so far, without their texts."""
        kept = sorted(self._worst, reverse=True)[: self._limit - len(self._risen)]
        return [row for _, _, row in kept + sorted(self._risen, reverse=True)]

    def read(self, runner: Runner, workload: Workload) -> list[ShownRow]:
        """Return the rows with their requests and answers."""
        found = self.rows()
        shown = {row.place - 1: row for row in rows_of(runner, workload, [row.seq for row in found])}
        return [
            replace(
                shown[row.seq],
                scores=tuple(
                    (brief(name), "-" if score is None else f"{score:.4g}") for name, score in row.scores.items()
                ),
                expected=None if row.expected is None else cut(text_of(row.expected), _EXPECTED_BYTES),
                flipped=row.flipped,
            )
            for row in found
            if row.seq in shown
        ]


def _rank(row: ScoredRow) -> tuple[int, float]:
    given = [score for score in row.scores.values() if score is not None]
    mean = sum(given) / len(given) if given else 0.0
    if row.flipped == "down":
        return 0, mean
    return (1, mean) if row.status != "succeeded" else (2, mean)


def _inverted(rank: tuple[int, float]) -> tuple[int, float]:
    return -rank[0], -rank[1]
