"""The judge's workload: the answers of a run as a table with their rows, sent to another model."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from batchkit.annotation.recipe import Recipe
from batchkit.annotation.row_answers import answered_batches, read_row_answers
from batchkit.annotation.skipped import SkippedRow
from batchkit.annotation.workload_from_table import ensure_workload, snapshot_path
from batchkit.datasets import Snapshot, open_table, rows_of
from batchkit.datasets.values import text_of
from batchkit.evaluation.results import JudgeAgreement
from batchkit.evaluation.scorers import (
    JUDGE_COLUMNS,
    JUDGED,
    Score,
    pick,
)
from batchkit.stats.agreement import agreement
from batchkit.stats.intervals import mean_interval
from batchkit.steps.split import SplitOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from batchkit.annotation.request_answer import RequestAnswer
    from batchkit.datasets import Table
    from batchkit.engine.runtime import Runner
    from batchkit.evaluation.scorers import Judge
    from batchkit.models import Workload
    from batchkit.store.evaluations import Evaluation


def workload_name(evaluation: Evaluation, judge: Judge) -> str:
    """Return the name of a judge's workload. That of a derived run is its own: another judge may have judged the run."""
    return f"{evaluation.name if evaluation.derived_from else evaluation.workload}.{judge.label}"


def judged_by(runner: Runner, evaluation: Evaluation, judge: Judge) -> Workload | None:
    """Return the judge's workload, None if nothing was judged; a derived run has that of the run unless it has one of its own."""
    own = runner.known(workload_name(evaluation, judge))
    if own is not None or evaluation.derived_from is None:
        return own
    return runner.known(f"{evaluation.workload}.{judge.label}")


def within_run(evaluation: Evaluation, options: SplitOptions | None) -> SplitOptions:
    """Return options with which a run reuses only its own answers: with those of another run it would compare a run with itself."""
    return replace(options or SplitOptions(), reuse_scope=f"run {evaluation.workload}")


def ensure_judge_workload(
    runner: Runner, evaluation: Evaluation, judge: Judge, options: SplitOptions | None
) -> Workload | None:
    """Make sure that the judge's workload for a finished workload exists; None if there is nothing to judge.

    Raises as ``ensure_workload``.
    """
    name = workload_name(evaluation, judge)
    existing = runner.known(name)
    if existing is not None and existing.request_count is not None:
        return existing
    main = runner.find(evaluation.workload)
    with runner.scratch() as scratch:
        path = scratch / "judged.arrows"
        if not _write_table(runner, main, judge, path):
            return None
        table = open_table([str(path)])
        recipe = judge_recipe(judge, table=f"the answers of {main.name}", table_digest=table.digest())
        return ensure_workload(runner, table, recipe, name=name, options=within_run(evaluation, options))


def judge_recipe(judge: Judge, *, table: str = "", table_digest: str = "") -> Recipe:
    """Return the recipe of a judge's requests."""
    return Recipe(
        kind="evaluate",
        prompts=(judge.prompt.named(judge.label),),
        models=(judge.model,),
        key=JUDGED,
        parameters=judge.parameters,
        rules=judge.answers.rules(),
        table=table,
        table_digest=table_digest,
    )


class Judgements:
    """The judgements of a judge, requested in the order of the judged requests."""

    def __init__(self, runner: Runner, evaluation: Evaluation, judge: Judge) -> None:
        self._judge = judge
        workload = judged_by(runner, evaluation, judge)
        self._left = _judgements(runner, workload, "a") if workload is not None else iter(())
        self._next = next(self._left, None)

    def score(self, seq: int) -> Score | None:
        """Return the judge's score of the answer to a request; None if it was not judged."""
        while self._next is not None and self._next[0] < seq:
            self._next = next(self._left, None)
        if self._next is None or self._next[0] != seq:
            return None
        return self._judge.score_of(self._next[2])


def agreement_with_people(runner: Runner, evaluation: Evaluation, judge: Judge) -> JudgeAgreement | None:
    """Compare the judge with people who labelled a sample; None without a sample."""
    workload = judged_by(runner, evaluation, judge)
    if judge.human is None or workload is None:
        return None
    pairs = [
        (text_of(row[judge.human.label]).strip(), label)
        for _, row, answer in _judgements(runner, workload, "h")
        if (label := judge.label_text(answer)) is not None
    ]
    interval = mean_interval([float(label == judged) for label, judged in pairs])
    if interval is None:
        return None
    cohen = agreement(pairs).cohen[0, 1]
    return JudgeAgreement(
        judge.label, len(pairs), interval.mean, interval.low, interval.high, cohen.value, cohen.reason
    )


def _judgements(runner: Runner, workload: Workload, mark: str) -> Iterator[tuple[int, dict[str, Any], RequestAnswer]]:
    for answered in read_row_answers(runner, workload):
        name = answered.row[JUDGED]
        if name[0] == mark:
            yield int(name[1:]), answered.row, answered.answers[0]
        elif mark == "h":
            return  # they precede all others


def _write_table(runner: Runner, main: Workload, judge: Judge, path: Any) -> int:
    """Write the answers to judge with their rows, the sample of people first; returns the number of rows."""
    import pyarrow as pa  # noqa: PLC0415 - only where there is a judge

    source = Snapshot.open(snapshot_path(runner, main))
    schema = pa.schema([*source.schema, *((name, pa.string()) for name in JUDGE_COLUMNS)], source.schema.metadata)
    written = 0
    with Snapshot.writer(path, schema) as writer:
        for batch, judged in chain(_labelled(source, judge), _answers(runner, main, judge)):
            if judged:
                rows = batch.take(pa.array([one.place for one in judged], pa.int64()))
                own = [pa.array(texts, pa.string()) for texts in zip(*(one.texts for one in judged), strict=True)]
                writer.write(pa.RecordBatch.from_arrays([*rows.columns, *own], schema=schema))
                written += len(judged)
    return written


class _Judged(NamedTuple):
    """A text to judge: the place of its row in a batch, and its ``JUDGE_COLUMNS``."""

    place: int
    texts: tuple[str, str, str, str]


def _labelled(source: Table, judge: Judge) -> Iterator[tuple[pa.RecordBatch, list[_Judged]]]:
    human = judge.human
    if human is None:
        return
    number = 0
    for batch in source.batches():
        judged = []
        for place, row in enumerate(rows_of(batch.select([human.answer, human.label]))):
            number += 1
            answer = text_of(row[human.answer])
            if answer and text_of(row[human.label]):
                judged.append(_Judged(place, (f"h{number}", answer, "", "")))
        yield batch, judged


def _answers(runner: Runner, main: Workload, judge: Judge) -> Iterator[tuple[pa.RecordBatch, list[_Judged]]]:
    for batch, answers in answered_batches(runner, main):
        rows = rows_of(batch)
        judged = [
            _Judged(place, (f"a{answer.seq}", text, answer.model, answer.prompt))
            for place, of_row in enumerate(answers)
            if not isinstance(of_row, SkippedRow) and judge.is_judgeable(rows[place])
            for answer in of_row
            if (text := _judged_text(answer, judge)) is not None
        ]
        yield batch, judged


def _judged_text(answer: RequestAnswer, judge: Judge) -> str | None:
    if answer.status != "succeeded" or answer.value is None:
        return None
    if judge.field is None:
        return text_of(answer.value)
    found = pick(answer.value, judge.field)
    return text_of(found.value) if found.exists else None
