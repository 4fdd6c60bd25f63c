"""What the command line calls of the Prefect side. Importing this does not import Prefect; that happens beside the work."""

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

#: By home: a command that drives several workloads shows them through one.
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

    Raises ``ConfigurationError`` without the task runner of the settings.
    """
    check_task_runner(settings)
    _quieten(verbose=verbose)
    if settings.home not in _mirrors:
        _mirrors[settings.home] = Mirror(
            settings.home, on_note=on_note, read=read, until=until, interval_seconds=interval_seconds
        )
    return _mirrors[settings.home]


def leads(settings: Settings) -> bool:
    """Whether a flow has to lead in the foreground: waves of a cluster are tasks of a flow."""
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
    """Drive a workload as a ``process_workload`` flow whose waves are done in a cluster; else as ``batchkit.api.driving.drive``."""
    check_task_runner(runner.settings)
    _quieten(verbose=verbose)
    from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: PLC0415 - takes more than a second

    from batchkit.api.driving import drive  # noqa: PLC0415 - loads the engine

    from .leading import Given, given  # noqa: PLC0415 - imports Prefect
    from .process_workload import process_workload  # noqa: PLC0415 - as above
    from .server import NoServer, ServerChoice  # noqa: PLC0415 - as above

    async def run() -> None:
        await process_workload(int(workload.id), workload.name, until.value, return_state=True)

    ending = _Ending()
    server = ServerChoice(runner.settings.home)
    trouble = "Prefect failed"
    try:
        url = server.choose(on_note=on_note, is_leaving=threading.Event())
        with temporary_settings({PREFECT_API_URL: url}):
            given.set(Given(runner, Observers(observer, ending), stop_at))
            asyncio.run(run())
    except NoServer as error:
        trouble = str(error)
    except Exception as error:  # noqa: BLE001 - what Prefect does must not end the work
        trouble = f"Prefect failed ({type(error).__name__})"
    finally:
        server.close()
    progress = ending.result()
    if progress is None:
        on_note(f"{trouble}; the work continues without Prefect")
        return drive(runner, workload, until=until, stop_at=stop_at, observer=observer)
    return progress


def deploy(folder: Path, *, pool: str) -> list[str]:
    """Give every suite of a folder that has a schedule its deployment on a work pool; returns what was done, a line each.

    Raises ``InputInvalid`` with what is wrong in a suite, and ``ConfigurationError`` when the Prefect server cannot be reached.
    """
    from .deployments import deploy_suites  # noqa: PLC0415 - imports Prefect

    return deploy_suites(folder, pool=pool)


def leave(exit_code: int) -> NoReturn:
    """End the process with this code; the last reports get a second or two to be written."""
    try:
        _flush()
        for mirror in _mirrors.values():
            mirror.close()
    except KeyboardInterrupt:
        pass  # the second Ctrl-C of somebody in a hurry; the temporary server ends with us
    finally:
        _flush()
        # Not sys.exit: a thread that is still importing Prefect, or waiting for its server, must not hold up the exit.
        os._exit(exit_code)


class _Ending(Observer):
    """Keeps how a drive ended: a flow's own result is a state of Prefect's."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._error: Exception | None = None

    def finished(self, progress: Progress) -> None:
        """Keep the last snapshot."""
        self._progress = progress

    def failed(self, workload: Workload, error: Exception) -> None:  # noqa: ARG002 - there is one workload
        """Keep the error."""
        self._error = error

    def result(self) -> Progress | None:
        """Return the last snapshot, or raise the error that ended the drive; None when Prefect failed before that."""
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
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
