"""The end of a command on stdout, for people or for machines, and its exit code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from batchkit.api import several
from batchkit.cli.render import console, display, exits, machine, outcome
from batchkit.engine.progress import WorkloadState
from batchkit.engine.waves import DriveUntil
from batchkit.errors import BatchkitError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.text import Text

    from batchkit.api.outcomes import RunReport, SeveralReport
    from batchkit.cli.render.terminal import Terminal


def conclude(report: RunReport, terminal: Terminal, *, until: DriveUntil = DriveUntil.FINISHED) -> int:
    """Print the result of a command that drove a workload; return the exit code."""
    progress = report.progress
    if until is DriveUntil.SUBMITTED and progress.is_held_by_budget:
        lines = outcome.unfinished(progress, terminal.where, again=terminal.again)
        return print_outcome(report, terminal, lines, code=exits.STOPPED_BY_BUDGET)
    if until is DriveUntil.SUBMITTED and not progress.is_finished and outcome.is_submitted(progress):
        return print_outcome(report, terminal, outcome.submitted(progress, terminal.where), code=exits.SUCCEEDED)
    if progress.is_finished:
        lines = outcome.summary(progress, terminal.where, output=output_of(report))
    else:
        lines = outcome.unfinished(progress, terminal.where, again=terminal.again)
    return print_outcome(report, terminal, lines, code=outcome.exit_code(progress))


def conclude_cancel(report: RunReport, terminal: Terminal, *, is_waiting: bool) -> int:
    """Print the result of a cancellation, which ``is_waiting`` for the last batch to end or not; return the exit code."""
    progress, where = report.progress, terminal.where
    if report.was_finished:
        lines = outcome.finished_before(progress, where, output=output_of(report))
    elif progress.state is WorkloadState.INTERRUPTED:
        lines = outcome.never_split(progress, where)
    elif progress.is_finished:
        lines = outcome.summary(progress, where, output=output_of(report))
    elif outcome.is_stopping(progress) and not is_waiting:
        lines = outcome.stopping(progress, where)
    else:
        lines = outcome.unfinished(progress, where, again=terminal.again)
        return print_outcome(report, terminal, lines, code=exits.NOT_FINISHED)
    return print_outcome(report, terminal, lines, code=exits.SUCCEEDED)


def print_outcome(report: RunReport, terminal: Terminal, lines: Iterable[Text], *, code: int) -> int:
    """Print ``lines`` for people, or the snapshot with the exit code for machines; return the exit code."""
    if terminal.is_for_machines:
        console.write_json(machine.outcome(report.progress, exit_code=code, output=output_of(report)))
    else:
        console.tell(console.stdout(), lines)
    return code


def output_of(report: RunReport) -> Path | None:
    """Return the printed name of the results' file or table."""
    return None if report.output is None else Path(report.output)


def conclude_all(report: SeveralReport, terminal: Terminal) -> int:
    """Print the results of several workloads, and which of them failed; return the worst of their exit codes."""
    if not terminal.is_for_machines:
        console.tell(console.stdout(), outcome.written(map(Path, report.outputs)))
    names = {workload.name for workload, _ in report.failed}
    ended = [outcome.exit_code(progress) for progress in report.snapshots if progress.workload.name not in names]
    code = _worst(ended, [error for _, error in report.failed])
    messages = [several.message_of(workload, error) for workload, error in report.failed]
    err = console.stderr()
    for message in messages:
        console.say(err, f"error: {message}")
    if terminal.is_for_machines:
        console.write_json(machine.outcome_of_all(report.snapshots, exit_code=code, errors=messages))
    elif report.snapshots:
        console.show(console.stdout(), display.overview(report.snapshots))
    elif not report.failed:
        console.say(console.stdout(), "no workload is open")
    return code


def _worst(ended: Sequence[int], errors: Sequence[Exception]) -> int:
    """Return the worst exit code: a bug, then unfinished work; 2 means that nothing was sent for any workload."""
    codes = [error.exit_code if isinstance(error, BatchkitError) else 1 for error in errors]
    if 1 in codes:
        return 1
    if ended and exits.USAGE in codes:
        codes = [exits.NOT_FINISHED]
    every = [*ended, *codes]
    # What the same command resumes comes before what it cannot.
    if exits.NOT_FINISHED in every:
        every = [code for code in every if code != exits.STOPPED_BY_BUDGET]
    return max(every, default=exits.SUCCEEDED)
