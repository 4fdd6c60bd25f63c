"""Changing a workload that exists: cancel, resubmit, clean."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from batchkit.api.modes import RunMode
from batchkit.api.opening import drive_from, open_existing
from batchkit.api.outcomes import RunReport
from batchkit.api.remembered import write_remembered_output
from batchkit.engine.observer import DO_NOTHING, Observer
from batchkit.engine.progress import WorkloadState
from batchkit.engine.waves import DriveUntil

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.engine.progress import Progress
    from batchkit.settings import Settings
    from batchkit.steps.context import StepReport
    from batchkit.steps.split import SplitOptions


def cancel(
    name: str,
    *,
    settings: Settings | None = None,
    timeout_seconds: float | None = None,
    observer: Observer = DO_NOTHING,
) -> Progress:
    """Cancel a workload and wait until its batches have stopped (Groq: up to ten minutes); answers until then are kept.

    One that is finished stays as it is. Of a workload whose split was interrupted nothing was sent: there is nothing to wait for.
    Raises ``SplitUnfinished`` while another command is splitting it.
    """
    mode = RunMode(timeout_seconds=timeout_seconds, observer=observer)
    return cancel_workload(name, DriveUntil.FINISHED, settings, mode).progress


def resubmit(
    name: str, *, failed: bool = False, options: SplitOptions | None = None, settings: Settings | None = None
) -> int:
    """Make requests without an answer pending again; returns how many. Nothing is sent: ``watch`` and ``serve`` send them.

    Those are requests that were cancelled, expired or went missing, with ``failed`` also those that were refused. From then on what
    expires in the workload is sent again without being asked for, also in one of adopted batches. Of the ``options`` only the deadline
    counts.
    """
    return reopen_workload(name, settings, RunMode(), failed=failed, options=options).requests


def clean(
    name: str, *, keep_results: bool = False, with_adopted: bool = False, settings: Settings | None = None
) -> StepReport:
    """Delete a finished workload's files here and at the provider, and its rows unless ``keep_results``.

    The files of adopted batches stay at the provider unless ``with_adopted``.
    """
    return clean_workload(name, settings, RunMode(), keep_results=keep_results, with_adopted=with_adopted)


def cancel_workload(name: str, until: DriveUntil, settings: Settings | None, mode: RunMode) -> RunReport:
    """Do what ``cancel`` does; ``until`` ``ONE_PASS`` returns once the provider has been asked to stop all batches."""
    with open_existing(settings, mode) as runner:
        before = runner.progress(runner.find(name).id)
        progress = before
        if not before.is_finished:
            workload = runner.request_cancel(name)
            progress = runner.progress(workload.id)
            if progress.state is WorkloadState.INTERRUPTED:
                return RunReport(progress)
            progress = drive_from(runner, progress, until, mode)
        output = write_remembered_output(runner, progress, is_news=not before.is_finished, observer=mode.observer)
        return RunReport(progress, None if output is None else output.target, before.is_finished)


class Reopened(NamedTuple):
    """How many requests are pending again, where the workload stands then, and how many requests without an answer cannot be sent."""

    requests: int
    progress: Progress
    unsendable: int


def reopen_workload(
    name: str, settings: Settings | None, mode: RunMode, *, failed: bool, options: SplitOptions | None = None
) -> Reopened:
    """Do what ``resubmit`` does; ``options`` may name a deadline, and another budget."""
    with open_existing(settings, mode) as runner:
        if options is not None:
            runner.change_budget(runner.find(name), options)
        count = runner.reopen(name, failed=failed, options=options)
        workload = runner.find(name)
        return Reopened(count, runner.progress(workload.id), runner.unsendable(workload.id))


def clean_workload(
    name: str,
    settings: Settings | None,
    mode: RunMode,
    *,
    keep_results: bool,
    with_adopted: bool = False,
    confirm: Callable[[Progress], object] = lambda _progress: None,
) -> StepReport:
    """Do what ``clean`` does; ``confirm`` is called before anything is deleted, and what it raises ends the call."""
    with open_existing(settings, mode) as runner:
        confirm(runner.progress(runner.find(name).id))
        return runner.clean(name, keep_results=keep_results, with_adopted=with_adopted)
