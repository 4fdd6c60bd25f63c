"""The one place from which a workload is shown in Prefect; it can neither block nor fail the work.

Everything goes through a short queue to a thread of its own. What fails is swallowed, and what is only of passing interest
is left out for a while after a failure; a full queue drops what comes. The database has the truth, this is the view.

Events, with ``prefect.resource.id = batchkit.workload.<name>``:

- ``batchkit.workload.finished``: every request has its final state; the label ``batchkit.outcome`` is ``succeeded`` or
  ``some-failed``, the payload has the counts.
- ``batchkit.workload.failed``: a run ended with an error before that; the same command goes on.
- ``batchkit.requests.expired``: rides that came back unexecuted were merged.
- ``batchkit.requests.resubmitted``: new shards were cut for requests that ride again.

With ``prefect.resource.id = batchkit.eval.<suite>``, and the run's name in the label ``batchkit.run``:

- ``batchkit.eval.finished``: a run of a suite was scored; the label ``batchkit.verdict`` is ``passed`` or ``regressed``.
- ``batchkit.eval.regressed``: an alarm went off in it; the payload has each with its metric before and after.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from batchkit.errors import BatchkitError

from . import pictures, scorecards

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from batchkit.engine.driver import Wait, Wave
    from batchkit.engine.progress import Progress
    from batchkit.evaluation.results import EvaluationSummary
    from batchkit.models import WorkloadId
    from batchkit.steps.context import StepReport

_PROGRESS_EVERY_SECONDS = 10.0
_ATTENTION_EVERY_SECONDS = 600.0
_QUEUE_LENGTH = 64
_FIRST_PAUSE_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 300.0
_CLOSE_SECONDS = 5.0

# Not under "batchkit": what is said about Prefect must not be sent to Prefect.
_logger = logging.getLogger("groq_batchkit.reporting")


class Sink(Protocol):
    """Where reports go; each call may block and may raise anything."""

    def tag(self, tags: list[str]) -> None:
        """Add tags to the flow run."""
        ...

    def progress(self, key: str, percent: float, description: str) -> None:
        """Show progress, 0 to 100: one artifact for the whole run."""
        ...

    def table(self, key: str, rows: list[dict[str, Any]], description: str, *, every_seconds: float) -> None:
        """Show a table, unless the last one of this key says the same or is younger than that."""
        ...

    def markdown(self, key: str, text: str, description: str) -> None:
        """Show a text."""
        ...

    def event(self, name: str, resource: dict[str, str], payload: dict[str, Any]) -> None:
        """Tell Prefect's event feed."""
        ...


@dataclass(frozen=True, slots=True)
class _Report:
    send: Callable[[Sink], None]
    matters: bool


class Reporter:
    """Shows what one flow run does. Every method returns at once and never raises, except ``close``, which may wait.

    ``names`` are those of the workloads that the run is about. ``log`` takes lines for the run's log. ``clock`` counts
    seconds.
    """

    def __init__(
        self,
        sink: Sink,
        names: Mapping[WorkloadId, str],
        *,
        log: Callable[[str], object] = lambda _line: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink = sink
        self._log = log
        self._clock = clock
        self._names = names
        self._shown: tuple[str, float, str] | None = None
        self._next_progress = 0.0
        self._next_attention = 0.0
        self._quiet_until = 0.0
        self._pause = _FIRST_PAUSE_SECONDS
        self._queue: queue.Queue[_Report | None] = queue.Queue(_QUEUE_LENGTH)
        # In this context, so that settings and the run that things belong to are known there.
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._work,), name="batchkit-reporting", daemon=True
        )
        self._thread.start()

    def tag(self, *tags: str) -> None:
        """Add tags to the flow run."""
        self._put(lambda sink: sink.tag(list(tags)), matters=True)

    def wave(self, wave: Wave, report: StepReport) -> None:
        """Take note of a wave that was done."""
        self._say(pictures.wave_line(wave, report))
        for note in report.notes:
            self._say(note)
        for event in ("expired", "resubmitted"):
            if count := report.counts.get(event):
                name = self._names.get(wave.workload_id, str(wave.workload_id))
                self._event(f"batchkit.requests.{event}", name, {"workload": name, "requests": count})

    def wait(self, wait: Wait) -> None:
        """Take note of a wait that begins."""
        for note in wait.notes:
            self._say(note)
        if wait.progress is not None and self.wants_picture():
            self.picture(wait.progress)

    def wants_picture(self) -> bool:
        """Whether the last picture is old enough for a new one."""
        return self._clock() >= self._next_progress

    def picture(self, progress: Progress) -> None:
        """Show where a workload stands."""
        self._next_progress = self._clock() + _PROGRESS_EVERY_SECONDS
        self._show(progress, matters=False)
        if progress.attention and self._clock() >= self._next_attention:
            self._show_attention(progress, matters=False)

    def finished(self, progress: Progress) -> None:
        """Show how a workload ended, or how far a run that ends now has brought it."""
        self._say(pictures.progress_line(progress))
        self._show(progress, matters=True)
        if progress.attention:
            self._show_attention(progress, matters=True)
        if not progress.is_finished:
            return
        name = progress.workload.name
        key = f"batchkit-summary-{pictures.key_part(name)}"
        self._put(lambda sink: sink.markdown(key, pictures.summary(progress), f"What became of {name}"), matters=True)
        outcome = "succeeded" if progress.all_succeeded else "some-failed"
        payload = pictures.finished_payload(progress)
        self._event("batchkit.workload.finished", name, payload, {"batchkit.outcome": outcome})

    def evaluated(self, found: EvaluationSummary, report: Path | None) -> None:
        """Show what came of a run of a suite, and tell of a fall; ``report`` is its page."""
        key = f"batchkit-eval-{pictures.key_part(found.suite)}"
        rows, text = scorecards.metric_rows(found), scorecards.text(found, report)
        self._say(f"{found.run}: {found.verdict}")
        self._put(
            lambda sink: sink.table(f"{key}-metrics", rows, f"Metrics of {found.run}", every_seconds=0), matters=True
        )
        self._put(lambda sink: sink.markdown(key, text, f"What became of {found.run}"), matters=True)
        resource = {
            "prefect.resource.id": f"batchkit.eval.{found.suite}",
            "prefect.resource.name": found.suite,
            "batchkit.run": found.run,
            "batchkit.verdict": found.verdict,
        }
        finished = scorecards.finished_payload(found)
        self._put(lambda sink: sink.event("batchkit.eval.finished", resource, finished), matters=True)
        if found.verdict == "regressed":
            payload = scorecards.regressed_payload(found)
            self._put(lambda sink: sink.event("batchkit.eval.regressed", resource, payload), matters=True)

    def failed(self, name: str, error: Exception) -> None:
        """Tell that a run ended with an error; of an unexpected one only the kind, as its text may hold anything."""
        message = error.message if isinstance(error, BatchkitError) else ""
        payload = {"workload": name, "error": type(error).__name__, "message": message}
        self._event("batchkit.workload.failed", name, payload)

    def close(self, within_seconds: float = _CLOSE_SECONDS) -> None:
        """Wait until everything is sent, at most ``within_seconds``."""
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(within_seconds)

    def _show(self, progress: Progress, *, matters: bool) -> None:
        key = f"batchkit-progress-{pictures.key_part(progress.workload.name)}"
        shown = (key, pictures.percent(progress), pictures.progress_line(progress))
        if shown != self._shown:
            self._shown = shown
            self._put(lambda sink: sink.progress(*shown), matters=matters)

    def _show_attention(self, progress: Progress, *, matters: bool) -> None:
        name = progress.workload.name
        self._next_attention = self._clock() + _ATTENTION_EVERY_SECONDS
        key = f"batchkit-attention-{pictures.key_part(name)}"
        rows = pictures.attention_rows(progress)
        description = f"Batches of {name} that did not simply complete"
        every = 0 if matters else _ATTENTION_EVERY_SECONDS
        self._put(lambda sink: sink.table(key, rows, description, every_seconds=every), matters=matters)

    def _event(self, event: str, name: str, payload: dict[str, Any], labels: dict[str, str] | None = None) -> None:
        resource = {"prefect.resource.id": f"batchkit.workload.{name}", "prefect.resource.name": name, **(labels or {})}
        self._put(lambda sink: sink.event(event, resource, payload), matters=True)

    def _say(self, line: str) -> None:
        try:
            self._log(line)
        except Exception:
            _logger.debug("a line could not be logged", exc_info=True)

    def _put(self, send: Callable[[Sink], None], *, matters: bool) -> None:
        try:
            self._queue.put_nowait(_Report(send, matters))
        except queue.Full:
            _logger.debug("a report was dropped: the queue is full")

    def _work(self) -> None:
        while (report := self._queue.get()) is not None:
            if not report.matters and self._clock() < self._quiet_until:
                continue
            try:
                report.send(self._sink)
            except Exception:
                _logger.debug("a report could not be sent", exc_info=True)
                self._quiet_until = self._clock() + self._pause
                self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)
            else:
                self._pause = _FIRST_PAUSE_SECONDS
