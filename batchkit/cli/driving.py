"""Doing the work of a command: one workload as a Prefect flow or in the plain loop, or all open ones in turn."""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from batchkit.cli import exits
from batchkit.cli.console import tell
from batchkit.drive import DriveUntil, Wait, until_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from rich.console import Console
    from rich.text import Text

    from batchkit.cli.live import Reporter
    from batchkit.drive import Wave, Waves
    from batchkit.models import Workload
    from batchkit.progress import Progress
    from batchkit.runner import Runner
    from batchkit.steps.context import StepReport

_ENTRY = "batchkit.flows.entry"


def flows_entry() -> Any:
    """Load the Prefect side: the only place from which the command line does."""
    return importlib.import_module(_ENTRY)


def leave(exit_code: int) -> NoReturn:
    """End the process after everything is printed; Prefect, if it was used, may not hold up the exit."""
    if _ENTRY in sys.modules:
        flows_entry().leave(exit_code)
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
    ) -> list[Progress]:
        """Drive several workloads in turn, in the plain loop, until all are finished; ``wait`` sleeps for seconds."""
        drives = {workload.id: runner.drive(workload.id, deadline=self.deadline) for workload in workloads}
        due = dict.fromkeys(drives, 0.0)
        done: dict[Any, Progress] = {}
        while due:
            soonest = min(due.values())
            if soonest > runner.clock():
                self.reporter.waiting(soonest)
                wait(max(soonest - runner.clock(), 0))
                self.reporter.waiting(None)
            # A clock that was set back in the meantime makes nobody wait again.
            now = max(soonest, runner.clock())
            for workload_id in [found for found, at in due.items() if at <= now]:
                step = self._until_wait(runner, drives[workload_id])
                if isinstance(step, Wait):
                    due[workload_id] = step.until
                else:
                    done[workload_id] = step
                    del due[workload_id]
        return [done[workload.id] for workload in workloads]

    def _until_wait(
        self, runner: Runner, drive: Generator[Waves | Wait, StepReport | None, Progress]
    ) -> Wait | Progress:
        step = until_wait(drive, runner.run_waves, self._on_wave)
        if isinstance(step, Wait):
            self._tell(step.notes)
        return step

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
