"""Doing the work of a command: driving one workload or several, shown on the terminal and in Prefect."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from batchkit.api import several
from batchkit.api.driving import drive
from batchkit.cli.render import exits
from batchkit.cli.render.console import tell
from batchkit.engine.observer import Observer, Observers
from batchkit.engine.waves import DriveUntil
from batchkit.errors import BatchkitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.console import Console
    from rich.text import Text

    from batchkit.cli.render.live import Reporter
    from batchkit.engine.driver import Outcome
    from batchkit.engine.progress import Progress
    from batchkit.engine.runtime import Runner
    from batchkit.engine.waves import Wait, Wave
    from batchkit.models import Workload, WorkloadId

_ENTRY = "batchkit.flows.entry"


def flows_entry() -> Any:
    """Load the Prefect side: the only place from which the command line does."""
    return importlib.import_module(_ENTRY)


def leave(exit_code: int) -> NoReturn:
    """End the process after everything is printed; neither Prefect, if it was used, nor a call that was left may hold up the exit."""
    if _ENTRY in sys.modules:
        flows_entry().leave(exit_code)
    if several.has_left_calls():
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(exit_code)
    sys.exit(exit_code)


class TerminalObserver(Observer):
    """Tells a reporter; with ``is_alone`` the wait of the one workload is the command's."""

    def __init__(self, reporter: Reporter, *, verbose: bool, is_alone: bool = True) -> None:
        self._reporter = reporter
        self._verbose = verbose
        self._is_alone = is_alone

    def note(self, text: str) -> None:
        """Print a note."""
        self._reporter.note(text)

    def wave_ended(self, wave: Wave, outcome: Outcome) -> None:
        """Print the notes of a wave, and with ``verbose`` what it did."""
        if isinstance(outcome, Exception):
            return
        if self._verbose:
            counts = ", ".join(f"{count:,} {what}" for what, count in outcome.counts.items() if count)
            self._tell((f"{wave.kind.value}: {counts or 'nothing'}",))
        self._tell(outcome.notes)

    def waiting(self, workload_id: WorkloadId, wait: Wait) -> None:  # noqa: ARG002 - the notes name it where that matters
        """Print the notes of a pass, and count down."""
        self._tell(wait.notes)
        if self._is_alone:
            self._reporter.waiting(wait.until)

    def _tell(self, notes: Iterable[str]) -> None:
        for note in notes:
            self._reporter.note(note)


@dataclass(frozen=True, slots=True)
class Driving:
    """How a command drives: shown in Prefect or not, until when (``stop_at`` in Unix seconds), and where it reports."""

    reporter: Reporter
    use_prefect: bool
    verbose: bool
    stop_at: float | None = None

    def drive(self, runner: Runner, workload: Workload, *, until: DriveUntil = DriveUntil.FINISHED) -> Progress:
        """Drive one workload; returns the last snapshot."""
        terminal = TerminalObserver(self.reporter, verbose=self.verbose)
        if self.use_prefect and flows_entry().leads(runner.settings):
            progress: Progress = flows_entry().lead(
                runner,
                workload,
                until=until,
                stop_at=self.stop_at,
                observer=terminal,
                on_note=self.reporter.note,
                verbose=self.verbose,
            )
            return progress
        return drive(
            runner, workload, until=until, stop_at=self.stop_at, observer=self._observers(runner, terminal, until)
        )

    def drive_all(
        self, runner: Runner, workloads: Sequence[Workload], *, wait: Callable[[float], object]
    ) -> list[Progress | Exception]:
        """Drive several workloads at the same time, until all are finished or only failing ones are left.

        Returns for each where it stands or the error that it ended with, in their order. ``wait`` sleeps for seconds; it is called
        in this thread, while no workload has work.
        """
        terminal = TerminalObserver(self.reporter, verbose=self.verbose, is_alone=False)
        return several.drive_all(
            runner,
            workloads,
            observer=self._observers(runner, terminal, DriveUntil.FINISHED),
            stop_at=self.stop_at,
            wait=wait,
            idle_until=self.reporter.waiting,
        )

    def _observers(self, runner: Runner, terminal: Observer, until: DriveUntil) -> Observer:
        if not self.use_prefect:
            return Observers(terminal)
        return Observers(terminal, mirror_of(runner, on_note=self.reporter.note, until=until, verbose=self.verbose))


def mirror_of(
    runner: Runner, *, on_note: Callable[[str], None], until: DriveUntil | None = None, verbose: bool = False
) -> Observer:
    """Return the observer that shows the work of a runner in Prefect."""

    def read(workload_id: WorkloadId) -> Progress | None:
        try:
            return runner.progress(workload_id)
        except BatchkitError:
            return None

    mirror: Observer = flows_entry().open_mirror(
        runner.settings, on_note=on_note, read=read, until=until, verbose=verbose
    )
    return mirror


@contextmanager
def interruptible(console: Console, farewell: Callable[[], Iterable[Text]]) -> Iterator[None]:
    """Turn Ctrl-C into exit code 130 and a few lines that say what goes on and how to come back."""
    try:
        yield
    except KeyboardInterrupt:
        tell(console, farewell())
        raise typer.Exit(exits.INTERRUPTED) from None
