"""What happens while batchkit works, told to whoever shows it: a terminal, Prefect, notifications."""

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
    """Is told what happens. Every method does nothing, so that a subclass overrides only what it shows.

    The methods are called by the thread that works; those about different workloads may be called by several threads at the same
    time. They must return at once.
    """

    def note(self, text: str) -> None:
        """Take a sentence for the user."""

    def began(self, workload: Workload) -> None:
        """Take note that this process drives a workload from now on."""

    def wave_started(self, wave: Wave) -> None:
        """Take note that a wave begins."""

    def wave_ended(self, wave: Wave, outcome: Outcome) -> None:
        """Take what a wave came to: its report, or the error that it ended with."""

    def waiting(self, workload_id: WorkloadId, wait: Wait) -> None:
        """Take note that no work is pending for a workload for a while."""

    def finished(self, progress: Progress) -> None:
        """Take the last snapshot of a drive. The workload may be unfinished."""

    def failed(self, workload: Workload, error: Exception) -> None:
        """Take the error that ended a drive."""

    def pass_began(self, workloads: Sequence[Workload]) -> None:
        """Take note that ``serve`` begins a pass over these workloads."""

    def pass_ended(self) -> None:
        """Take note that a pass of ``serve`` has ended; a workload that takes longer continues beside the next one."""

    def evaluated(self, summary: EvaluationSummary, report: Path | None) -> None:
        """Take what came of a run of a suite; ``report`` is its page, if there is one."""


class Observers(Observer):
    """Tells several observers. What one of them raises is logged and keeps nothing from the work or from the others."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def note(self, text: str) -> None:
        """Tell each."""
        self._tell(lambda observer: observer.note(text))

    def began(self, workload: Workload) -> None:
        """Tell each."""
        self._tell(lambda observer: observer.began(workload))

    def wave_started(self, wave: Wave) -> None:
        """Tell each."""
        self._tell(lambda observer: observer.wave_started(wave))

    def wave_ended(self, wave: Wave, outcome: Outcome) -> None:
        """Tell each."""
        self._tell(lambda observer: observer.wave_ended(wave, outcome))

    def waiting(self, workload_id: WorkloadId, wait: Wait) -> None:
        """Tell each."""
        self._tell(lambda observer: observer.waiting(workload_id, wait))

    def finished(self, progress: Progress) -> None:
        """Tell each."""
        self._tell(lambda observer: observer.finished(progress))

    def failed(self, workload: Workload, error: Exception) -> None:
        """Tell each."""
        self._tell(lambda observer: observer.failed(workload, error))

    def pass_began(self, workloads: Sequence[Workload]) -> None:
        """Tell each."""
        self._tell(lambda observer: observer.pass_began(workloads))

    def pass_ended(self) -> None:
        """Tell each."""
        self._tell(lambda observer: observer.pass_ended())

    def evaluated(self, summary: EvaluationSummary, report: Path | None) -> None:
        """Tell each."""
        self._tell(lambda observer: observer.evaluated(summary, report))

    def _tell(self, tell: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                tell(observer)
            except Exception:
                _logger.exception("an observer failed; the work continues")


DO_NOTHING = Observer()
