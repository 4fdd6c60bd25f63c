"""Changing a workload that exists: cancel, resubmit, clean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit.api.opening import drive_named, open_existing
from batchkit.api.remembered import write_remembered_output
from batchkit.engine.observer import DO_NOTHING, Observer
from batchkit.engine.progress import WorkloadState
from batchkit.engine.waves import DriveUntil

if TYPE_CHECKING:
    from batchkit.engine.progress import Progress
    from batchkit.settings import Settings
    from batchkit.steps.context import StepReport


def cancel(
    name: str,
    *,
    settings: Settings | None = None,
    timeout_seconds: float | None = None,
    observer: Observer = DO_NOTHING,
) -> Progress:
    """Cancel a workload and wait until its batches have stopped (Groq: up to ten minutes); answers until then are kept.

    Of a workload whose split was interrupted nothing was sent: there is nothing to wait for. Raises ``SplitUnfinished`` while
    another command is splitting it.
    """
    with open_existing(settings) as runner:
        workload = runner.request_cancel(name)
        progress = runner.progress(workload.id)
        if progress.state is WorkloadState.INTERRUPTED:
            return progress
        progress = drive_named(runner, name, DriveUntil.FINISHED, timeout_seconds=timeout_seconds, observer=observer)
        write_remembered_output(runner, progress)
        return progress


def resubmit(name: str, *, failed: bool = False, settings: Settings | None = None) -> int:
    """Make cancelled requests, and with ``failed`` failed ones, pending again; returns how many. ``watch`` then sends them."""
    with open_existing(settings) as runner:
        return runner.reopen(name, failed=failed)


def clean(name: str, *, keep_results: bool = False, settings: Settings | None = None) -> StepReport:
    """Delete a finished workload's files here and at the provider, and its rows unless ``keep_results``."""
    with open_existing(settings) as runner:
        return runner.clean(name, keep_results=keep_results)
