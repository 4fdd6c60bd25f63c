"""The judge's workload: the answers of a run as a table with their rows, sent to other models."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from batchkit.annotation.recipe import Recipe
from batchkit.annotation.row_answers import read_row_answers
from batchkit.annotation.workload_from_table import ensure_workload
from batchkit.datasets import open_table
from batchkit.datasets.values import text_of
from batchkit.evaluation.judge_figures import JudgeCounts, JudgeFigures
from batchkit.evaluation.judged_table import (
    LABELLED,
    SHOWN_FIRST,
    SHOWN_SECOND,
    judged_text,
    opponent_text,
    write_judged,
)
from batchkit.evaluation.scorers import JUDGED, NO_ANSWER, NO_EXPECTED, SCORER_ERROR, Score
from batchkit.evaluation.scorers.judge import FAILED, combined
from batchkit.models import OnLate
from batchkit.steps.split import SplitOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from batchkit.annotation.request_answer import RequestAnswer
    from batchkit.annotation.row_answers import RowAnswers
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
    chosen = within_run(evaluation, options)
    if evaluation.derived_from is None:
        # A run and its judges have one budget; a later scoring has one of its own.
        chosen = replace(chosen, budget_of=main.id)
    with runner.scratch() as scratch:
        path = scratch / "judged.arrows"
        if not write_judged(runner, main, judge, path):
            return None
        table = open_table([str(path)])
        recipe = judge_recipe(judge, table=f"the answers of {main.name}", table_digest=table.digest())
        return ensure_workload(runner, table, recipe, name=name, options=_with_deadline_of(main, chosen))


def _with_deadline_of(main: Workload, options: SplitOptions) -> SplitOptions:
    """Return options with the deadline of the run, which began with its answers: too late to be refused."""
    if main.deadline is None:
        return replace(options, deadline=None, within_seconds=None, late=None)
    late = OnLate.STOP if main.stops_late else OnLate.FINISH
    return replace(options, deadline=main.deadline, within_seconds=None, late=late, refuses_impossible=False)


def judge_recipe(judge: Judge, *, table: str = "", table_digest: str = "") -> Recipe:
    """Return the recipe of a judge's requests: for each row of its table one to each of its models."""
    return Recipe(
        kind="evaluate",
        prompts=(judge.prompt.named(judge.label),),
        models=judge.models,
        key=JUDGED,
        parameters=judge.parameters,
        rules=judge.answers.rules(),
        table=table,
        table_digest=table_digest,
    )


class _Judgement(NamedTuple):
    """A row of a judge's table: its letter and number (see ``judged_table``), and the answers of the models that judge."""

    mark: str
    number: int
    row: dict[str, Any]
    answers: tuple[RequestAnswer, ...]


class Judgements:
    """The scores of a judge for the answers of a run, requested in the order of these, and what they show about the judge itself."""

    def __init__(self, runner: Runner, evaluation: Evaluation, judge: Judge, *, cluster: str | None) -> None:
        """Read the sample of people. ``cluster`` is the column that says which rows belong together."""
        self._judge = judge
        self._cluster = cluster
        self._counts = JudgeCounts(judge)
        workload = judged_by(runner, evaluation, judge)
        judgements = _judgements(runner, workload) if workload is not None else iter(())
        self._left = groupby(judgements, key=lambda one: one.number if one.mark != LABELLED else -one.number)
        self._next = self._following()
        while self._next is not None and self._next[0].mark == LABELLED:
            self._count_labelled(self._next[0])
            self._next = self._following()

    def scores(self, row: RowAnswers, answer: RequestAnswer) -> dict[str, Score]:
        """Return the score of an answer, and beside it those of each of several judges; none for an answer that is only compared with."""
        judge = self._judge
        if not judge.concerns(answer.prompt, answer.model):
            return {}
        if not judge.is_judgeable(row.row):
            return {judge.label: Score(None, NO_EXPECTED)}
        judgements = self._of(answer.seq)
        if judgements is None:
            return {judge.label: self._unjudged(row, answer)}
        if (column := self._changed(row.row, judgements[0].row)) is not None:
            return {judge.label: Score(None, SCORER_ERROR, f"{FAILED}asked with another text in {column}")}
        given = self._given(row, judgements)
        if judge.model is not None:
            return given
        names = (label.removeprefix(f"{judge.label}:") for label in given)
        return {judge.label: combined(dict(zip(names, given.values(), strict=True)), judge.combine), **given}

    def figures(self) -> JudgeFigures:
        """Return what the judgements so far show: agreement with people and between judges, and the bias for a place."""
        return self._counts.figures()

    def _following(self) -> tuple[_Judgement, ...] | None:
        group = next(self._left, None)
        return None if group is None else tuple(group[1])

    def _of(self, seq: int) -> tuple[_Judgement, ...] | None:
        while self._next is not None and self._next[0].number < seq:
            self._next = self._following()
        return self._next if self._next is not None and self._next[0].number == seq else None

    def _changed(self, row: Mapping[str, Any], judged: Mapping[str, Any]) -> str | None:
        """Return the column that the judge compared with, if it holds another text today."""
        judge = self._judge
        compared = (
            judge.expected if judge.template is not None else None,
            judge.against.column if judge.against is not None else None,
        )
        return next((name for name in compared if name and text_of(row.get(name)) != text_of(judged.get(name))), None)

    def _count_labelled(self, judgement: _Judgement) -> None:
        if self._judge.human is not None:
            label = text_of(judgement.row[self._judge.human.label]).strip()
            self._counts.add_labelled(label, [self._judge.label_text(answer) for answer in judgement.answers])

    def _given(self, row: RowAnswers, judgements: Sequence[_Judgement]) -> dict[str, Score]:
        """Return the score of each judge by its label."""
        judge = self._judge
        if judge.against is None:
            (alone,) = judgements
            found = [judge.score_of(one) for one in alone.answers]
            self._counts.add(found, [judge.label_text(one) for one in alone.answers])
        else:
            of_mark = {one.mark: one.answers for one in judgements}
            both = list(zip(of_mark[SHOWN_FIRST], of_mark[SHOWN_SECOND], strict=True))
            found = [judge.score_of_pair(*orders) for orders in both]
            together = row.number if self._cluster is None else text_of(row.row[self._cluster])
            self._counts.add_pairs(found, [judge.pair_of(*orders) for orders in both], together)
        return dict(zip(judge.labels_of_judges, found, strict=True))

    def _unjudged(self, row: RowAnswers, answer: RequestAnswer) -> Score:
        """Return the score of an answer that needed no judge, or why it has none."""
        judge = self._judge
        if answer.status != "succeeded":
            return Score(None, NO_ANSWER, answer.error_code or answer.status)
        text = judged_text(answer, judge)
        if text is None:
            return Score(0.0, None, f"the answer has no {judge.field}" if judge.field else "the answer is null")
        if judge.against is None:
            return Score(None, SCORER_ERROR, f"{FAILED}not asked about this answer")
        other = opponent_text(judge, row.row, row.answers, answer)
        if other is None:
            return Score(None, SCORER_ERROR, f"{judge.against.name} has no answer to compare with")
        if other == text:
            return Score(0.5, None, f"tied: the text is that of {judge.against.name}")
        return Score(None, SCORER_ERROR, f"{FAILED}not asked about this pair")


def _judgements(runner: Runner, workload: Workload) -> Iterator[_Judgement]:
    for answered in read_row_answers(runner, workload):
        name = answered.row[JUDGED]
        yield _Judgement(name[0], int(name[1:]), answered.row, answered.answers)
