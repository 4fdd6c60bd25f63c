"""What ``export``, ``cancel``, ``resubmit`` and ``clean`` do."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from batchkit import formatting
from batchkit.api import existing
from batchkit.cli import driving
from batchkit.cli.job import Desk, Manner, print_outcome
from batchkit.cli.options import common
from batchkit.cli.render import console, display, exits, outcome
from batchkit.engine.progress import WorkloadState
from batchkit.engine.waves import DriveUntil
from batchkit.errors import UsageError
from batchkit.models import TERMINAL_STATUSES, BatchStatus
from batchkit.steps.export import check_target, input_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batchkit.engine.progress import Progress
    from batchkit.settings import Settings

_STOPPING = TERMINAL_STATUSES | {BatchStatus.CANCELLING, BatchStatus.FINALIZING}


def export(name: str, target: Path, settings: Settings, manner: Manner, *, raw_csv: bool) -> int:
    """Write the results as they are now; returns the exit code. Raises ``UsageError`` for what cannot be written."""
    check_target(target)
    with existing.open_runner(settings, verb=common.verb()) as runner:
        desk = Desk(runner, manner, console.stderr())
        workload = runner.find(name)
        check_target(target, inputs=input_files(workload))
        count = desk.export(workload, target, raw_csv=raw_csv)
        unresolved = runner.progress(workload.id).counts.unresolved
    console.say(console.stdout(), f"{formatting.counted(count, 'line')} written to {target}")
    if unresolved:
        console.say(
            desk.err, f"note: {formatting.counted(unresolved, 'request')} without a final result, pending or in flight"
        )
    return exits.SUCCEEDED


def cancel(name: str, settings: Settings, manner: Manner, *, stay: bool) -> int:
    """Have a workload stopped, and with ``stay`` wait for its end; returns the exit code. Raises ``BatchkitError``."""
    with existing.open_runner(settings, verb=common.verb()) as runner:
        # One pass is not worth the start of Prefect.
        desk = Desk(runner, manner if stay else replace(manner, use_prefect=False), console.stderr())
        workload = runner.find(name)
        again = common.same_command()
        progress = runner.progress(workload.id)
        if progress.is_finished:
            output = desk.write_remembered(progress, is_news=False)
            lines = outcome.finished_before(progress, manner.where, output=output)
            return print_outcome(progress, manner, lines, code=exits.SUCCEEDED, output=output)
        workload = runner.request_cancel(name)
        if progress.state is WorkloadState.INTERRUPTED:
            return print_outcome(progress, manner, outcome.never_split(progress, manner.where), code=exits.SUCCEEDED)
        with driving.interruptible(desk.err, lambda: outcome.interrupted(desk.picture(), manner.where, again=again)):
            progress = desk.drive(workload, until=DriveUntil.FINISHED if stay else DriveUntil.ONE_PASS)
            output = desk.write_remembered(progress)
    if progress.is_finished:
        lines = outcome.summary(progress, manner.where, output=output)
        return print_outcome(progress, manner, lines, code=exits.SUCCEEDED, output=output)
    if _is_stopping(progress) and not stay:
        lines = _being_stopped(progress, manner)
    else:
        lines = outcome.unfinished(progress, manner.where, again=again)
        return print_outcome(progress, manner, lines, code=exits.NOT_FINISHED)
    return print_outcome(progress, manner, lines, code=exits.SUCCEEDED)


def resubmit(name: str, settings: Settings, manner: Manner, *, failed: bool, stay: bool) -> int:
    """Reopen a workload, and with ``stay`` drive it until it is done; returns the exit code. Raises ``BatchkitError``."""
    with existing.open_runner(settings, verb=common.verb()) as runner:
        desk = Desk(runner, manner, console.stderr())
        workload = runner.find(name)
        count = runner.reopen(name, failed=failed)
        progress = runner.progress(workload.id)
        if not manner.is_for_machines:
            console.say(desk.err, f"{formatting.counted(count, 'request')} to be sent again")
            if progress.counts.failed:
                more = formatting.counted(progress.counts.failed, "failed request")
                console.say(desk.err, f"hint: --failed also sends {more} again")
        if stay:
            return desk.finish(workload)
    again = manner.where.command("watch", name)
    return print_outcome(
        progress, manner, outcome.unfinished(progress, manner.where, again=again), code=exits.SUCCEEDED
    )


def clean(name: str, settings: Settings, manner: Manner, *, keep_results: bool, ask: bool) -> int:
    """Delete a finished workload, after a question; returns the exit code. Raises ``UsageError`` when it is refused."""
    with existing.open_runner(settings, verb=common.verb()) as runner:
        console.log_to(console.stderr(), verbose=manner.verbose)
        counts = runner.progress(runner.find(name).id).counts
        if ask:
            what = (
                "the files"
                if keep_results
                else f"the files and the results of {formatting.counted(counts.total, 'request')}"
            )
            _confirm(f"Delete {what} of {formatting.printable(name)!r}, here and at the provider?")
        report = runner.clean(name, keep_results=keep_results)
    freed = formatting.size(report.counts.get("bytes freed", 0))
    remote = formatting.counted(report.counts.get("remote files deleted", 0), "file")
    kept = "; the results are kept" if keep_results else ""
    console.say(
        console.stdout(), f"{formatting.printable(name)}: {remote} deleted at the provider, {freed} freed here{kept}"
    )
    return exits.SUCCEEDED


def _is_stopping(progress: Progress) -> bool:
    """Whether every batch was asked to stop, and nothing is left to be sent."""
    return outcome.is_submitted(progress) and all(status in _STOPPING for status in progress.batches)


def _being_stopped(progress: Progress, manner: Manner) -> Iterator[Text]:
    name = progress.workload.name
    batches = formatting.counted(sum(progress.batches.values()), "batch", "batches")
    yield Text(f"{formatting.printable(name)}: {batches} asked to stop, which may take ten minutes")
    yield Text(display.plain_line(progress, display.Moment(progress.read_at)), style="dim")
    yield outcome.next_step("wait", manner.where.command("watch", name))


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            "not a terminal, so nobody can be asked; nothing was deleted", hint="--yes deletes without a question"
        )
    try:
        is_sure = typer.confirm(question, err=True)
    except typer.Abort:
        is_sure = False
    if not is_sure:
        raise UsageError("nothing was deleted")
