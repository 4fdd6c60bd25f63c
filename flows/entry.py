"""What the command line calls: a workload as a Prefect flow in this process, the schedule in one process, and the way out.

Importing this does not import Prefect; that happens beside the work.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from .adapter import Job
from .clusters import check_task_runner
from .collecting import Finding, finished, is_due
from .engine import Engine
from .foreground import Foreground
from .serving import Schedule, load_collect_evaluations

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from batchkit.engine.driver import DriveUntil, Wait, Wave
    from batchkit.engine.progress import Progress
    from batchkit.engine.runtime import Runner
    from batchkit.evaluation.results import EvaluationSummary
    from batchkit.models import Workload
    from batchkit.settings import Settings
    from batchkit.steps.context import StepReport

#: How long a command may wait for Prefect when its own work is done.
_LEAVE_SECONDS = 10.0
#: How long when the user has interrupted it, and waits at the prompt.
_LEAVE_INTERRUPTED_SECONDS = 3.0
_INTERRUPTED = 130
#: How long the work waits for the flow to begin. Beside a running server that takes 3 s; nobody waits for a temporary one.
_PATIENCE_SECONDS = 20.0

#: A flow that shows what is known already is never late.
_ANNOUNCE_SECONDS = 3_600.0

_engines: list[Engine] = []


def process(
    runner: Runner,
    workload: Workload,
    *,
    until: DriveUntil,
    deadline: float | None,
    on_wave: Callable[[Wave, StepReport], None],
    on_wait: Callable[[Wait], None],
    on_note: Callable[[str], None],
    verbose: bool,
) -> Progress:
    """Drive a workload as a ``process_workload`` flow; the same as ``runner.process`` in result and exceptions.

    ``deadline`` is in Unix seconds. All callbacks are called in this thread. With a server configured the work begins with
    the flow; without one a temporary server is started, and the work begins at once. Prefect, whatever becomes of it, is a
    note. Call ``leave`` at the end of the process. Raises ``ConfigurationError`` without the task runner of the settings.
    """
    check_task_runner(runner.settings)
    job = Job(
        runner,
        runner.drive(workload.id, until=until, deadline=deadline),
        names={workload.id: workload.name},
        on_wave=on_wave,
        on_wait=on_wait,
    )
    foreground = Foreground(on_note, runner.crew, patience_seconds=_PATIENCE_SECONDS)
    load_flow = partial(_load_process_workload, int(workload.id), workload.name, until.value)
    _engine(runner.settings.home, verbose=verbose).start([(job, foreground)], foreground, load_flow)
    foreground.work(job)
    return job.result()


def serve(
    settings: Settings, *, interval_seconds: float, on_note: Callable[[str], None], ticks: int | None = None
) -> None:
    """Take every open workload one pass further every ``interval_seconds``, until Ctrl-C or SIGTERM, or for ``ticks``.

    A pass is an ``advance_workloads`` flow in this process; where nothing is open there is none. Runs of suites whose answers are all
    there are scored after it, in a ``collect_evaluations`` flow. An outage of the provider,
    the database or the Prefect server is a note, and the next pass comes all the same. Any error of one workload is a note, and
    that workload is tried again after a growing wait. ``on_note`` may be called in any thread. The first Ctrl-C or SIGTERM gives
    the present waves two seconds to end; the second is a ``KeyboardInterrupt``. Call ``leave`` afterwards. Raises what opening a ``Runner`` raises, and
    ``ConfigurationError`` without the task runner of the settings.
    """
    check_task_runner(settings)
    engine = _engine(settings.home, verbose=False)
    schedule = Schedule(settings, engine, interval_seconds=interval_seconds, on_note=on_note, has_evaluations=is_due)
    schedule.run(ticks)


def announce(runner: Runner, found: EvaluationSummary, report: Path | None, *, verbose: bool) -> None:
    """Show a run that this command has finished: artifacts, and the event of a fall. Prefect may be gone; then nothing is shown.

    Returns at once where no server is configured; ``leave`` gives what is still on its way its time.
    """
    job = Job(runner, finished(Finding(found.run, found, report)), names={})
    foreground = Foreground(lambda _note: None, runner.crew, patience_seconds=_PATIENCE_SECONDS)
    _engine(runner.settings.home, verbose=verbose).start(
        [(job, foreground)], foreground, lambda: load_collect_evaluations(_ANNOUNCE_SECONDS)
    )
    foreground.work(job)


def deploy(folder: Path, *, pool: str) -> list[str]:
    """Give every suite of a folder that has a schedule its deployment on a work pool; says what was done, a line each.

    Raises ``InputInvalid`` with what is wrong in a suite, and ``ConfigurationError`` when the Prefect server cannot be reached.
    """
    from .deployments import deploy_suites  # noqa: PLC0415 - imports Prefect

    return deploy_suites(folder, pool=pool)


def leave(exit_code: int) -> NoReturn:
    """End the process with this code; Prefect gets at most 10 s to send what is queued, and its temporary server ends.

    After an interrupt (130) it gets 3 s.
    """
    try:
        _flush()
        for engine in _engines:
            is_hasty = engine.is_stopped or exit_code == _INTERRUPTED
            engine.finish(_LEAVE_INTERRUPTED_SECONDS if is_hasty else _LEAVE_SECONDS)
    except KeyboardInterrupt:
        pass  # the second Ctrl-C of somebody in a hurry; the temporary server ends with us
    finally:
        _flush()
        # Not sys.exit: at a normal exit Prefect waits for its queues, for minutes when the server is gone.
        os._exit(exit_code)


def _engine(home: Path, *, verbose: bool) -> Engine:
    if verbose:
        os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "INFO"
    else:
        # Prefect writes "Error logging to API" straight to stderr when its server is gone, unless this is off.
        logging.raiseExceptions = False
    # A command may run several flows one after the other: they share a server.
    known = next((engine for engine in _engines if engine.home == home), None)
    if known is None:
        known = Engine(home)
        _engines.append(known)
    return known


def _load_process_workload(workload_id: int, workload_name: str, until: str) -> Callable[[], Coroutine[Any, Any, None]]:
    from .process_workload import process_workload  # noqa: PLC0415 - imports Prefect

    async def call() -> None:
        await process_workload(workload_id, workload_name, until, return_state=True)

    return call


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
