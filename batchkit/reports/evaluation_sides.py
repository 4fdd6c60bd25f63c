"""An evaluation run beside the one it was compared with: whose answers belong to the same row."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from batchkit.evaluation.measure import Pairing, load_rows, load_scores, shared_arms
from batchkit.evaluation.results import find_run, is_run, summary
from batchkit.evaluation.stored_suite import suite_of
from batchkit.reports.evaluation_headline import arm_name, brief
from batchkit.reports.rows import Beside, Former, answer_of, error_text, text_limit
from batchkit.reports.text import cut
from batchkit.store import report_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np

    from batchkit.engine.runtime import Runner
    from batchkit.evaluation.measure import Rows, ScoreTable
    from batchkit.evaluation.results import EvaluationSummary
    from batchkit.evaluation.suite import Suite
    from batchkit.models import Workload
    from batchkit.reports.rows import ShownRow
    from batchkit.store.evaluations import Evaluation
    from batchkit.store.report_rows import ReportRow

#: The largest number of other answers that are shown beside one.
_MOST_BESIDE = 5
_SHORTEST_TEXT_BYTES = 80


@dataclass(frozen=True)
class FormerRun:
    """The run that was compared with. ``workload`` has its answers, None if they were cleaned.

    ``moves`` has for each scorer how far each answer's score changed, in the order of the requests. ``arms`` are the places of the
    arms that both runs have, by their places in the later run, ``rows`` those of the rows.
    """

    name: str
    workload: Workload | None
    evaluation: Evaluation
    moves: dict[str, np.ndarray[Any, Any]]
    arms: dict[int, int]
    rows: dict[int, int]


@dataclass(frozen=True)
class Sides:
    """A run with its scores by scorer, and the run that it was compared with, None without one."""

    evaluation: Evaluation
    suite: Suite
    scores: dict[str, ScoreTable]
    former: FormerRun | None

    def arm_of(self, seq: int) -> int:
        """Return the place of the prompt and model that an answer is of."""
        return (seq // self.evaluation.samples) % len(self.evaluation.arms)

    def former_seq(self, seq: int) -> int | None:
        """Return the place of the former answer to the same row by the same prompt and model; None if there is none."""
        if self.former is None:
            return None
        samples, arms = self.evaluation.samples, len(self.evaluation.arms)
        row, arm = self.former.rows.get(seq // (samples * arms)), self.former.arms.get(self.arm_of(seq))
        then, sample = self.former.evaluation, seq % samples
        if row is None or arm is None or sample >= then.samples:
            return None
        return (row * len(then.arms) + arm) * then.samples + sample

    def fell(self, scorer: str, seq: int) -> bool:
        """Whether the score of an answer's row fell since the run before."""
        return self.former is not None and bool(self.former.moves[scorer][seq] < 0)

    def beside(self, seq: int) -> list[int]:
        """Return the places of the answers of other prompts and models to the same row."""
        samples, arms = self.evaluation.samples, len(self.evaluation.arms)
        first = seq - seq % (samples * arms) + seq % samples
        return [one for one in range(first, first + samples * arms, samples) if one != seq][:_MOST_BESIDE]


def load_sides(runner: Runner, found: EvaluationSummary) -> Sides:
    """Read the scores of a finished run, and of the one that it was compared with."""
    evaluation = find_run(runner, found.run)
    suite = suite_of(evaluation)
    with runner.store.read() as connection:
        rows = load_rows(connection, evaluation)
        scores = {
            scorer.label: load_scores(connection, evaluation, scorer, len(rows.keys), suite.missing)
            for scorer in suite.scorers
        }
    sides = Sides(evaluation, suite, scores, None)
    compared = found.rescored or found.previous
    if compared is None or not is_run(runner, compared):
        return sides
    return replace(sides, former=_former(runner, sides, rows, found, compared))


def _former(runner: Runner, sides: Sides, rows: Rows, found: EvaluationSummary, compared: str) -> FormerRun:
    previous = find_run(runner, compared)
    then = summary(runner, compared)
    with runner.store.read() as connection:
        earlier_rows = load_rows(connection, previous)
        pairing = Pairing(rows, earlier_rows, is_same_table=found.table_digest == then.table_digest)
        moves = {
            scorer.label: pairing.moves(
                sides.evaluation,
                previous,
                sides.scores[scorer.label],
                load_scores(connection, previous, scorer, len(earlier_rows.keys), sides.suite.missing),
            )
            for scorer in sides.suite.scorers
        }
    return FormerRun(
        found.previous or compared,
        runner.known(previous.workload),
        previous,
        moves,
        dict(shared_arms(sides.evaluation, previous)),
        dict(zip(pairing.now.tolist(), pairing.then.tolist(), strict=True)),
    )


def with_context(runner: Runner, sides: Sides, workload: Workload, shown: Sequence[ShownRow]) -> list[ShownRow]:
    """Return rows with the other models' answers, and those whose score changed with their former answers."""
    limit = text_limit(len(shown))
    pairs = {row.place - 1: sides.former_seq(row.place - 1) for row in shown if row.flipped is not None}
    former = sides.former
    earlier: Mapping[int, Former] = {}
    if former is not None and former.workload is not None:
        wanted = [seq for seq in pairs.values() if seq is not None]
        earlier = {
            row.seq: _former_answer(former.name, row, max(limit // 2, _SHORTEST_TEXT_BYTES))
            for row in _read(runner, former.workload, wanted)
        }
    others = {seq for row in shown for seq in sides.beside(row.place - 1)}
    beside = {
        row.seq: _beside(sides, row, max(limit // 8, _SHORTEST_TEXT_BYTES))
        for row in _read(runner, workload, sorted(others))
    }
    return [
        replace(
            row,
            former=earlier.get(-1 if (seq := pairs.get(row.place - 1)) is None else seq),
            beside=tuple(beside[seq] for seq in sides.beside(row.place - 1) if seq in beside),
        )
        for row in shown
    ]


def _read(runner: Runner, workload: Workload, seqs: Sequence[int]) -> Iterator[ReportRow]:
    """Stream requests: each answer may have a megabyte, of which the page shows little."""
    with runner.store.read() as connection:
        yield from report_rows.report_rows(connection, workload.id, seqs)


def _former_answer(run: str, row: ReportRow, limit: int) -> Former:
    return Former(
        brief(run),
        cut(answer_of(row.body), limit),
        cut(error_text(row.status_code, row.error_code, row.error_message), limit),
        None if row.finish_reason is None else brief(row.finish_reason),
        row.prompt_tokens,
        row.completion_tokens,
    )


def _beside(sides: Sides, row: ReportRow, limit: int) -> Beside:
    scores = []
    for label, table in sides.scores.items():
        value = float(table.flat[row.seq])
        scores.append((brief(label), "-" if math.isnan(value) else f"{value:.4g}"))
    error = error_text(row.status_code, row.error_code, row.error_message)
    return Beside(
        arm_name(sides.evaluation.arms[sides.arm_of(row.seq)]), cut(answer_of(row.body) or error, limit), tuple(scores)
    )
