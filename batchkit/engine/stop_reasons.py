"""Why a command stopped working on a workload, as the status shows it later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit.engine.budget_texts import budget_text
from batchkit.engine.waves import DriveUntil
from batchkit.errors import BatchkitError

if TYPE_CHECKING:
    from batchkit.engine.progress import Progress

INTERRUPTED = "interrupted"
COMMAND_ENDED = "the command ended"

#: Why a drive without an error ended before its workload was finished.
_ENDED_EARLY = {
    DriveUntil.FINISHED: "its time was up",
    DriveUntil.SUBMITTED: "everything was submitted",
    DriveUntil.ONE_PASS: "the command waits for no batch",
}
#: The exit code of a command after Ctrl-C.
_INTERRUPTED_CODE = 130


def of_end(until: DriveUntil, progress: Progress) -> str:
    """Return why a drive without an error ended."""
    if progress.is_finished:
        return "finished"
    return budget_text(progress) or _ENDED_EARLY[until]


def of_error(error: BaseException | None) -> str:
    """Return why a command ended: the message of its error, or a fixed phrase after Ctrl-C and without an error."""
    if error is None:
        return COMMAND_ENDED
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, BatchkitError):
        return error.message
    code = getattr(error, "exit_code", None)
    if code is None:
        return f"{type(error).__name__}: {error}"
    return INTERRUPTED if code == _INTERRUPTED_CODE else COMMAND_ENDED
