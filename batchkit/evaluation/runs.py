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
from batchkit.datasets import open_table
from batchkit.engine.announcements import EvaluationEnd
from batchkit.errors import UsageError, WorkloadConflict
from batchkit.evaluation.judging import (
    agreement_with_people,
    ensure_judge_workload,
    judge_recipe,
    within_run,
    workload_name,
)
from batchkit.evaluation.open_runs import open_runs
from batchkit.evaluation.results import SUMMARY, EvaluationSummary, find_run, is_run, summary
from batchkit.evaluation.scorers import JUDGE_COLUMNS, Judge
from batchkit.evaluation.scoring import score_answers
from batchkit.evaluation.suite import Suite
from batchkit.evaluation.verdict import compare, measure, verdict_of
from batchkit.files import jsonl
from batchkit.store import evaluations
from batchkit.store.evaluations import Arm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batchkit.engine.runtime import Runner
    from batchkit.evaluation.suite_file import SuiteFile
    from batchkit.models import Workload
    from batchkit.steps.split import SplitOptions
    from batchkit.store.evaluations import Evaluation

_BASELINES = frozenset({"previous", "passed"})
_TRIES = 20


def begin(
    runner: Runner,
    file: SuiteFile,
    *,
    name: str | None = None,
    scheduled_for: float | None = None,
    against: str | None = None,
) -> Evaluation:
    """Return the run that a command or a schedule refers to, and store it if it is new.

    That is the run called ``name``; or the suite's run for the time ``scheduled_for`` (Unix seconds); or else the unfinished run of
    this version of the suite, or a new one. Raises ``InputInvalid`` for columns that the table does not have,
    ``WorkloadConflict`` if ``name`` belongs to something else, and ``UsageError`` if the run is to be compared ``against`` one
    that does not exist or is not finished; nothing is sent.
    """
    suite = file.suite
    found = _referred_run(runner, suite, name, scheduled_for)
    if against is not None and (found is None or found.finished_at is None):
        _check_baseline(runner, against)
    if found is not None:
        return found
    table = open_table(suite.table_parts(), query=suite.dataset.query, separator=suite.dataset.separator)
    complaint = file.complaint(suite.unknown_columns(table.columns))
    if complaint is not None:
        raise complaint
    _check_scorers(suite, table.columns)
    for _ in range(_TRIES):
        begun = _begin(runner, suite, name, scheduled_for)
        if begun is not None:
            return begun
        # Another process stored a run first; it may be the same one.
        found = _referred_run(runner, suite, name, scheduled_for)
        if found is not None:
            return found
    raise WorkloadConflict(f"no run of {suite.name!r} can be begun: its next name is taken", hint="name it with --run")


def next_workload(
    runner: Runner,
    evaluation: Evaluation,
    *,
    options: SplitOptions | None = None,
    advance: Callable[[int], None] = lambda _rows: None,
) -> Workload | None:
    """Return the workload that must be driven next, created if it does not exist; None when all are finished.

    Raises as ``ensure_workload``; a run whose requests cannot be made is deleted.
    """
    suite = suite_of(evaluation)
    main = runner.known(evaluation.workload)
    if main is None or main.request_count is None:
        main = _make_main(runner, evaluation, suite, options, advance)
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
    failed = score_answers(runner, evaluation, suite, advance=advance)
    previous, notes = _previous(runner, evaluation, against or suite.against)
    digest = _table_digest(runner, evaluation, suite)
    before = None if previous is None else summary(runner, previous.name)
    is_same_table = before is not None and bool(digest) and before.table_digest == digest
    with runner.store.read() as connection:
        metrics = measure(connection, evaluation, suite)
        changes = (
            compare(connection, evaluation, previous, suite, is_same_table=is_same_table)
            if previous is not None
            else ()
        )
    if previous is not None and not changes:
        notes += (_why_nothing_compares(previous.name, suite),)
    judges = [agreement_with_people(runner, evaluation, judge) for judge in suite.judges]
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
        metrics=metrics,
        changes=changes,
        judge_agreement=tuple(agreed for agreed in judges if agreed is not None),
        verdict=verdict_of(changes),
        failed_answers=failed,
        table_digest=digest,
        notes=notes,
    )
    text = SUMMARY.dump_json(found).decode()
    with runner.store.write() as connection:
        is_ours = evaluations.finish(connection, evaluation.id, verdict=found.verdict, summary=text, at=finished_at)
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


def suite_of(evaluation: Evaluation) -> Suite:
    """Return the suite as it was when the run began. Raises ``UsageError`` for one that this version cannot read."""
    try:
        return Suite.model_validate_json(evaluation.definition)
    except ValueError as error:
        raise UsageError(
            f"the suite of {evaluation.name!r} cannot be read", hint="it was written by another version of batchkit"
        ) from error


def report_path(evaluation: Evaluation) -> Path | None:
    """Return the path of the suite's report, with ``{run}`` replaced by the run's name; None without a report."""
    suite = suite_of(evaluation)
    return None if suite.report is None else Path(suite.folder) / suite.report.replace("{run}", evaluation.name)


def _referred_run(runner: Runner, suite: Suite, name: str | None, scheduled_for: float | None) -> Evaluation | None:
    with runner.store.read() as connection:
        if name is not None:
            found = evaluations.find(connection, name)
            if found is not None and (found.suite, found.suite_version) != (suite.name, suite.version()):
                raise WorkloadConflict(
                    f"the run {name!r} belongs to another suite, or to another version of this one",
                    hint="choose another --run; prompts, models, data and scorers make the version",
                )
            return found
        if scheduled_for is not None:
            return evaluations.scheduled(connection, suite.name, scheduled_for)
        return evaluations.unfinished(connection, suite.name, suite.version())


def _check_scorers(suite: Suite, columns: tuple[str, ...]) -> None:
    """Check that every scorer can work before anything is paid for. Raises ``UsageError``."""
    for scorer in suite.scorers:
        scorer.prepared()
        if isinstance(scorer, Judge):
            Renderer(judge_recipe(scorer), (*columns, *JUDGE_COLUMNS))


def _begin(runner: Runner, suite: Suite, name: str | None, scheduled_for: float | None) -> Evaluation | None:
    if name is None and scheduled_for is not None:
        name = f"{suite.name}-{datetime.fromtimestamp(scheduled_for, UTC):%Y%m%dT%H%M%SZ}"
    recipe = suite.recipe(table="", table_digest="")
    digests = [hashlib.sha256(jsonl.dumps(prompt.model_dump(mode="json"))).hexdigest() for prompt in recipe.prompts]
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
        )


def _make_main(
    runner: Runner,
    evaluation: Evaluation,
    suite: Suite,
    options: SplitOptions | None,
    advance: Callable[[int], None],
) -> Workload:
    try:
        table = open_table(suite.table_parts(), query=suite.dataset.query, separator=suite.dataset.separator)
        recipe = suite.recipe(table=table.name, table_digest=table.digest())
        return ensure_workload(
            runner,
            table,
            recipe,
            name=evaluation.workload,
            options=within_run(evaluation, options),
            folder=Path(suite.folder),
            advance=advance,
        )
    except UsageError:
        with runner.store.write() as connection:
            evaluations.forget(connection, evaluation.id)
        raise


def _check_is_ours(evaluation: Evaluation, main: Workload) -> None:
    if main.recipe is None or load_recipe(main.recipe).kind != "evaluate":
        raise WorkloadConflict(
            f"the workload {main.name!r} does not belong to the evaluation {evaluation.name!r}",
            hint="name the run with --run",
        )


def _table_digest(runner: Runner, evaluation: Evaluation, suite: Suite) -> str:
    """Return the digest of the table; empty for a query, whose text does not identify its rows."""
    recipe = runner.find(evaluation.workload).recipe
    return load_recipe(recipe).table_digest if recipe is not None and suite.dataset.query is None else ""


def _previous(runner: Runner, evaluation: Evaluation, against: str) -> tuple[Evaluation | None, tuple[str, ...]]:
    if against in _BASELINES:
        with runner.store.read() as connection:
            found = evaluations.before(connection, evaluation, only_passed=against == "passed")
        return found, () if found is not None else ("nothing to compare with: this is the first run",)
    if not is_run(runner, against):
        return None, (f"nothing to compare with: there is no evaluation {against!r}",)
    named = find_run(runner, against)
    if named.finished_at is None or named.id == evaluation.id:
        return None, (f"nothing to compare with: {against!r} is not finished",)
    return named, ()


def _check_baseline(runner: Runner, against: str) -> None:
    """Refuse a named run that is no baseline: nothing would be compared, and the run would pass."""
    if against in _BASELINES:
        return
    if find_run(runner, against).finished_at is None:
        raise UsageError(
            f"the run {against!r} is not finished, so nothing can be compared with it", hint="finish it first"
        )


def _why_nothing_compares(name: str, suite: Suite) -> str:
    if suite.dataset.key is None:
        return f"no row can be paired with {name}: the dataset has changed and names no `key`"
    return f"no row, prompt and model is also in {name}"
