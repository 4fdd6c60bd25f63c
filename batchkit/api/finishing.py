"""What a pass does beside the drive itself: it finishes what has ended, and logs errors."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from batchkit.api.remembered import write_remembered_output
from batchkit.errors import BatchkitError, StoreUnavailable, one_line

if TYPE_CHECKING:
    from batchkit.engine.progress import Progress
    from batchkit.engine.runtime import Runner

_logger = logging.getLogger(__name__)


def on_finished(runner: Runner, progress: Progress) -> tuple[str, ...]:
    """Handle a workload that a pass or a worker has finished. Returns sentences for the user.

    Its results are written where a command wanted them, if that is possible here. Several processes may call it for one
    workload, at the same time too.
    """
    name = progress.workload.name
    finished = f"{name}: finished, {progress.counts.succeeded:,} succeeded"
    try:
        output = write_remembered_output(runner, progress)
    except BatchkitError as error:
        return (
            finished,
            f"{name}: the results could not be written: {one_line(error)}; `batchkit watch {name}` tries again",
        )
    return (finished,) if output is None else (finished, f"{name}: results written to {output.target}")


def is_about_all(error: Exception) -> bool:
    """Whether an error says nothing about the workload that met it: the next pass then tries it again as usual."""
    return isinstance(error, StoreUnavailable)


def log_trouble(name: str, error: Exception) -> None:
    """Write the traceback of an error that is not one of ours to the log."""
    if not isinstance(error, BatchkitError):
        _logger.error("%s: %s; it will be tried again", name, one_line(error), exc_info=error)
