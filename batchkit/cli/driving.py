"""Doing the work of a command: one workload as a Prefect flow or in the plain loop, or several at the same time."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from batchkit.cli import several
from batchkit.cli.render import exits
from batchkit.cli.render.console import tell
from batchkit.engine.driver import DriveUntil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.console import Console
    from rich.text import Text

    from batchkit.cli.render.live import Reporter
    from batchkit.engine.driver import Wait, Wave
    from batchkit.engine.progress import Progress
    from batchkit.engine.runtime import Runner
    from batchkit.models import Workload
    from batchkit.steps.context import StepReport

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


@dataclass(frozen=True, slots=True)
class Drive:
    """How to drive: with Prefect or without, until when (``deadline`` in Unix seconds), and where to report."""

    reporter: Reporter
    use_prefect: bool
    verbose: bool
    deadline: float | None = None

    def process(self, runner: Runner, workload: Workload, *, until: DriveUntil = DriveUntil.FINISHED) -> Progress:
        """Drive one workload; returns the last picture."""
        if not self.use_prefect:
            return runner.process(
                workload.id, until=until, deadline=self.deadline, on_wave=self._on_wave, on_wait=self._on_wait
            )
        progress: Progress = flows_entry().process(
            runner,
            workload,
            until=until,
            deadline=self.deadline,
            on_wave=self._on_wave,
            on_wait=self._on_wait,
            on_note=self.reporter.note,
            verbose=self.verbose,
        )
        return progress

    def process_all(
        self, runner: Runner, workloads: Sequence[Workload], *, wait: Callable[[float], object]
    ) -> list[Progress | Exception]:
        """Drive several workloads at the same time, in plain loops, until all are finished or only failing ones are left.

        Returns for each where it stands or the error that it ended with, in their order. ``wait`` sleeps for seconds; it is called
        in this thread, while no workload has work.
        """
        return several.drive_all(
            runner,
            workloads,
            on_wave=self._on_wave,
            reporter=self.reporter,
            deadline=self.deadline,
            wait=wait,
        )

    def _on_wave(self, wave: Wave, report: StepReport) -> None:
        if self.verbose:
            counts = ", ".join(f"{count:,} {what}" for what, count in report.counts.items() if count)
            self._tell((f"{wave.kind.value}: {counts or 'nothing'}",))
        self._tell(report.notes)

    def _on_wait(self, wait: Wait) -> None:
        self._tell(wait.notes)
        self.reporter.waiting(wait.until)

    def _tell(self, notes: Iterable[str]) -> None:
        for note in notes:
            self.reporter.note(note)


@contextmanager
def interruptible(console: Console, farewell: Callable[[], Iterable[Text]]) -> Iterator[None]:
    """Turn Ctrl-C into exit code 130 and a few lines that say what goes on and how to come back."""
    try:
        yield
    except KeyboardInterrupt:
        tell(console, farewell())
        raise typer.Exit(exits.INTERRUPTED) from None
