"""An observer that calls functions of a test, and a drive that follows a script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit.engine.observer import Observer
from batchkit.engine.waves import Done, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from batchkit.engine.driver import Drive, WaveOutcome
    from batchkit.engine.progress import Progress
    from batchkit.engine.runtime import Runner
    from batchkit.engine.waves import Wave, Waves
    from batchkit.models import WorkloadId
    from batchkit.steps.context import StepReport


class Watching(Observer):
    """Calls ``on_wave`` with each finished wave and its report, and ``on_wait`` with each wait."""

    def __init__(
        self,
        *,
        on_wave: Callable[[Wave, StepReport], object] = lambda _wave, _report: None,
        on_wait: Callable[[Wait], object] = lambda _wait: None,
    ) -> None:
        self._on_wave = on_wave
        self._on_wait = on_wait

    def wave_ended(self, wave: Wave, outcome: WaveOutcome) -> None:
        """Forward a report."""
        if not isinstance(outcome, Exception):
            self._on_wave(wave, outcome)

    def waiting(self, workload_id: WorkloadId, wait: Wait) -> None:  # noqa: ARG002 - tests have one workload
        """Forward a wait."""
        self._on_wait(wait)


class ScriptedDrive:
    """A drive with the actions that ``script`` yields; the script returns the last snapshot, or raises the error that ends it.

    The outcomes of the waves are sent into the script.
    """

    def __init__(self, workload_id: WorkloadId, script: Iterator[Waves | Wait] | Callable[[], object]) -> None:
        self.workload_id = workload_id
        self._script: object = script() if callable(script) else script
        self._outcomes: Sequence[WaveOutcome] | None = None

    def next(self) -> Waves | Wait | Done:
        """Return the next action of the script."""
        outcomes, self._outcomes = self._outcomes, None
        try:
            action: Waves | Wait = self._script.send(outcomes)  # type: ignore[attr-defined] # a generator
        except StopIteration as stop:
            progress: Progress = stop.value
            return Done(progress)
        return action

    def report(self, outcomes: Sequence[WaveOutcome]) -> None:
        """Store the outcomes for the script."""
        self._outcomes = outcomes


def work(drive: Drive, run_waves: Callable[[Waves], Sequence[WaveOutcome]]) -> Wait | Done:
    """Run the waves of a drive with ``run_waves`` until it waits or ends."""
    while isinstance(action := drive.next(), tuple):
        drive.report(run_waves(action))
    return action


def to_the_end(drive: Drive, runner: Runner, *, run_waves: Callable[[Waves], Sequence[WaveOutcome]]) -> Progress:
    """Drive to the end, running waves with ``run_waves`` and waiting as the runner does."""
    while True:
        action = work(drive, run_waves)
        if isinstance(action, Done):
            return action.progress
        runner._wait(max(action.until - runner.clock(), 0))
