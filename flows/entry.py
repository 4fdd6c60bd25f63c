"""The functions of the Prefect side for the command line. Importing this module does not import Prefect."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

from batchkit.engine.observer import Observer, Observers

from .clusters import check_task_runner
from .mirror import Mirror

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batchkit.engine.progress import Progress
    from batchkit.engine.runtime import Runner
    from batchkit.engine.waves import DriveUntil
    from batchkit.models import Workload, WorkloadId
    from batchkit.settings import Settings

#: One mirror for each home, which shows all workloads of the command.
_mirrors: dict[Path, Mirror] = {}


def open_mirror(
    settings: Settings,
    *,
    on_note: Callable[[str], None],
    read: Callable[[WorkloadId], Progress | None] = lambda _workload_id: None,
    until: DriveUntil | None = None,
    interval_seconds: float | None = None,
    verbose: bool = False,
) -> Observer:
    """Return the observer that shows the work of this process in Prefect; see ``Mirror``. ``leave`` ends it.

    Raises ``ConfigurationError`` if the task runner of the settings is not installed.
    """
    check_task_runner(settings)
    _quieten(verbose=verbose)
    if settings.home not in _mirrors:
        _mirrors[settings.home] = Mirror(
            settings.home, on_note=on_note, read=read, until=until, interval_seconds=interval_seconds
        )
    return _mirrors[settings.home]


def leads(settings: Settings) -> bool:
    """Return whether a flow must lead in the foreground: waves of a cluster are tasks of a flow."""
    return settings.task_runner != "threads"


def lead(
    runner: Runner,
    workload: Workload,
    *,
    until: DriveUntil,
    stop_at: float | None,
    observer: Observer,
    on_note: Callable[[str], None],
    verbose: bool = False,
) -> Progress:
    """Drive a workload as a ``process_workload`` flow with its waves in a cluster; without Prefect as ``api.driving.drive``."""
    check_task_runner(runner.settings)
    _quieten(verbose=verbose)
    from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: PLC0415 - takes more than a second

    from batchkit.api.driving import drive  # noqa: PLC0415 - loads the engine

    from .leading import CommandContext, command_context  # noqa: PLC0415 - imports Prefect
    from .process_workload import process_workload  # noqa: PLC0415 - as above
    from .server import NoServer, ServerChoice  # noqa: PLC0415 - as above

    async def run() -> None:
        await process_workload(int(workload.id), workload.name, until.value, return_state=True)

    result = _DriveResult()
    server = ServerChoice(runner.settings.home)
    trouble = "Prefect failed"
    try:
        url = server.choose(on_note=on_note, is_leaving=threading.Event())
        with temporary_settings({PREFECT_API_URL: url}):
            command_context.set(CommandContext(runner, Observers(observer, result), stop_at))
            asyncio.run(run())
    except NoServer as error:
        trouble = str(error)
    except Exception as error:  # noqa: BLE001 - an error in Prefect must not end the work
        trouble = f"Prefect failed ({type(error).__name__})"
    finally:
        server.close()
    progress = result.get()
    if progress is None:
        on_note(f"{trouble}; the work continues without Prefect")
        return drive(runner, workload, until=until, stop_at=stop_at, observer=observer)
    return progress


def deploy(folder: Path, *, pool: str) -> list[str]:
    """Deploy every suite of a folder that has a schedule on a work pool; return a line for each suite.

    Raises ``InputInvalid`` with the problems of a suite, and ``ConfigurationError`` if the Prefect server cannot be reached.
    """
    from .deployments import deploy_suites  # noqa: PLC0415 - imports Prefect

    return deploy_suites(folder, pool=pool)


def leave(exit_code: int) -> NoReturn:
    """End the process with this code; the last reports are written within a second or two."""
    try:
        _flush()
        for mirror in _mirrors.values():
            mirror.close()
    except KeyboardInterrupt:
        pass  # a second Ctrl-C; the temporary server ends with this process
    finally:
        _flush()
        # Not sys.exit: a thread that is still importing Prefect, or waiting for its server, must not delay the exit.
        os._exit(exit_code)


class _DriveResult(Observer):
    """Stores the result of a drive: a flow's own result is a state of Prefect."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._error: Exception | None = None

    def finished(self, progress: Progress) -> None:
        """Store the last snapshot."""
        self._progress = progress

    def failed(self, workload: Workload, error: Exception) -> None:  # noqa: ARG002 - there is one workload
        """Store the error."""
        self._error = error

    def get(self) -> Progress | None:
        """Return the last snapshot, or raise the error that ended the drive; None if Prefect failed before that."""
        if self._error is not None:
            raise self._error
        return self._progress


def _quieten(*, verbose: bool) -> None:
    if verbose:
        os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "INFO"
    else:
        # Prefect writes "Error logging to API" straight to stderr when its server is gone, unless this is off.
        logging.raiseExceptions = False


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        # The stream may be closed or absent, or its reader gone.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
