"""Running the evaluation of a suite: begin or resume its run, drive its workloads, score, compare and report. Needs the extra ``annotate``."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from batchkit.api.opening import drive_named, open_runner
from batchkit.datasets import require_extra
from batchkit.engine.observer import DO_NOTHING, Observer, Observers
from batchkit.engine.waves import DriveUntil
from batchkit.errors import BatchkitError
from batchkit.files.outputs import check_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from batchkit.api.opening import Source
    from batchkit.engine.progress import Progress
    from batchkit.engine.runtime import Runner
    from batchkit.evaluation.results import EvaluationSummary
    from batchkit.evaluation.suite_file import SuiteFile
    from batchkit.models import Workload
    from batchkit.settings import Settings
    from batchkit.steps.split import SplitOptions
    from batchkit.store.evaluations import Evaluation

    #: Shows that something is counted, under a label; gives what is told how many more were done.
    Counting = Callable[[str], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True, slots=True, repr=False)
class EvaluationReport:
    """How far a run of a suite is: its ``summary`` once it is scored, else the ``progress`` of the workload that it waits for.

    ``page`` is the report page, if one was written; ``page_error`` is why it could not be written. ``is_ours`` is whether this call
    scored the run.
    """

    run: str
    summary: EvaluationSummary | None = None
    progress: Progress | None = None
    page: Path | None = None
    page_error: BatchkitError | None = None
    is_ours: bool = False

    @property
    def verdict(self) -> str:
        """``passed``, ``regressed`` or ``unfinished``."""
        return "unfinished" if self.summary is None else self.summary.verdict

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.run}: {self.verdict}>"


def evaluate(
    suite: Source,
    *,
    run: str | None = None,
    against: str | None = None,
    report: Source | None = None,
    options: SplitOptions | None = None,
    settings: Settings | None = None,
    timeout_seconds: float | None = None,
    observer: Observer = DO_NOTHING,
) -> EvaluationReport:
    """Run the evaluation ``suite``, a YAML file; the same call again resumes, or begins the next run once it is finished.

    ``run`` names the run, ``against`` the run to compare with, ``report`` the page to write; each is by default what the suite says.
    Unfinished when ``timeout_seconds`` ran out. Raises ``BatchkitError``; ``InputInvalid`` with everything that is wrong in the
    suite, and ``UsageError`` for a page that cannot be written, before anything is sent.
    """
    require_extra()
    from batchkit.evaluation.suite_file import load_suite  # noqa: PLC0415 - an extra

    file = load_suite(Path(suite))
    if report is not None:
        check_file(Path(report), inputs=[Path(suite)], makes_folder=True)
    with open_runner(settings) as runner:

        def drive(workload: Workload, until: DriveUntil) -> Progress:
            return drive_named(runner, workload.name, until, timeout_seconds=timeout_seconds, observer=observer)

        found = evaluate_on(
            runner,
            file,
            run=run,
            against=against,
            page=None if report is None else Path(report),
            options=options,
            drive=drive,
        )
    if found.is_ours and found.summary is not None:
        Observers(observer).evaluated(found.summary, found.page)
    return found


@contextmanager
def _uncounted(_label: str) -> Iterator[Callable[[int], None]]:
    yield lambda _more: None


def evaluate_on(
    runner: Runner,
    file: SuiteFile,
    *,
    run: str | None,
    against: str | None,
    page: Path | None,
    options: SplitOptions | None,
    drive: Callable[[Workload, DriveUntil], Progress],
    until: DriveUntil = DriveUntil.FINISHED,
    counting: Counting = _uncounted,
) -> EvaluationReport:
    """Do what ``evaluate`` does on a runner that is open; ``drive`` drives one workload and returns its last snapshot."""
    from batchkit.evaluation import runs  # noqa: PLC0415 - an extra
    from batchkit.evaluation.results import summary  # noqa: PLC0415 - as above

    evaluation = runs.begin(runner, file, name=run)
    if evaluation.finished_at is not None:
        conclusion = runs.Conclusion(summary(runner, evaluation.name), is_ours=False)
    else:
        with counting("rendering the rows") as advance:
            workload = runs.next_workload(runner, evaluation, options=options, advance=advance)
        while workload is not None:
            progress = drive(workload, until)
            if not progress.is_finished:
                return EvaluationReport(evaluation.name, progress=progress)
            workload = runs.next_workload(runner, evaluation, options=options)
        with counting("scoring the answers") as advance:
            conclusion = runs.conclude(runner, evaluation, against=against, advance=advance)
    written, error = _write_page(runner, evaluation, page or runs.report_path(evaluation))
    return EvaluationReport(
        evaluation.name, conclusion.summary, page=written, page_error=error, is_ours=conclusion.is_ours
    )


def _write_page(
    runner: Runner, evaluation: Evaluation, target: Path | None
) -> tuple[Path | None, BatchkitError | None]:
    """Write the page, if one is wanted; an error does not change how the run ended."""
    if target is None:
        return None, None
    from batchkit.reports.writing import write_report  # noqa: PLC0415 - only where a page is wanted

    try:
        return write_report(runner, evaluation.name, target), None
    except BatchkitError as error:
        return None, error
