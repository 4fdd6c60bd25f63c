"""Prefect as the command line uses it: it shows the work, leads it where waves are done in a cluster, and may not hold up the exit."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from batchkit.api import driving, several
from batchkit.engine.observer import Observer, Observers
from batchkit.errors import BatchkitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from batchkit.engine.observer import Reader
    from batchkit.engine.progress import Progress
    from batchkit.engine.runtime import Runner
    from batchkit.engine.waves import DriveUntil
    from batchkit.evaluation.results import EvaluationSummary
    from batchkit.models import Workload, WorkloadId
    from batchkit.settings import Settings

_ENTRY = "batchkit.flows.entry"


def flows_entry() -> Any:
    """Load the Prefect side: the only place from which batchkit does."""
    return importlib.import_module(_ENTRY)


def check_task_runner(settings: Settings) -> None:
    """Raise ``ConfigurationError`` without the task runner that the settings name, before anything is driven."""
    if flows_entry().leads(settings):
        flows_entry().check_task_runner(settings)


def leave(exit_code: int) -> NoReturn:
    """End the process after everything is printed; neither Prefect, if it was used, nor a call that was left may hold up the exit."""
    if _ENTRY in sys.modules:
        flows_entry().leave(exit_code)
    if several.has_left_calls():
        for stream in (sys.stdout, sys.stderr):
            # The stream may be closed, or its reader gone.
            with suppress(OSError, ValueError):
                stream.flush()
        # Not sys.exit: it would wait for the threads of these calls.
        os._exit(exit_code)
    sys.exit(exit_code)


class PrefectView(Observers):
    """Shows the work in Prefect, which is loaded when the work begins.

    ``on_note`` is told what the user should know about Prefect; ``until`` is a parameter of the flow runs.
    """

    def __init__(
        self, settings: Settings, *, until: DriveUntil, on_note: Callable[[str], None], verbose: bool = False
    ) -> None:
        super().__init__()
        self._settings = settings
        self._until = until
        self._on_note = on_note
        self._verbose = verbose
        self._reader: Reader | None = None
        self._lock = threading.Lock()

    def opened(self, workloads: Sequence[Workload], reader: Reader) -> None:  # noqa: ARG002 - a drive that begins names its own
        """Keep what reads the workloads."""
        self._reader = reader

    def began(self, workload: Workload) -> None:
        """Show that a drive begins."""
        self._load(self._on_note)
        super().began(workload)

    def evaluated(self, summary: EvaluationSummary, report: Path | None) -> None:
        """Show what came of a run of a suite."""
        # Where nothing was driven, Prefect is not worth a word.
        self._load(lambda _note: None)
        super().evaluated(summary, report)

    def _load(self, on_note: Callable[[str], None]) -> None:
        with self._lock:
            if self._observers:
                return
            mirror: Observer = flows_entry().open_mirror(
                self._settings, on_note=on_note, read=self._read, until=self._until, verbose=self._verbose
            )
            self._observers = (mirror,)

    def _read(self, workload_id: WorkloadId) -> Progress | None:
        try:
            return None if self._reader is None else self._reader.progress(workload_id)
        except BatchkitError:
            return None


def led_drive(observer: Observer, *, on_note: Callable[[str], None], verbose: bool) -> Callable[..., Progress]:
    """Return what drives one workload as ``batchkit.api.driving.drive`` does, or has a flow lead where the settings name a cluster.

    A flow shows itself: it tells ``observer`` only.
    """

    def drive(
        runner: Runner, workload: Workload, *, until: DriveUntil, stop_at: float | None, observer: Observer
    ) -> Progress:
        if not flows_entry().leads(runner.settings):
            return driving.drive(runner, workload, until=until, stop_at=stop_at, observer=observer)
        progress: Progress = flows_entry().lead(
            runner, workload, until=until, stop_at=stop_at, observer=shown, on_note=on_note, verbose=verbose
        )
        return progress

    shown = Observers(observer)
    return drive
