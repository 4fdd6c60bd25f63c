"""The result of a run, for reports and scripts. A finished run's summary is written once and never changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from pydantic import TypeAdapter

from batchkit.annotation.row_answers import read_row_answers
from batchkit.datasets.values import text_of
from batchkit.errors import UnknownWorkload
from batchkit.evaluation.confusion import Confusion  # noqa: TC001 - pydantic reads it at run time
from batchkit.evaluation.judge_figures import (  # noqa: TC001 - as above
    AgreementOfJudges,
    JudgeAgreement,
    JudgeBias,
)
from batchkit.evaluation.measure import Pairing, ScoreTable, load_rows, load_scores
from batchkit.evaluation.stored_suite import suite_of
from batchkit.store import evaluations

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from batchkit.annotation.request_answer import RequestAnswer
    from batchkit.engine.runtime import Runner
    from batchkit.evaluation.suite import Suite
    from batchkit.store.evaluations import Evaluation


#: How a run ended. ``passed``: scored, compared, and not fallen. ``first``: scored, with nothing to compare with yet. ``regressed``: an alarm
#: went off. ``unscored``: a watched scorer has scores for too few answers. ``incomparable``: too few rows could be compared.
#: ``rescored``: the answers of another run, scored again.
Verdict = Literal["passed", "regressed", "unscored", "incomparable", "first", "rescored", "unfinished"]
#: Runs with one of these verdicts are what ``against: passed`` means, and what an alarm ``over`` several runs looks at.
PASSED: Final = ("passed", "first", "incomparable")


@dataclass(frozen=True, slots=True)
class Scoring:
    """How many of an arm's answers a scorer has scored, and why it has not scored the others.

    ``failed`` answers have no text to score. ``unlabelled`` rows have no expected value. ``errors`` are answers that the scorer
    could not decide; ``commonest_error`` is the commonest message of these, with the number of times. ``counted`` answers have a value in
    the mean: the scored ones, and failed ones that count as wrong. ``is_enough`` is False if these are fewer than ``min_scored`` of
    the labelled ones, or none is scored.
    """

    scorer: str
    prompt: str
    model: str
    answers: int
    scored: int
    counted: int
    failed: int
    unlabelled: int
    errors: int
    commonest_error: str | None
    commonest_count: int
    is_watched: bool
    is_enough: bool


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
class RunSpan:
    """``count`` passed runs of a suite's series, from ``first`` to ``last``."""

    count: int
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class Window:
    """The runs of which an alarm ``over`` several ones compares the first ones, ``before``, with as many last ones, ``after``; ``runs`` in all."""

    runs: int
    before: RunSpan
    after: RunSpan


@dataclass(frozen=True, slots=True)
class Change:
    """A metric compared with that of the previous run, over the rows of both; with a ``window`` those are means of several runs.

    ``low`` and ``high`` bound ``difference`` (after minus before) with 95 % confidence. ``p_value`` is two-sided. ``fall_p_value``,
    for metrics with an alarm, is one-sided, for a fall, and corrected (Holm) for all alarms of the suite; ``threshold`` is that
    alarm's ``fall``. ``since`` names the run in which an alarm went off that is still on, compared with the same run; its p-value is not
    corrected. ``is_suspect`` is whether an alarm would have gone off if it had been the only one. ``flipped_down`` and ``flipped_up`` count the rows whose score changed. ``slice`` is ``column=value``, None for all
    rows. ``pairs`` are the rows that both runs have scored, ``scored`` the rows of the run that scored fewer. ``bound`` says what
    ``threshold`` bounds (see ``Alarm``).
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
    slice: str | None = None
    scored: int = 0
    bound: Literal["estimate", "truth"] = "estimate"
    window: Window | None = None
    since: str | None = None
    is_suspect: bool = False


@dataclass(frozen=True, slots=True)
class ArmComparison:
    """Two prompts or models of one run over the same rows by one scorer; ``difference`` is that of the second less the first.

    ``low`` and ``high`` bound it with 95 % confidence. ``p_value`` is two-sided and corrected (Holm) for all comparisons of the
    scorer. ``fell`` and ``rose`` count the rows for which the second one has the lower or the higher score.
    """

    scorer: str
    first_prompt: str
    first_model: str
    second_prompt: str
    second_model: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float
    method: str
    pairs: int
    fell: int
    rose: int


@dataclass(frozen=True, slots=True)
class Spread:
    """Where the spread of an arm's scores comes from, in a run with several samples of each row (see ``stats.variance``).

    ``error`` is the standard error of the mean, ``error_doubled`` what twice as many samples would make of it, ``error_unlimited``
    what any number of them would.
    """

    scorer: str
    prompt: str
    model: str
    rows: int
    samples: float
    within: float | None
    between: float | None
    error: float | None
    error_doubled: float | None
    error_unlimited: float | None


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """The confusion matrix of one prompt and model by a scorer of choices, over all labelled answers."""

    scorer: str
    prompt: str
    model: str
    confusion: Confusion


@dataclass(frozen=True, slots=True, repr=False)
class EvaluationSummary:
    """The result of a run. Times are Unix seconds; ``previous`` is the run it was compared with. ``notes`` are for people.

    ``rescored`` is the derived run with the scores of ``previous`` by today's scorers and labels, None if its own scores were
    compared. ``differences`` says what else differs between the two runs, one sentence each. ``scorings`` has an entry for each
    scorer, prompt and model. ``slice_changes`` compares each slice. ``arm_comparisons`` compares every two prompts or models of this
    run, ``spreads`` says what several samples of each row are good for. ``labels`` has the confusion matrices of scorers of choices.
    ``judge_agreement`` is that with people, ``between_judges`` that of the judges of one scorer, ``judge_biases`` what the order of
    pairs decided. ``pass_at`` names the metrics of scorers with ``reduce: any`` (``pass@5``), by scorer.
    """

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
    verdict: Verdict
    failed_answers: int = 0
    table_digest: str = ""
    notes: tuple[str, ...] = ()
    rescored: str | None = None
    differences: tuple[str, ...] = ()
    scorings: tuple[Scoring, ...] = ()
    slice_changes: tuple[Change, ...] = ()
    arm_comparisons: tuple[ArmComparison, ...] = ()
    spreads: tuple[Spread, ...] = ()
    labels: tuple[LabelFigures, ...] = ()
    between_judges: tuple[AgreementOfJudges, ...] = ()
    judge_biases: tuple[JudgeBias, ...] = ()
    pass_at: dict[str, str] = field(default_factory=dict)

    def metric_of(self, scorer: str) -> str:
        """Return the name of a scorer's metric, with what it makes of several samples if that has a name of its own."""
        name = self.pass_at.get(scorer, scorer)
        return scorer if name == scorer else f"{scorer} {name}"

    @property
    def alarms(self) -> tuple[Change, ...]:
        """The changes for which an alarm went off, the largest fall first."""
        raised = [change for change in (*self.changes, *self.slice_changes) if change.is_alarm]
        return tuple(sorted(raised, key=lambda change: change.difference))

    @property
    def suspects(self) -> tuple[Change, ...]:
        """The changes since the run before for which an alarm would have gone off if it had been the only one."""
        return tuple(
            change for change in (*self.changes, *self.slice_changes) if change.is_suspect and not change.window
        )

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


def label_figures(confusions: Mapping[tuple[str, str, str], Confusion]) -> tuple[LabelFigures, ...]:
    """Return confusion matrices by scorer, prompt and model for a summary."""
    return tuple(LabelFigures(*arm, found) for arm, found in confusions.items())


def pass_at(suite: Suite) -> dict[str, str]:
    """Return the names of the metrics that estimate pass@k, by scorer."""
    named = ((scorer.label, scorer.pass_at(suite.samples)) for scorer in suite.scorers)
    return {label: name for label, name in named if name is not None}


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
    suite = suite_of(evaluation)
    with runner.store.read() as connection:
        rows = load_rows(connection, evaluation)
        tables = {
            scorer.label: load_scores(connection, evaluation, scorer, len(rows.keys), suite.missing)
            for scorer in suite.scorers
        }
    moves = _moves(runner, evaluation, found, tables, suite)
    for answered in read_row_answers(runner, runner.find(evaluation.workload)):
        for answer in answered.answers:
            yield scored_row(suite, answered.row, answer, tables, moves)


def scored_row(
    suite: Suite,
    row: dict[str, Any],
    answer: RequestAnswer,
    tables: Mapping[str, ScoreTable],
    moves: Mapping[str, np.ndarray[Any, Any]],
) -> ScoredRow:
    """Return an answer with its scores; ``moves`` has for each scorer how far each answer's score changed, in the order of the requests."""
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
    compared = found.rescored or found.previous
    if compared is None or not is_run(runner, compared):
        return {}
    previous = find_run(runner, compared)
    then = summary(runner, previous.name)
    with runner.store.read() as connection:
        rows, earlier_rows = load_rows(connection, evaluation), load_rows(connection, previous)
        pairing = Pairing(rows, earlier_rows, is_same_table=found.table_digest == then.table_digest)
        return {
            scorer.label: pairing.moves(
                evaluation,
                previous,
                tables[scorer.label],
                load_scores(connection, previous, scorer, len(earlier_rows.keys), suite.missing),
            )
            for scorer in suite.scorers
        }
