"""One pass over the open workloads: each is advanced by itself beside the others, so that none waits for another. Needs no Prefect."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchkit.engine.driver import DriveUntil
from batchkit.errors import BatchkitError, StoreUnavailable
from batchkit.remembered import write_remembered_output

from .adapter import Job

if TYPE_CHECKING:
    from collections.abc import Generator

    from batchkit.engine.driver import Wait, Waves
    from batchkit.engine.progress import Progress
    from batchkit.engine.runtime import Runner
    from batchkit.models import Workload
    from batchkit.steps.context import StepReport

_logger = logging.getLogger("batchkit.flows")


@dataclass(frozen=True, slots=True)
class Advanced:
    """What a pass came to for one workload: where it stands, sentences for the user, and what is away, if anything."""

    progress: Progress
    notes: tuple[str, ...] = ()
    trouble: str | None = None


def job_of(runner: Runner, workload: Workload) -> Job[Advanced]:
    """Make the job of a workload in a pass."""
    return Job(runner, advancing(runner, workload, until=DriveUntil.ONE_PASS), names={workload.id: workload.name})


def advancing(
    runner: Runner, workload: Workload, *, until: DriveUntil
) -> Generator[Waves | Wait, StepReport | None, Advanced]:
    """Drive a workload, and handle it when it is finished. Raises as ``Runner.drive``."""
    progress = yield from runner.drive(workload.id, until=until)
    if progress.is_finished:
        return Advanced(progress, on_finished(runner, progress))
    trouble = runner.trouble(workload.id)
    return Advanced(progress, trouble=None if trouble is None else trouble.what)


def on_finished(runner: Runner, progress: Progress) -> tuple[str, ...]:
    """Handle a workload that a pass or a worker has finished; the one place for it. Returns sentences for the user.

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
            f"{name}: the results could not be written: {message_of(error)}; `batchkit watch {name}` tries again",
        )
    return (finished,) if output is None else (finished, f"{name}: results written to {output.target}")


def is_of_all(error: Exception) -> bool:
    """Whether an error says nothing about the workload that met it: the next pass then tries it again as usual."""
    return isinstance(error, StoreUnavailable)


def message_of(error: Exception) -> str:
    """Say what an error is and what to do about it, in one line."""
    if isinstance(error, BatchkitError):
        return " ".join(filter(None, (error.message, error.hint and f"({error.hint})")))
    return f"{type(error).__name__}: {error}"


def log_trouble(name: str, error: Exception) -> None:
    """Write the traceback of an error that is not one of ours to the log."""
    if not isinstance(error, BatchkitError):
        _logger.error("%s: %s; it is tried again later", name, message_of(error), exc_info=error)
