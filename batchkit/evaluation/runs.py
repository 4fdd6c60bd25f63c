"""A run from its start to its verdict. Every step can be repeated, by any process at any time.

``begin`` stores the run. ``next_workload`` creates the workload that must be driven next, first the suite's and then those of its
judges, and returns None when all are finished. ``conclude`` scores, compares, and marks the run as finished.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from batchkit.annotation.recipe import load_recipe
from batchkit.annotation.render import Renderer
from batchkit.annotation.workload_from_table import ensure_workload
from batchkit.engine.announcements import EvaluationEnd
from batchkit.errors import UsageError, WorkloadConflict
from batchkit.evaluation import baselines
from batchkit.evaluation.comparing import Comparison, compare
from batchkit.evaluation.judging import (
    ensure_judge_workload,
    judge_recipe,
    within_run,
    workload_name,
)
from batchkit.evaluation.metrics import measure
from batchkit.evaluation.open_runs import open_runs
from batchkit.evaluation.results import SUMMARY, EvaluationSummary, label_figures, pass_at, summary
from batchkit.evaluation.scorers import Judge
from batchkit.evaluation.scoring import score_answers
from batchkit.evaluation.stored_suite import suite_of
from batchkit.evaluation.suite import Suite
from batchkit.evaluation.suite_examples import examples_note, left_out_note
from batchkit.evaluation.suite_tables import asked_rows, open_dataset
from batchkit.evaluation.verdict import verdict_of
from batchkit.files import jsonl
from batchkit.steps.split import SplitOptions
from batchkit.store import evaluations
from batchkit.store.evaluations import Arm

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from batchkit.annotation.recipe import Recipe
    from batchkit.engine.deadline import DeadlinePlan
    from batchkit.engine.runtime import Runner
    from batchkit.evaluation.suite_file import SuiteFile
    from batchkit.evaluation.suite_tables import AskedRows
    from batchkit.models import Workload
    from batchkit.preflight import ModelShare
    from batchkit.provider.dialect import Dialect
    from batchkit.store.evaluations import Evaluation

_TRIES = 20


def begin(
    runner: Runner,
    file: SuiteFile,
    *,
    name: str | None = None,
    scheduled_for: float | None = None,
    against: str | None = None,
    is_partial: bool = False,
    check_models: Callable[[Collection[str]], None] = lambda _models: None,
) -> Evaluation:
    """Return the run that a command or a schedule refers to, and store it if it is new.

    That is the run called ``name``; or the suite's run for the time ``scheduled_for`` (Unix seconds); or else the unfinished run of
    this version of the suite, or a new one. One that ``is_partial`` is outside the suite's series. Raises ``InputInvalid`` for columns that the table does not have,
    ``WorkloadConflict`` if ``name`` belongs to something else, and ``UsageError`` if the run is to be compared ``against`` one
    that does not exist, is not finished or has no scores; nothing is sent. ``check_models`` gets the models of a new run, those of its
    judges included, and raises for those that the provider does not have.
    """
    suite = file.suite
    found = _referred_run(runner, suite, name, scheduled_for, is_partial=is_partial)
    wanted = against or suite.against
    if wanted not in baselines.CHOSEN and (found is None or found.finished_at is None):
        baselines.named(runner, wanted)
    if found is not None:
        return found
    asked = check_suite(file, runner.settings.dialect)
    check_models({*suite.models, *(model for judge in suite.judges for model in judge.models)})
    for _ in range(_TRIES):
        begun = _begin(runner, suite, asked.recipe, name, scheduled_for, is_partial=is_partial)
        if begun is not None:
            return begun
        # Another process stored a run first; it may be the same one.
        found = _referred_run(runner, suite, name, scheduled_for, is_partial=is_partial)
        if found is not None:
            return found
    raise WorkloadConflict(f"no run of {suite.name!r} can be begun: its next name is taken", hint="name it with --run")


def check_suite(file: SuiteFile, dialect: Dialect) -> AskedRows:
    """Check that the table has the columns that a suite names, and that every scorer can work; returns what is asked.

    Raises ``InputInvalid`` and ``UsageError``.
    """
    suite = file.suite
    columns = open_dataset(suite).columns
    complaint = file.complaint(suite.unknown_columns(columns))
    if complaint is not None:
        raise complaint
    _check_scorers(suite, columns, dialect)
    return asked_rows(suite)


def next_workload(
    runner: Runner,
    evaluation: Evaluation,
    *,
    options: SplitOptions | None = None,
    advance: Callable[[int], None] = lambda _rows: None,
    note: Callable[[str], None] = lambda _text: None,
    planned: Callable[[Mapping[str, ModelShare], DeadlinePlan], object] = lambda _shares, _plan: None,
) -> Workload | None:
    """Return the workload that must be driven next, created if it does not exist; None when all are finished.

    ``note`` gets a sentence about rows that are left out because they serve as examples; ``planned`` is as for ``Runner.split``.
    Raises as ``ensure_workload``; a run whose requests cannot be made is deleted.
    """
    suite = suite_of(evaluation)
    main = runner.known(evaluation.workload)
    if main is None or main.request_count is None:
        main = _make_main(runner, evaluation, suite, options, advance=advance, note=note, planned=planned)
    elif options is not None and options.late is not None:
        main = runner.change_policies(main, SplitOptions(late=options.late))
    _check_is_ours(evaluation, main)
    if not runner.progress(main.id).is_finished:
        return main
    for judge in suite.judges:
        workload = ensure_judge_workload(runner, evaluation, judge, options)
        if workload is not None and not runner.progress(workload.id).is_finished:
            return workload
    return None


def conclude(
    runner: Runner,
    evaluation: Evaluation,
    *,
    against: str | None = None,
    advance: Callable[[int], None] = lambda _rows: None,
) -> Conclusion:
    """Score, measure and compare a run whose workloads are finished, and store its verdict once, whichever process does it.

    ``against`` names the run to compare with; by default the suite decides.
    """
    suite = suite_of(evaluation)
    scored = score_answers(runner, evaluation, suite, advance=advance)
    digest = _table_digest(runner, evaluation, suite)
    with runner.store.read() as connection:
        measured = measure(connection, evaluation, suite)
    baseline = baselines.choose(runner, evaluation, against or suite.against)
    previous, notes = baseline.run, baseline.notes
    comparison = (
        compare(runner, evaluation, suite, previous, table_digest=digest) if previous is not None else Comparison()
    )
    workloads = [workload_name(evaluation, judge) for judge in suite.judges]
    finished_at = runner.clock()
    found = EvaluationSummary(
        suite=evaluation.suite,
        run=evaluation.name,
        previous=None if previous is None else previous.name,
        suite_version=evaluation.suite_version,
        workload_names=(evaluation.workload, *(name for name in workloads if runner.known(name))),
        started_at=evaluation.started_at,
        finished_at=finished_at,
        metrics=measured.metrics,
        changes=comparison.changes,
        judge_agreement=scored.judges.with_people,
        verdict=verdict_of(
            (*comparison.changes, *comparison.slice_changes),
            is_fully_scored=measured.is_fully_scored,
            is_comparable=comparison.is_comparable,
            has_baseline=previous is not None,
        ),
        failed_answers=scored.failed,
        labels=label_figures(scored.confusions),
        table_digest=digest,
        notes=(*notes, *comparison.uncompared, *examples_note(suite.examples)),
        rescored=None if comparison.rescored is None else comparison.rescored.name,
        differences=comparison.differences,
        scorings=measured.scorings,
        slice_changes=comparison.slice_changes,
        arm_comparisons=measured.arm_comparisons,
        spreads=measured.spreads,
        between_judges=scored.judges.between,
        judge_biases=scored.judges.biases,
        pass_at=pass_at(suite),
    )
    text = SUMMARY.dump_json(found).decode()
    with runner.store.write() as connection:
        is_ours = evaluations.finish(
            connection,
            evaluation.id,
            verdict=found.verdict,
            summary=text,
            fully_scored=measured.is_fully_scored,
            at=finished_at,
        )
        if is_ours:
            end = EvaluationEnd(found.suite, found.verdict, found.previous, found.failed_answers)
            runner.announcer.concluded(connection, run=found.run, workload=evaluation.workload, at=finished_at, end=end)
    return Conclusion(found if is_ours else summary(runner, evaluation.name), is_ours)


class Conclusion(NamedTuple):
    """The result of a run; ``is_ours`` is False if another process stored it first."""

    summary: EvaluationSummary
    is_ours: bool


@dataclass(frozen=True, slots=True)
class Collected:
    """The result of an unfinished run that was ready: its summary if it is finished now, or its error."""

    evaluation: Evaluation
    summary: EvaluationSummary | None = None
    error: Exception | None = None


def due_runs(runner: Runner) -> list[Evaluation]:
    """Return the unfinished runs whose workloads are all finished, so that scoring or a judge is next.

    A run whose state cannot be read is included, so that ``collect`` reports its error.
    """
    return [evaluation for evaluation in open_runs(runner) if _may_be_due(runner, evaluation)]


def collect(runner: Runner, *, skip: Callable[[Evaluation], bool] = lambda _evaluation: False) -> Iterator[Collected]:
    """Continue every ready run, except those to ``skip``, as far as possible without waiting: to its next judge or its verdict.

    It does not advance the workloads. An error of one run is reported as that run's, and the others are collected.
    """
    for evaluation in open_runs(runner):
        try:
            if not skip(evaluation) and _is_due(runner, evaluation) and next_workload(runner, evaluation) is None:
                conclusion = conclude(runner, evaluation)
                if conclusion.is_ours:
                    yield Collected(evaluation, conclusion.summary)
        except Exception as error:  # noqa: BLE001 - a bug in one run must not stop the others
            yield Collected(evaluation, error=error)


def _may_be_due(runner: Runner, evaluation: Evaluation) -> bool:
    try:
        return _is_due(runner, evaluation)
    except Exception:  # noqa: BLE001 - as above
        return True


def _is_due(runner: Runner, evaluation: Evaluation) -> bool:
    main = runner.known(evaluation.workload)
    if main is None or main.request_count is None:
        return False  # the process that began the run creates its workload
    names = [workload_name(evaluation, judge) for judge in suite_of(evaluation).judges]
    begun = [workload for name in names if (workload := runner.known(name)) is not None]
    return all(runner.progress(workload.id).is_finished for workload in (main, *begun))


def report_path(evaluation: Evaluation) -> Path | None:
    """Return the path of the suite's report, with ``{run}`` replaced by the run's name; None without a report."""
    suite = suite_of(evaluation)
    return None if suite.report is None else Path(suite.folder) / suite.report.replace("{run}", evaluation.name)


def _referred_run(
    runner: Runner, suite: Suite, name: str | None, scheduled_for: float | None, *, is_partial: bool = False
) -> Evaluation | None:
    with runner.store.read() as connection:
        if name is not None:
            found = evaluations.find(connection, name)
            if found is not None and not (found.suite == suite.name and _is_of(found, suite)):
                raise WorkloadConflict(
                    f"the run {name!r} belongs to another suite, or to another version of this one",
                    hint="choose another --run; prompts, models, data and scorers make the version",
                )
            return found
        if scheduled_for is not None:
            return evaluations.scheduled(connection, suite.name, scheduled_for)
        unfinished = evaluations.unfinished(connection, suite.name, is_partial=is_partial)
        return next((run for run in unfinished if _is_of(run, suite)), None)


def _is_of(evaluation: Evaluation, suite: Suite) -> bool:
    """Whether a run is of this version of the suite. An earlier version of batchkit may have computed its version in another way."""
    if evaluation.suite_version == suite.version():
        return True
    try:
        return Suite.model_validate_json(evaluation.definition).version() == suite.version()
    except ValueError:
        return False  # a definition that this version cannot read is another suite's


def _check_scorers(suite: Suite, columns: tuple[str, ...], dialect: Dialect) -> None:
    """Check that every scorer can work before anything is paid for. Raises ``UsageError``."""
    for scorer in suite.scorers:
        scorer.prepared()
        if isinstance(scorer, Judge):
            Renderer(judge_recipe(scorer), (*columns, *scorer.columns_beside), dialect=dialect)


def _begin(
    runner: Runner, suite: Suite, recipe: Recipe, name: str | None, scheduled_for: float | None, *, is_partial: bool
) -> Evaluation | None:
    if name is None and scheduled_for is not None:
        name = f"{suite.name}-{datetime.fromtimestamp(scheduled_for, UTC):%Y%m%dT%H%M%SZ}"
    shown = [example.model_dump(mode="json") for example in recipe.examples]
    digests = [
        hashlib.sha256(b"".join(map(jsonl.dumps, (prompt.model_dump(mode="json"), *shown)))).hexdigest()
        for prompt in recipe.prompts
    ]
    arms = [
        Arm(prompt.name, digest, model)
        for prompt, digest in zip(recipe.prompts, digests, strict=True)
        for model in recipe.models
    ]
    with runner.store.write() as connection:
        return evaluations.begin(
            connection,
            suite=suite.name,
            suite_version=suite.version(),
            definition=suite.model_dump_json(by_alias=True),
            arms=arms,
            samples=suite.samples,
            name=name,
            scheduled_for=scheduled_for,
            at=runner.clock(),
            is_partial=is_partial,
            is_resumed=lambda unfinished: _is_of(unfinished, suite),
        )


def _make_main(
    runner: Runner,
    evaluation: Evaluation,
    suite: Suite,
    options: SplitOptions | None,
    *,
    advance: Callable[[int], None],
    note: Callable[[str], None],
    planned: Callable[[Mapping[str, ModelShare], DeadlinePlan], object],
) -> Workload:
    try:
        asked = asked_rows(suite)
        workload = ensure_workload(
            runner,
            asked.table,
            asked.recipe,
            name=evaluation.workload,
            options=within_run(evaluation, suite.with_budget(options)),
            folder=Path(suite.folder),
            advance=advance,
            planned=planned,
        )
    except UsageError:
        with runner.store.write() as connection:
            evaluations.forget(connection, evaluation.id)
        raise
    if asked.examples is not None:
        note(left_out_note(asked.examples.left_out))
    return workload


def _check_is_ours(evaluation: Evaluation, main: Workload) -> None:
    if main.recipe is None or load_recipe(main.recipe).kind != "evaluate":
        raise WorkloadConflict(
            f"the workload {main.name!r} does not belong to the evaluation {evaluation.name!r}",
            hint="name the run with --run",
        )


def _table_digest(runner: Runner, evaluation: Evaluation, suite: Suite) -> str:
    """Return the digest of the table; empty for a query, whose text does not identify its rows."""
    recipe = runner.find(evaluation.workload).recipe
    has_query = any(rows.query is not None for rows in suite.dataset.tables)
    return load_recipe(recipe).table_digest if recipe is not None and not has_query else ""
