"""Events of the work, for everything that shows them: a terminal, Prefect, notifications."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from batchkit.engine.driver import WaveOutcome
    from batchkit.engine.progress import Progress
    from batchkit.engine.waves import Wait, Wave
    from batchkit.evaluation.results import EvaluationSummary
    from batchkit.models import Trouble, Workload, WorkloadId

_logger = logging.getLogger(__name__)


class Reader(Protocol):
    """Reads the state of workloads. The methods may be called in any thread, until the call that gave the reader returns."""

    def progress(self, workload_id: WorkloadId) -> Progress:
        """Read a snapshot of a workload. Raises ``BatchkitError``."""
        ...

    def trouble(self, workload_id: WorkloadId) -> Trouble | None:
        """Return the outage, as far as this process knows, that stops the work on a workload; None without one."""
        ...

    def work_seconds(self, progress: Progress) -> float:
        """Read how long a workload was worked on, in seconds. Raises ``BatchkitError``."""
        ...


class Observer:
    """Receives events. Every method is a no-op, so that a subclass overrides only those that it shows.

    The thread that works calls the methods; several threads may call them at the same time for different workloads. They must
    return at once.
    """

    def note(self, text: str) -> None:
        """A sentence for the user."""

    def counting(self, label: str, total: int | None) -> None:
        """A count begins; ``label`` names it, ``total`` is None where it is not known."""

    def advanced(self, label: str, more: int) -> None:
        """A count has advanced by ``more``."""

    def counted(self, label: str) -> None:
        """A count has ended, by an error too."""

    def opened(self, workloads: Sequence[Workload], reader: Reader) -> None:
        """The call concerns these workloads; a call may open several, one after another."""

    def driving(self) -> None:
        """This process drives the opened workloads from now on."""

    def driven(self, error: BaseException | None) -> None:
        """The opened workloads are no longer driven; ``error`` is None unless one ended it."""

    def idle(self, until: float | None) -> None:
        """None of several workloads has work before ``until`` (Unix seconds); None when that is over."""

    def interrupted(self) -> None:
        """The user has interrupted the call. The opened workloads can still be read."""

    def began(self, workload: Workload) -> None:
        """This process drives a workload from now on."""

    def wave_started(self, wave: Wave) -> None:
        """A wave begins."""

    def wave_ended(self, wave: Wave, outcome: WaveOutcome) -> None:
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
        """Pass the event to each observer."""
        self._tell(lambda observer: observer.note(text))

    def counting(self, label: str, total: int | None) -> None:
        """Pass the event to each observer."""
        self._tell(lambda observer: observer.counting(label, total))

    def advanced(self, label: str, more: int) -> None:
        """Pass the event to each observer."""
        self._tell(lambda observer: observer.advanced(label, more))

    def counted(self, label: str) -> None:
        """Pass the event to each observer."""
        self._tell(lambda observer: observer.counted(label))

    def opened(self, workloads: Sequence[Workload], reader: Reader) -> None:
        """Pass the event to each observer."""
        self._tell(lambda observer: observer.opened(workloads, reader))

    def driving(self) -> None:
        """Pass the event to each observer."""
        self._tell(lambda observer: observer.driving())

    def driven(self, error: BaseException | None) -> None:
        """Pass the event to each observer."""
        self._tell(lambda observer: observer.driven(error))

    def idle(self, until: float | None) -> None:
        """Pass the event to each observer."""
        self._tell(lambda observer: observer.idle(until))

    def interrupted(self) -> None:
        """Pass the event to each observer."""
        self._tell(lambda observer: observer.interrupted())

    def began(self, workload: Workload) -> None:
        """Pass the event to each observer."""
        self._tell(lambda observer: observer.began(workload))

    def wave_started(self, wave: Wave) -> None:
        """Pass the event to each observer."""
        self._tell(lambda observer: observer.wave_started(wave))

    def wave_ended(self, wave: Wave, outcome: WaveOutcome) -> None:
        """Pass the event to each observer."""
        self._tell(lambda observer: observer.wave_ended(wave, outcome))

    def waiting(self, workload_id: WorkloadId, wait: Wait) -> None:
        """Pass the event to each observer."""
        self._tell(lambda observer: observer.waiting(workload_id, wait))

    def finished(self, progress: Progress) -> None:
        """Pass the event to each observer."""
        self._tell(lambda observer: observer.finished(progress))

    def failed(self, workload: Workload, error: Exception) -> None:
        """Pass the event to each observer."""
        self._tell(lambda observer: observer.failed(workload, error))

    def pass_began(self, workloads: Sequence[Workload]) -> None:
        """Pass the event to each observer."""
        self._tell(lambda observer: observer.pass_began(workloads))

    def pass_ended(self) -> None:
        """Pass the event to each observer."""
        self._tell(lambda observer: observer.pass_ended())

    def evaluated(self, summary: EvaluationSummary, report: Path | None) -> None:
        """Pass the event to each observer."""
        self._tell(lambda observer: observer.evaluated(summary, report))

    def _tell(self, tell: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                tell(observer)
            except Exception:
                _logger.exception("an observer failed; the work continues")


DO_NOTHING = Observer()


@contextmanager
def counting(observer: Observer, label: str, *, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Pass the events of a count to ``observer``; the yielded function takes how many more were done."""
    try:
        observer.counting(label, total)
        yield lambda more: observer.advanced(label, more)
    finally:
        observer.counted(label)


@contextmanager
def driving(observer: Observer) -> Iterator[None]:
    """Report to ``observer`` that the opened workloads are driven during the ``with`` block."""
    try:
        observer.driving()
        yield
    except BaseException as error:
        observer.driven(error)
        raise
    observer.driven(None)
