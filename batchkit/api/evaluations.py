"""Running the evaluation of a suite: begin or resume its run, drive its workloads, score, compare and report. Needs the extra ``annotate``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from batchkit.api.budgets import new_workload_check
from batchkit.api.deadlines import told_deadline
from batchkit.api.looking_back import scored_table
from batchkit.api.modes import RunMode
from batchkit.api.opening import drive_from, open_runner
from batchkit.datasets import require_extra
from batchkit.engine.observer import DO_NOTHING, Observer, counting
from batchkit.engine.waves import DriveUntil
from batchkit.errors import BatchkitError, UsageError
from batchkit.files.outputs import check_file, check_page
from batchkit.steps.split import SplitOptions

if TYPE_CHECKING:
    import pyarrow as pa

    from batchkit.api.opening import Source
    from batchkit.engine.progress import Progress
    from batchkit.engine.runtime import Runner
    from batchkit.evaluation.results import EvaluationSummary, ScoredRow
    from batchkit.evaluation.suite_file import SuiteFile
    from batchkit.settings import Settings
    from batchkit.store.evaluations import Evaluation

_SHOWN_FALLEN_ROWS = 5


@dataclass(frozen=True, slots=True, repr=False)
class EvaluationReport:
    """How far a run of a suite is: its ``summary`` once it is scored, else the ``progress`` of the workload that it waits for.

    ``page`` is the report page, if one was written; ``page_error`` is why it could not be written. ``is_ours`` is whether this call
    scored the run. ``fallen_rows`` are the first rows whose score fell, where an alarm went off. ``settings`` are those of the call.
    """

    run: str
    summary: EvaluationSummary | None = None
    progress: Progress | None = None
    page: Path | None = None
    page_error: BatchkitError | None = None
    is_ours: bool = False
    fallen_rows: tuple[ScoredRow, ...] = ()
    settings: Settings | None = field(default=None, compare=False)

    @property
    def verdict(self) -> str:
        """How the run ended (see ``results.Verdict``), or ``unfinished``."""
        return "unfinished" if self.summary is None else self.summary.verdict

    def table(self) -> pa.Table:
        """Return the rows with their answers and scores (see ``ScoredTable``), read from the database now.

        Raises ``UsageError`` for a run that is not finished.
        """
        return scored_table(self.run, self.settings)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.run}: {self.verdict}>"


class PartOfRows(NamedTuple):
    """The rows that a run asks about: the first ``limit``, or ``subset`` at random by ``subset_seed``; None is all."""

    limit: int | None = None
    subset: int | None = None
    subset_seed: int = 0

    @property
    def is_partial(self) -> bool:
        """Whether it is not all."""
        return self.limit is not None or self.subset is not None

    def of(self, file: SuiteFile) -> SuiteFile:
        """Return the suite about these rows. Raises ``UsageError`` for a number below 1."""
        for name, value in (("limit", self.limit), ("subset", self.subset)):
            if value is not None and value < 1:
                raise UsageError(f"the {name} must be a number of rows from 1 on, not {value}")
        if not self.is_partial:
            return file
        given = {"limit": self.limit, "subset": self.subset, "subset_seed": self.subset_seed}
        dataset = file.suite.dataset.model_copy(
            update={key: value for key, value in given.items() if value is not None}
        )
        return replace(file, suite=file.suite.model_copy(update={"dataset": dataset}))


ALL_ROWS = PartOfRows()


def evaluate(
    suite: Source,
    *,
    run: str | None = None,
    against: str | None = None,
    report: Source | None = None,
    limit: int | None = None,
    subset: int | None = None,
    subset_seed: int = 0,
    max_cost: float | None = None,
    max_total_tokens: int | None = None,
    options: SplitOptions | None = None,
    settings: Settings | None = None,
    timeout_seconds: float | None = None,
    observer: Observer = DO_NOTHING,
) -> EvaluationReport:
    """Run the evaluation ``suite``, a YAML file; the same call again resumes, or begins the next run once it is finished.

    With ``limit`` or ``subset`` only the first rows, or so many at random (``subset_seed``), are asked about: such a run is outside the
    suite's series and no baseline of others. ``run`` names the run, ``against`` the run to compare with, ``report`` the page to write; each is by default what the suite says.
    Unfinished when ``timeout_seconds`` ran out, and when the budget of the run and its judges was reached: ``max_cost`` in USD, ``max_total_tokens``. Raises ``BatchkitError``; ``InputInvalid`` with everything that is wrong in the
    suite, and ``UsageError`` for a page that cannot be written and for a run to compare with that is not there, before anything is
    sent.
    """
    require_extra()
    mode = RunMode(timeout_seconds=timeout_seconds, observer=observer)
    return evaluate_suite(
        Path(suite),
        run=run,
        against=against,
        page=None if report is None else Path(report),
        part=PartOfRows(limit, subset, subset_seed),
        options=(options or SplitOptions()).with_budget(max_cost, max_total_tokens),
        settings=settings,
        mode=mode,
    )


def evaluate_suite(
    suite: Path,
    *,
    run: str | None,
    against: str | None,
    page: Path | None,
    part: PartOfRows = ALL_ROWS,
    options: SplitOptions | None,
    until: DriveUntil = DriveUntil.FINISHED,
    settings: Settings | None,
    mode: RunMode,
) -> EvaluationReport:
    """Do what ``evaluate`` does; ``until`` is how far each workload of the run is driven."""
    from batchkit.evaluation import runs  # noqa: PLC0415 - an extra
    from batchkit.evaluation.results import summary  # noqa: PLC0415 - as above
    from batchkit.evaluation.suite_file import load_suite  # noqa: PLC0415 - as above

    file = part.of(load_suite(suite))
    if page is not None:
        check_file(page, inputs=[suite], makes_folder=True)
        check_page(page)
    with open_runner(settings, mode) as runner:
        options = file.suite.with_budget(options)
        check = new_workload_check(runner.settings, options, mode.observer)
        evaluation = runs.begin(runner, file, name=run, against=against, is_partial=part.is_partial, check_models=check)
        if evaluation.finished_at is not None:
            conclusion = runs.Conclusion(summary(runner, evaluation.name), is_ours=False)
        else:
            unfinished = _drive_workloads(runner, evaluation, options, until, mode)
            if unfinished is not None:
                return EvaluationReport(evaluation.name, progress=unfinished, settings=settings)
            with counting(mode.observer, "scoring the answers") as advance:
                conclusion = runs.conclude(runner, evaluation, against=against, advance=advance)
        written, error = write_page(runner, evaluation, page or runs.report_path(evaluation))
        if conclusion.is_ours:
            mode.observer.evaluated(conclusion.summary, written)
        return EvaluationReport(
            evaluation.name,
            conclusion.summary,
            page=written,
            page_error=error,
            is_ours=conclusion.is_ours,
            fallen_rows=_fallen_rows(runner, conclusion.summary),
            settings=settings,
        )


def _drive_workloads(
    runner: Runner, evaluation: Evaluation, options: SplitOptions, until: DriveUntil, mode: RunMode
) -> Progress | None:
    """Drive the workloads of a run, one after the other; returns where the first one stands that is not finished, None when all are."""
    from batchkit.evaluation import runs  # noqa: PLC0415 - an extra

    main = runner.known(evaluation.workload)
    if main is not None:
        runner.change_budget(main, options)
    with counting(mode.observer, "rendering the rows") as advance:
        workload = runs.next_workload(
            runner,
            evaluation,
            options=options,
            advance=advance,
            note=mode.observer.note,
            planned=told_deadline(runner.settings, mode.observer),
        )
    while workload is not None:
        progress = drive_from(runner, runner.progress(workload.id), until, mode)
        if not progress.is_finished:
            return progress
        workload = runs.next_workload(runner, evaluation, options=options)
    return None


def _fallen_rows(runner: Runner, found: EvaluationSummary) -> tuple[ScoredRow, ...]:
    """Read the first answers whose score fell, of a run in which an alarm went off."""
    from batchkit.evaluation.results import scored_rows  # noqa: PLC0415 - an extra

    if not found.alarms:
        return ()
    return tuple(islice((row for row in scored_rows(runner, found.run) if row.flipped == "down"), _SHOWN_FALLEN_ROWS))


def write_page(runner: Runner, evaluation: Evaluation, target: Path | None) -> tuple[Path | None, BatchkitError | None]:
    """Write the page, if one is wanted; an error does not change how the run ended."""
    if target is None:
        return None, None
    from batchkit.reports.writing import write_report  # noqa: PLC0415 - only where a page is wanted

    try:
        return write_report(runner, evaluation.name, target), None
    except BatchkitError as error:
        return None, error
