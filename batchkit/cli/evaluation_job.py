"""What ``eval`` does: run the evaluation with progress on the terminal, and print what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchkit.api.evaluations import evaluate_on
from batchkit.cli import driving, job
from batchkit.cli.options import common
from batchkit.cli.render import console, evaluated, exits, live, outcome
from batchkit.engine.runtime import Runner
from batchkit.engine.waves import DriveUntil
from batchkit.evaluation.suite_file import load_suite
from batchkit.files import outputs

if TYPE_CHECKING:
    from pathlib import Path

    from batchkit.cli.job import Desk, Manner
    from batchkit.engine.progress import Progress
    from batchkit.evaluation.results import EvaluationSummary
    from batchkit.settings import Settings
    from batchkit.steps.split import SplitOptions


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
            found = evaluate_on(
                runner,
                file,
                run=order.run,
                against=order.against,
                page=order.report,
                options=order.options,
                drive=lambda workload, until: desk.drive(workload, until=until),
                until=DriveUntil.SUBMITTED if order.is_submit_only else DriveUntil.FINISHED,
                counting=lambda label: live.counting(err, label, total=None, is_shown=desk.shows_bars),
            )
            if found.summary is None:
                return _leave_unfinished(found.progress, order, manner, again)
            if found.page_error is not None:
                console.complain(err, found.page_error)
            if found.is_ours and manner.use_prefect:
                mirror = driving.mirror_of(runner, on_note=lambda _note: None, verbose=manner.verbose)
                mirror.evaluated(found.summary, found.page)
        return _say(desk, found.summary, found.page)


def _leave_unfinished(progress: Progress | None, order: EvaluationOrder, manner: Manner, again: str) -> int:
    if progress is None:
        raise TypeError("a run without a summary waits for a workload")
    if order.is_submit_only and outcome.is_submitted(progress):
        lines = evaluated.submitted(progress, again=again.replace(" --submit-only", ""))
        return job.print_outcome(progress, manner, lines, code=exits.SUCCEEDED)
    return job.conclude(progress, manner, output=None, again=again)


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
