"""Scores a run: every answer by every scorer, streamed. Existing scores are kept, so it can be repeated."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from batchkit.annotation.row_answers import read_row_answers
from batchkit.datasets.values import text_of
from batchkit.evaluation.confusion import Confusion, confusion
from batchkit.evaluation.judge_figures import JudgeFigures
from batchkit.evaluation.judging import Judgements
from batchkit.evaluation.scorers import (
    DETAIL_CHARACTERS,
    NO_ANSWER,
    SCORER_ERROR,
    AnswerLetter,
    ChoiceScorer,
    Judge,
    Score,
)
from batchkit.files import jsonl
from batchkit.store import evaluations
from batchkit.store.evaluations import RowOf, ScoreOf

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    #: Scores an answer to a row, by the label under which each score is kept.
    ScoreRowAnswer = Callable[["RowAnswers", "RequestAnswer"], Mapping[str, Score]]

    from batchkit.annotation.request_answer import RequestAnswer
    from batchkit.annotation.row_answers import RowAnswers
    from batchkit.engine.runtime import Runner
    from batchkit.evaluation.scorers import ScorerBase
    from batchkit.evaluation.suite import Suite
    from batchkit.store.evaluations import Evaluation

_ROWS_PER_COMMIT = 500
#: Of one arm, at most so many different pairs of an expected and an answered label are counted; the answers of others have no label.
_MOST_PAIRS = 2_000
_LABEL_CHARACTERS = 80


class Scored(NamedTuple):
    """The result of scoring: the number of failed answers, confusion matrices by scorer and arm (by prompt and model), and the judges."""

    failed: int
    confusions: dict[tuple[str, str, str], Confusion]
    judges: JudgeFigures


class _Labels:
    """Counts pairs of an expected and an answered label for each scorer of choices or letters and arm."""

    def __init__(self, suite: Suite) -> None:
        self._suite = suite
        self._scorers = [scorer for scorer in suite.scorers if isinstance(scorer, ChoiceScorer | AnswerLetter)]
        self._pairs: dict[tuple[str, str, str], Counter[tuple[str, str | None]]] = {}

    def add(self, row: Mapping[str, Any], answer: RequestAnswer, scores: Mapping[str, Score]) -> None:
        """Count an answer, if the scorer could score it; a failed one has no label."""
        for scorer in self._scorers:
            score = scores[scorer.label]
            if score.value is None and score.reason != NO_ANSWER:
                continue
            expected, answered = map(_label, scorer.labels(row, answer, self._suite.expected, score))
            if expected is None:
                continue
            pairs = self._pairs.setdefault((scorer.label, answer.prompt, answer.model), Counter())
            pair = (expected, answered)
            pairs[pair if pair in pairs or len(pairs) < _MOST_PAIRS else (expected, None)] += 1

    def confusions(self) -> dict[tuple[str, str, str], Confusion]:
        """Return the matrices."""
        return {
            arm: confusion(
                [expected for (expected, _), count in pairs.items() for _ in range(count)],
                [answered for (_, answered), count in pairs.items() for _ in range(count)],
            )
            for arm, pairs in self._pairs.items()
        }


def _label(text: str | None) -> str | None:
    return None if text is None else (jsonl.storable_text(text) or "")[:_LABEL_CHARACTERS]


def score_answers(
    runner: Runner,
    evaluation: Evaluation,
    suite: Suite,
    *,
    relabelled: Mapping[str, Mapping[str, Any]] | None = None,
    advance: Callable[[int], None] = lambda _rows: None,
) -> Scored:
    """Write the scores of a run whose workloads are finished.

    ``relabelled`` has other expected values for some rows: for the text of a row's key the columns that differ. ``advance`` gets the
    number of further scored rows. Raises ``ConfigurationError`` for a function that cannot be imported.
    """
    cluster = suite.dataset.cluster
    judges = {judge.label: Judgements(runner, evaluation, judge, cluster=cluster) for judge in suite.judges}
    scorers: dict[str, ScoreRowAnswer] = {
        scorer.label: judges[scorer.label].scores if isinstance(scorer, Judge) else _scores_by(scorer, suite.expected)
        for scorer in suite.scorers
    }
    rows = read_row_answers(runner, runner.find(evaluation.workload))
    failed = 0
    labels = _Labels(suite)
    key = suite.dataset.key
    while chunk := list(islice(rows, _ROWS_PER_COMMIT)):
        if relabelled and key is not None:
            for row in chunk:
                row.row.update(relabelled.get(_text(row.row.get(key)) or "", {}))
        failed += sum(answer.status != "succeeded" for row in chunk for answer in row.answers)
        # Before the transaction: a user's function may be slow.
        found: list[ScoreOf] = []
        for row in chunk:
            for answer in row.answers:
                scores: dict[str, Score] = {}
                for label, score in scorers.items():
                    scores |= _scored(label, score, row, answer)
                labels.add(row.row, answer, scores)
                found += [ScoreOf(label, answer.seq, *_stored(score)) for label, score in scores.items()]
        with runner.store.write() as connection:
            evaluations.add_rows(connection, evaluation.id, [_row(row, suite) for row in chunk])
            evaluations.add_scores(connection, evaluation.id, found)
        advance(len(chunk))
    found_judges = sum((judgements.figures() for judgements in judges.values()), JudgeFigures())
    return Scored(failed, labels.confusions(), found_judges)


def _scores_by(scorer: ScorerBase, expected: str | None) -> ScoreRowAnswer:
    score = scorer.prepared()
    return lambda row, answer: {scorer.label: score(row.row, answer, expected)}


def _scored(label: str, score: ScoreRowAnswer, row: RowAnswers, answer: RequestAnswer) -> Mapping[str, Score]:
    try:
        return score(row, answer)
    except Exception as error:  # noqa: BLE001 - no value of one row may end the scoring of the others
        return {label: Score(None, SCORER_ERROR, f"{type(error).__name__}: {error}"[:DETAIL_CHARACTERS])}


def _stored(score: Score) -> tuple[float | None, str | None, str | None]:
    return score.value, score.reason, jsonl.storable_text(score.detail)


def _row(row: RowAnswers, suite: Suite) -> RowOf:
    values = row.row
    # Rescored rows are those of an earlier suite, which may have named other columns.
    key = None if suite.dataset.key is None else _text(values.get(suite.dataset.key))
    cluster = None if suite.dataset.cluster is None else _text(values.get(suite.dataset.cluster))
    slices = {column: _text(values.get(column)) for column in suite.slices}
    asked = {column: _text(value) for column, value in values.items() if column not in suite.label_columns}
    return RowOf(
        number=row.number,
        key=key,
        slices=jsonl.dumps(slices).decode(),
        cluster=cluster,
        labels=labels_text(values, suite),
        content=hashlib.blake2b(jsonl.dumps(asked), digest_size=8).digest(),
    )


def labels_text(row: Mapping[str, Any], suite: Suite) -> str:
    """Return the texts of a row's expected values as a JSON object, by column."""
    return jsonl.dumps({column: _text(row.get(column)) for column in suite.label_columns}).decode()


def _text(value: Any) -> str | None:
    return None if value is None else jsonl.storable_text(text_of(value)) or ""
