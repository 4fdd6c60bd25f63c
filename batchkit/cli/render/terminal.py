"""The observer that shows the events of an api call on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit.cli.render import console, exits, live, outcome
from batchkit.engine.observer import Observer
from batchkit.errors import BatchkitError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.text import Text

    from batchkit.cli.options.common import Where
    from batchkit.engine.driver import WaveOutcome
    from batchkit.engine.observer import Reader
    from batchkit.engine.progress import Progress
    from batchkit.engine.waves import Wait, Wave
    from batchkit.models import Trouble, Workload, WorkloadId


class Terminal(Observer):
    """Shows progress, notes and counts; after an interrupt or an outage it prints the state of the workload.

    ``where`` is the place for which commands are written, ``same_command`` the running one. With ``is_for_machines`` there is no
    progress, with ``verbose`` there is a line for each wave. ``is_piped``: the input came through a pipe and cannot be read again.
    """

    def __init__(
        self,
        where: Where,
        same_command: str,
        *,
        is_for_machines: bool = False,
        verbose: bool = False,
        is_piped: bool = False,
    ) -> None:
        self.where = where
        self.is_for_machines = is_for_machines
        self.err = console.stderr()
        self._same_command = same_command
        self._verbose = verbose
        self._is_piped = is_piped
        self._workloads: Sequence[Workload] | None = None
        self._reader: Reader | None = None
        self._reporter: live.Reporter | None = None
        self._counts = live.Counts(self.err, is_shown=not is_for_machines and console.is_live(self.err))
        self._is_interrupted = False
        console.log_to(self.err, verbose=verbose)

    @property
    def again(self) -> str:
        """Return the command that resumes this one."""
        if self._is_piped and self._workloads:
            return self.where.command("watch", self._workloads[0].name)
        return self._same_command

    def note(self, text: str) -> None:
        """Print a note; while progress is shown, the time of day precedes it."""
        reporter = self._reporter
        if reporter is None:
            console.say(self.err, text)
        else:
            reporter.note(text)

    def counting(self, label: str, total: int | None) -> None:
        """Show a bar."""
        self._counts.begin(label, total)

    def advanced(self, label: str, more: int) -> None:
        """Advance a bar."""
        self._counts.advance(label, more)

    def counted(self, label: str) -> None:
        """Remove a bar."""
        self._counts.end(label)

    def opened(self, workloads: Sequence[Workload], reader: Reader) -> None:
        """Keep the workloads to show, and their reader."""
        self._workloads = workloads
        self._reader = reader

    def driving(self) -> None:
        """Show progress."""
        reporter = live.reporter(
            self.err,
            self._read,
            is_for_machines=self.is_for_machines,
            on_terminal=console.is_live(self.err),
            trouble=self._trouble,
            worked=self._worked,
        )
        reporter.__enter__()
        self._reporter = reporter

    def driven(self, error: BaseException | None) -> None:
        """Stop showing progress, and print the state of a workload that ``error`` has stopped."""
        reporter, self._reporter = self._reporter, None
        if reporter is not None:
            reporter.__exit__(None if error is None else type(error), error, None)
        if isinstance(error, BatchkitError):
            self._tell_what_is_left(error)

    def idle(self, until: float | None) -> None:
        """Count down to the time when one of several workloads has work."""
        reporter = self._reporter
        if reporter is not None:
            reporter.waiting(until)

    def wave_ended(self, wave: Wave, outcome: WaveOutcome) -> None:
        """Print the notes of a wave, and with ``verbose`` its result."""
        if isinstance(outcome, Exception):
            return
        if self._verbose:
            counts = ", ".join(f"{count:,} {what}" for what, count in outcome.counts.items() if count)
            self.note(f"{wave.kind.value}: {counts or 'nothing'}")
        self._tell(outcome.notes)

    def waiting(self, workload_id: WorkloadId, wait: Wait) -> None:  # noqa: ARG002 - the notes name it where that matters
        """Print the notes of a pass, and count down if the workload is the only one."""
        self._tell(wait.notes)
        if self._is_alone:
            self.idle(wait.until)

    def interrupted(self) -> None:
        """Print the state of the workloads once, and the command that resumes."""
        if not self._is_interrupted:
            self._is_interrupted = True
            console.tell(self.err, self.farewell())

    def farewell(self) -> Iterable[Text]:
        """Return the lines that an interrupt prints."""
        if self._workloads is None or self._reader is None:
            return outcome.interrupted(None, self.where, again=self.again)
        progress = self._read_if_possible(self._workloads[0]) if self._is_alone else None
        if progress is None:
            return outcome.interrupted_all(again=self.again)
        return outcome.interrupted(progress, self.where, again=self.again)

    @property
    def _is_alone(self) -> bool:
        return self._workloads is not None and len(self._workloads) == 1

    def _tell(self, notes: Iterable[str]) -> None:
        for note in notes:
            self.note(note)

    def _tell_what_is_left(self, error: BatchkitError) -> None:
        """Print the state of the only workload, unless the database is unreachable."""
        if error.exit_code != exits.NOT_FINISHED or self.is_for_machines or isinstance(error, StoreError):
            return
        if self._workloads is None or not self._is_alone:
            return
        progress = self._read_if_possible(self._workloads[0])
        if progress is not None and progress.is_split and not progress.is_finished:
            console.tell(self.err, outcome.left(progress, self.where))

    def _read(self) -> list[Progress]:
        reader, workloads = self._opened()
        if len(workloads) == 1:
            return [reader.progress(workloads[0].id)]
        # A missing workload must not prevent the others from being shown.
        return [progress for workload in workloads if (progress := self._read_if_possible(workload)) is not None]

    def _read_if_possible(self, workload: Workload) -> Progress | None:
        try:
            return self._opened()[0].progress(workload.id)
        except BatchkitError:
            return None

    def _trouble(self) -> Trouble | None:
        reader, workloads = self._opened()
        found = (reader.trouble(workload.id) for workload in workloads)
        return next((trouble for trouble in found if trouble is not None), None)

    def _worked(self, workload_id: WorkloadId) -> float:
        reader, _ = self._opened()
        return reader.work_seconds(reader.progress(workload_id))

    def _opened(self) -> tuple[Reader, Sequence[Workload]]:
        if self._reader is None or self._workloads is None:
            raise RuntimeError("nothing was opened")
        return self._reader, self._workloads
