"""Scoring the kept answers of a run again, with the scorers and labels of today. Needs the extra ``annotate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit import formatting
from batchkit.api.evaluations import EvaluationReport, write_page
from batchkit.api.opening import drive_from, open_runner
from batchkit.engine.observer import counting
from batchkit.engine.waves import DriveUntil
from batchkit.errors import UsageError
from batchkit.files.outputs import check_file, check_page

if TYPE_CHECKING:
    from pathlib import Path

    from batchkit.api.modes import RunMode
    from batchkit.settings import Settings
    from batchkit.steps.split import SplitOptions


def rescore_run(
    suite: Path,
    run: str,
    *,
    page: Path | None = None,
    options: SplitOptions | None = None,
    settings: Settings | None = None,
    mode: RunMode,
) -> EvaluationReport:
    """Score the answers of ``run`` with the scorers, the expected values and the slices that ``suite`` has now.

    The result is the derived run ``RUN.rescored-N``, outside the suite's series; the same suite and labels give the same one. Only judges
    that are new or ask something else send requests. Raises ``UnknownWorkload``; ``UsageError`` for a run of another suite, or one that
    is not finished; ``InputInvalid``; ``AnswersGone`` for answers that were cleaned.
    """
    from batchkit.evaluation import rescoring, runs  # noqa: PLC0415 - an extra
    from batchkit.evaluation.differences import judges_changed  # noqa: PLC0415 - as above
    from batchkit.evaluation.judging import ensure_judge_workload  # noqa: PLC0415 - as above
    from batchkit.evaluation.results import find_run, summary  # noqa: PLC0415 - as above
    from batchkit.evaluation.stored_suite import suite_of  # noqa: PLC0415 - as above
    from batchkit.evaluation.suite_file import load_suite  # noqa: PLC0415 - as above

    file = load_suite(suite)
    if page is not None:
        check_file(page, inputs=[suite], makes_folder=True)
        check_page(page)
    with open_runner(settings, mode) as runner:
        origin = find_run(runner, run)
        if origin.derived_from is not None:
            raise UsageError(
                f"the run {run!r} has scores of the answers of {origin.derived_from!r}",
                hint=f"--rescore {origin.derived_from}",
            )
        if origin.suite != file.suite.name:
            raise UsageError(f"the run {run!r} belongs to the suite {origin.suite!r}, this is {file.suite.name!r}")
        if origin.finished_at is None:
            raise UsageError(f"the run {run!r} is not finished", hint="finish it first")
        runs.check_suite(file, runner.settings.dialect)
        then = suite_of(origin)
        for judge in file.suite.judges:
            for _, problem in judge.unknown_opponent(then.models, tuple(then.prompts)):
                raise UsageError(f"the scorer {judge.label!r} cannot judge the answers of {run!r}: {problem}")
        labels = rescoring.todays_labels(runner, origin, file.suite)
        if labels:
            mode.observer.note(f"labels changed in {formatting.counted(len(labels), 'row')} since {run}")
        derived = rescoring.begin_rescoring(runner, origin, then, file.suite, relabelled=labels)
        if derived.finished_at is None:
            asked = judges_changed(file.suite, then)
            for judge in file.suite.judges:
                workload = ensure_judge_workload(runner, derived, judge, options) if judge.label in asked else None
                if workload is not None:
                    progress = drive_from(runner, runner.progress(workload.id), DriveUntil.FINISHED, mode)
                    if not progress.is_finished:
                        return EvaluationReport(derived.name, progress=progress)
            with counting(mode.observer, "scoring the answers") as advance:
                rescoring.finish_rescoring(runner, derived, relabelled=labels, advance=advance)
        written, error = write_page(runner, derived, page)
        return EvaluationReport(derived.name, summary(runner, derived.name), page=written, page_error=error)
