"""What ``eval`` does: begin or resume a run, drive its workloads, conclude it, and say what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchkit.cli import driving, job
from batchkit.cli.options import common
from batchkit.cli.render import console, evaluated, exits, live, outcome
from batchkit.engine.runtime import Runner
from batchkit.engine.waves import DriveUntil
from batchkit.errors import BatchkitError
from batchkit.evaluation import runs
from batchkit.evaluation.results import summary
from batchkit.evaluation.suite_file import load_suite
from batchkit.files import outputs

if TYPE_CHECKING:
    from pathlib import Path

    from batchkit.cli.job import Desk, Manner
    from batchkit.engine.progress import Progress
    from batchkit.evaluation.results import EvaluationSummary
    from batchkit.settings import Settings
    from batchkit.steps.split import SplitOptions
    from batchkit.store.evaluations import Evaluation


@dataclass(frozen=True, slots=True)
class EvaluationOrder:
    """A run as the user orders it; None means not given."""

    suite: Path
    run: str | None
    against: str | None
    options: SplitOptions
    is_submit_only: bool = False
    report: Path | None = None


def carry_out(order: EvaluationOrder, settings: Settings, manner: Manner) -> int:
    """Bring a run as far as it was asked for; returns the exit code. Raises ``BatchkitError``."""
    err = console.stderr()
    again = common.same_command()
    file = load_suite(order.suite)
    if order.report is not None:
        outputs.check_file(order.report, inputs=[order.suite], makes_folder=True)
    with Runner(settings, verb=common.verb()) as runner:
        desk = job.Desk(runner, manner, err)
        with driving.interruptible(err, lambda: outcome.interrupted(desk.picture(), manner.where, again=again)):
            evaluation = runs.begin(runner, file, name=order.run)
            unfinished = None if evaluation.finished_at is not None else _drive(desk, evaluation, order)
            if unfinished is not None:
                return _leave_unfinished(unfinished, order, manner, again)
            found, is_ours = _conclude(desk, evaluation, order)
            report = _report(desk, evaluation, order)
            if is_ours and manner.use_prefect:
                mirror = driving.mirror_of(runner, on_note=lambda _note: None, verbose=manner.verbose)
                mirror.evaluated(found, report)
        return _say(desk, found, report)


def _drive(desk: Desk, evaluation: Evaluation, order: EvaluationOrder) -> Progress | None:
    """Drive the run's workloads in turn; gives the picture of one that is not finished, None when all are."""
    until = DriveUntil.SUBMITTED if order.is_submit_only else DriveUntil.FINISHED
    with live.counting(desk.err, "rendering the rows", total=None, is_shown=desk.shows_bars) as advance:
        workload = runs.next_workload(desk.runner, evaluation, options=order.options, advance=advance)
    while workload is not None:
        progress = desk.drive(workload, until=until)
        if not progress.is_finished:
            return progress
        workload = runs.next_workload(desk.runner, evaluation, options=order.options)
    return None


def _leave_unfinished(progress: Progress, order: EvaluationOrder, manner: Manner, again: str) -> int:
    if order.is_submit_only and outcome.is_submitted(progress):
        lines = evaluated.submitted(progress, again=again.replace(" --submit-only", ""))
        return job.print_outcome(progress, manner, lines, code=exits.SUCCEEDED)
    return job.conclude(progress, manner, output=None, again=again)


def _conclude(desk: Desk, evaluation: Evaluation, order: EvaluationOrder) -> runs.Conclusion:
    if evaluation.finished_at is not None:
        return runs.Conclusion(summary(desk.runner, evaluation.name), is_ours=False)
    with live.counting(desk.err, "scoring the answers", total=None, is_shown=desk.shows_bars) as advance:
        return runs.conclude(desk.runner, evaluation, against=order.against, advance=advance)


def _report(desk: Desk, evaluation: Evaluation, order: EvaluationOrder) -> Path | None:
    """Write the page; what is in its way does not change how the run ended."""
    target = order.report or runs.report_path(evaluation)
    if target is None:
        return None
    from batchkit.reports.writing import write_report  # noqa: PLC0415 - only where a page is wanted

    try:
        return write_report(desk.runner, evaluation.name, target)
    except BatchkitError as error:
        console.complain(desk.err, error)
        return None


def _say(desk: Desk, found: EvaluationSummary, report: Path | None) -> int:
    code = evaluated.exit_code(found)
    if desk.manner.is_for_machines:
        console.write_json(evaluated.for_machines(found, exit_code=code, report=report))
        return code
    out = console.stdout()
    console.show(out, evaluated.metrics_table(found))
    if found.changes:
        console.show(out, evaluated.changes_table(found))
    flips = evaluated.flipped_rows(desk.runner, found) if any(change.is_alarm for change in found.changes) else ()
    console.tell(out, evaluated.last_words(found, flips, report=report))
    return code


def deploy(folder: Path, pool: str) -> int:
    """Give every suite of a folder that has a schedule its deployment; returns the exit code. Raises ``BatchkitError``."""
    for line in driving.flows_entry().deploy(folder, pool=pool):
        console.say(console.stdout(), line)
    return exits.SUCCEEDED
