"""Events of the work, for those who show them: a terminal, Prefect, notifications."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from batchkit.engine.driver import Outcome
    from batchkit.engine.progress import Progress
    from batchkit.engine.waves import Wait, Wave
    from batchkit.evaluation.results import EvaluationSummary
    from batchkit.models import Workload, WorkloadId

_logger = logging.getLogger(__name__)


class Observer:
    """Receives events. Every method is a no-op, so that a subclass overrides only those that it shows.

    The thread that works calls the methods; several threads may call them at the same time for different workloads. They must
    return at once.
    """

    def note(self, text: str) -> None:
        """A sentence for the user."""

    def began(self, workload: Workload) -> None:
        """This process drives a workload from now on."""

    def wave_started(self, wave: Wave) -> None:
        """A wave begins."""

    def wave_ended(self, wave: Wave, outcome: Outcome) -> None:
        """A wave has ended, with its report or with an error."""

    def waiting(self, workload_id: WorkloadId, wait: Wait) -> None:
        """No work is pending for a workload until ``wait.until``."""

    def finished(self, progress: Progress) -> None:
        """A drive has ended, with its last snapshot. The workload may be unfinished."""

    def failed(self, workload: Workload, error: Exception) -> None:
        """A drive has ended with an error."""

    def pass_began(self, workloads: Sequence[Workload]) -> None:
        """``serve`` begins a pass over these workloads."""

    def pass_ended(self) -> None:
        """A pass of ``serve`` has ended; a workload that takes longer continues beside the next one."""

    def evaluated(self, summary: EvaluationSummary, report: Path | None) -> None:
        """A suite's run has ended; ``report`` is its page, if there is one."""


class Observers(Observer):
    """Passes events to several observers. An error of one is logged, and reaches neither the work nor the other observers."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def note(self, text: str) -> None:
        """Pass it to each observer."""
        self._tell(lambda observer: observer.note(text))

    def began(self, workload: Workload) -> None:
        """Pass it to each observer."""
        self._tell(lambda observer: observer.began(workload))

    def wave_started(self, wave: Wave) -> None:
        """Pass it to each observer."""
        self._tell(lambda observer: observer.wave_started(wave))

    def wave_ended(self, wave: Wave, outcome: Outcome) -> None:
        """Pass it to each observer."""
        self._tell(lambda observer: observer.wave_ended(wave, outcome))

    def waiting(self, workload_id: WorkloadId, wait: Wait) -> None:
        """Pass it to each observer."""
        self._tell(lambda observer: observer.waiting(workload_id, wait))

    def finished(self, progress: Progress) -> None:
        """Pass it to each observer."""
        self._tell(lambda observer: observer.finished(progress))

    def failed(self, workload: Workload, error: Exception) -> None:
        """Pass it to each observer."""
        self._tell(lambda observer: observer.failed(workload, error))

    def pass_began(self, workloads: Sequence[Workload]) -> None:
        """Pass it to each observer."""
        self._tell(lambda observer: observer.pass_began(workloads))

    def pass_ended(self) -> None:
        """Pass it to each observer."""
        self._tell(lambda observer: observer.pass_ended())

    def evaluated(self, summary: EvaluationSummary, report: Path | None) -> None:
        """Pass it to each observer."""
        self._tell(lambda observer: observer.evaluated(summary, report))

    def _tell(self, tell: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                tell(observer)
            except Exception:
                _logger.exception("an observer failed; the work continues")


DO_NOTHING = Observer()
