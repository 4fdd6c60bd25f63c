"""The result of a run, for reports and scripts. A finished run's summary is written once and never changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import TypeAdapter

from batchkit.annotation.row_answers import read_row_answers
from batchkit.datasets.values import text_of
from batchkit.errors import UnknownWorkload
from batchkit.evaluation.measure import Pairing, ScoreTable, load_rows, load_scores
from batchkit.evaluation.suite import Suite
from batchkit.store import evaluations

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from batchkit.annotation.row_answers import RequestAnswer
    from batchkit.engine.runtime import Runner
    from batchkit.store.evaluations import Evaluation


@dataclass(frozen=True, slots=True)
class Metric:
    """The mean of a scorer over rows, for one prompt and model; a row with several samples counts once, with their mean.

    ``slice`` is ``column=value``, None for all rows. ``count`` is the number of rows in the mean. ``unscored`` is the number of answers
    without a score of their own (failed answers, which count as 0 unless the suite ignores them; rows without an expected value;
    scorer errors). ``low`` and ``high`` are bounds by ``method``.
    """

    scorer: str
    prompt: str
    model: str
    slice: str | None
    count: int
    mean: float
    low: float
    high: float
    method: str
    unscored: int


@dataclass(frozen=True, slots=True)
class Change:
    """A metric compared with that of the previous run, over the rows of both.

    ``low`` and ``high`` bound ``difference`` (after minus before) with 95 % confidence. ``p_value`` is two-sided. ``fall_p_value``,
    for metrics with an alarm, is one-sided, for a fall, and corrected (Holm) for all alarms of the suite; ``threshold`` is that
    alarm's ``fall``. ``flipped_down`` and ``flipped_up`` count the rows whose score changed.
    """

    scorer: str
    prompt: str
    model: str
    before: float
    after: float
    difference: float
    low: float
    high: float
    p_value: float
    method: str
    pairs: int
    is_alarm: bool
    threshold: float | None
    flipped_down: int
    flipped_up: int
    fall_p_value: float | None = None


@dataclass(frozen=True, slots=True)
class JudgeAgreement:
    """The agreement of a judge with people on the same answers: the share of equal labels in ``rows``, and Cohen's kappa.

    ``kappa`` is None, with a ``reason``, where it is undefined.
    """

    scorer: str
    rows: int
    same: float
    low: float
    high: float
    kappa: float | None
    reason: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class EvaluationSummary:
    """The result of a run. Times are Unix seconds; ``previous`` is the run it was compared with. ``notes`` are for people."""

    suite: str
    run: str
    previous: str | None
    suite_version: str
    workload_names: tuple[str, ...]
    started_at: float
    finished_at: float | None
    metrics: tuple[Metric, ...]
    changes: tuple[Change, ...]
    judge_agreement: tuple[JudgeAgreement, ...]
    verdict: Literal["passed", "regressed", "unfinished"]
    failed_answers: int = 0
    table_digest: str = ""
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.run}: {self.verdict}, {len(self.metrics)} metrics>"


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """An answer with its scores; ``flipped`` is the direction of the first score that changed since the previous run."""

    custom_id: str
    seq: int
    row: dict[str, Any]
    prompt: str
    model: str
    sample: int
    answer_text: str | None
    expected: Any
    scores: dict[str, float | None]
    status: str
    error: str | None
    flipped: Literal["down", "up"] | None


SUMMARY: TypeAdapter[EvaluationSummary] = TypeAdapter(EvaluationSummary)


def find_run(runner: Runner, name: str) -> Evaluation:
    """Return a run by its name. Raises ``UnknownWorkload``."""
    with runner.store.read() as connection:
        found = evaluations.find(connection, name)
    if found is None:
        raise UnknownWorkload(
            f"there is no evaluation {name!r} in {runner.store.display_url}", hint="evaluations are named SUITE-NUMBER"
        )
    return found


def is_run(runner: Runner, name: str) -> bool:
    """Whether an evaluation has this name."""
    with runner.store.read() as connection:
        return evaluations.find(connection, name) is not None


def summary(runner: Runner, run_name: str) -> EvaluationSummary:
    """Return the result of a run; an unfinished one has no metrics. Raises ``UnknownWorkload``."""
    evaluation = find_run(runner, run_name)
    if evaluation.summary is not None:
        return SUMMARY.validate_json(evaluation.summary)
    return EvaluationSummary(
        suite=evaluation.suite,
        run=evaluation.name,
        previous=None,
        suite_version=evaluation.suite_version,
        workload_names=(evaluation.workload,),
        started_at=evaluation.started_at,
        finished_at=None,
        metrics=(),
        changes=(),
        judge_agreement=(),
        verdict="unfinished",
    )


def scored_rows(runner: Runner, run_name: str) -> Iterator[ScoredRow]:
    """Stream a run's answers with their scores, in the order of the requests.

    The scores of the run and of the previous one are held in memory: eight bytes each. Raises ``UnknownWorkload``, also if the workload
    with the answers was cleaned.
    """
    evaluation = find_run(runner, run_name)
    found = summary(runner, run_name)
    suite = Suite.model_validate_json(evaluation.definition)
    labels = [scorer.label for scorer in suite.scorers]
    with runner.store.read() as connection:
        rows = load_rows(connection, evaluation)
        tables = {label: load_scores(connection, evaluation, label, len(rows.keys), suite.missing) for label in labels}
    moves = _moves(runner, evaluation, found, tables, suite)
    for answered in read_row_answers(runner, runner.find(evaluation.workload)):
        for answer in answered.answers:
            yield _scored(suite, answered.row, answer, tables, moves)


def _scored(
    suite: Suite,
    row: dict[str, Any],
    answer: RequestAnswer,
    tables: Mapping[str, ScoreTable],
    moves: Mapping[str, np.ndarray[Any, Any]],
) -> ScoredRow:
    scores: dict[str, float | None] = {}
    for label, table in tables.items():
        value = table.flat[answer.seq] if answer.seq < table.flat.size else np.nan
        scores[label] = None if np.isnan(value) else float(value)
    moved = next((float(move.flat[answer.seq]) for move in moves.values() if move.flat[answer.seq]), 0.0)
    column = suite.expected or next((scorer.expected for scorer in suite.scorers if scorer.expected), None)
    failed = (
        None if answer.status == "succeeded" else ": ".join(filter(None, (answer.error_code, answer.error_message)))
    )
    return ScoredRow(
        custom_id=answer.custom_id,
        seq=answer.seq,
        row=row,
        prompt=answer.prompt,
        model=answer.model,
        sample=answer.sample,
        answer_text=answer.text if answer.text is not None or answer.value is None else text_of(answer.value),
        expected=None if column is None else row.get(column),
        scores=scores,
        status=answer.status,
        error=failed,
        flipped=None if not moved else "down" if moved < 0 else "up",
    )


def _moves(
    runner: Runner, evaluation: Evaluation, found: EvaluationSummary, tables: Mapping[str, ScoreTable], suite: Suite
) -> dict[str, np.ndarray[Any, Any]]:
    """Return for each scorer how far each answer's score changed; 0 without a comparison."""
    if found.previous is None or not is_run(runner, found.previous):
        return {}
    previous = find_run(runner, found.previous)
    then = summary(runner, previous.name)
    with runner.store.read() as connection:
        rows, earlier_rows = load_rows(connection, evaluation), load_rows(connection, previous)
        pairing = Pairing(rows, earlier_rows, is_same_table=found.table_digest == then.table_digest)
        return {
            label: pairing.moves(
                evaluation,
                previous,
                table,
                load_scores(connection, previous, label, len(earlier_rows.keys), suite.missing),
            )
            for label, table in tables.items()
        }
