"""Prefect as an observer: the reports of a flow run, sent by a thread that can neither block nor fail the work.

All reports pass through a bounded queue. A failed report is dropped, and after a failure unimportant reports are skipped for a
while; a full queue drops new reports. The database holds the truth; reports only show it. The README lists the events.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batchkit.engine.observer import Observer
from batchkit.errors import BatchkitError
from batchkit.reports import evaluation_markdown, workload_markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from batchkit.engine.driver import WaveOutcome
    from batchkit.engine.progress import Progress
    from batchkit.engine.waves import Wait, Wave
    from batchkit.evaluation.results import EvaluationSummary
    from batchkit.models import Workload, WorkloadId

    from .sink import FlowRunSink

_PROGRESS_EVERY_SECONDS = 10.0
_ATTENTION_EVERY_SECONDS = 600.0
#: Long enough for the waves that end while a server starts.
_QUEUE_LENGTH = 256
_FIRST_PAUSE_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 300.0
_CLOSE_SECONDS = 5.0

# Not under "batchkit": log lines about Prefect must not be sent to Prefect.
_logger = logging.getLogger("groq_batchkit.reporting")


@dataclass(frozen=True, slots=True)
class _Report:
    send: Callable[[], object]
    matters: bool


class ReportThread:
    """Sends reports one after another in a daemon thread. ``put`` returns at once and never raises.

    ``clock`` counts seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._quiet_until = 0.0
        self._pause = _FIRST_PAUSE_SECONDS
        self._queue: queue.Queue[_Report | None] = queue.Queue(_QUEUE_LENGTH)
        # In this context, so that the thread has its settings and its run.
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._work,), name="batchkit-reporting", daemon=True
        )
        self._thread.start()

    def put(self, send: Callable[[], object], *, matters: bool) -> None:
        """Queue a report; after a failure, reports with ``matters=False`` are skipped for a while."""
        try:
            self._queue.put_nowait(_Report(send, matters))
        except queue.Full:
            _logger.debug("a report was dropped: the queue is full")

    def close(self, within_seconds: float = _CLOSE_SECONDS) -> None:
        """Wait until everything is sent, at most ``within_seconds``."""
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(within_seconds)

    def _work(self) -> None:
        while (report := self._queue.get()) is not None:
            if not report.matters and self._clock() < self._quiet_until:
                continue
            try:
                report.send()
            except Exception:
                _logger.debug("a report could not be sent", exc_info=True)
                self._quiet_until = self._clock() + self._pause
                self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)
            else:
                self._pause = _FIRST_PAUSE_SECONDS


class PrefectObserver(Observer):
    """Shows one flow run. Every method returns at once and never raises.

    ``sink`` returns the receiver of the reports; it is called in the thread that sends, and may block or raise. ``names`` are the
    names of the run's workloads, and may grow. ``log`` receives lines for the run's log; it is called at once.
    ``read`` reads a snapshot of a workload, in the thread that sends. ``clock`` counts seconds.
    """

    def __init__(
        self,
        sink: Callable[[], FlowRunSink],
        thread: ReportThread,
        names: Mapping[WorkloadId, str],
        *,
        log: Callable[[str], object] = lambda _line: None,
        read: Callable[[WorkloadId], Progress | None] = lambda _workload_id: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink = sink
        self._thread = thread
        self._log = log
        self._read = read
        self._clock = clock
        self._names = names
        self._shown: tuple[str, float, str] | None = None
        self._next_progress = 0.0
        self._next_attention = 0.0

    def tag(self, *tags: str) -> None:
        """Add tags to the flow run."""
        self._put(lambda sink: sink.tag(list(tags)), matters=True)

    def wave_ended(self, wave: Wave, outcome: WaveOutcome) -> None:
        """Log the result of a wave, send events for expired and resubmitted requests, and show a snapshot periodically."""
        if isinstance(outcome, Exception):
            return
        self._log_line(workload_markdown.wave_line(wave, outcome))
        for note in outcome.notes:
            self._log_line(note)
        for event in ("expired", "resubmitted"):
            if count := outcome.counts.get(event):
                name = self._names.get(wave.workload_id, str(wave.workload_id))
                self._event(f"batchkit.requests.{event}", name, {"workload": name, "requests": count})
        if self._is_time():
            self._put(lambda sink: self._read_and_show(wave.workload_id, sink), matters=False)

    def waiting(self, workload_id: WorkloadId, wait: Wait) -> None:  # noqa: ARG002 - the snapshot names it
        """Log the notes of a pass, and show a snapshot periodically."""
        for note in wait.notes:
            self._log_line(note)
        if wait.progress is not None and self._is_time():
            self._show_now_and_then(wait.progress)

    def finished(self, progress: Progress) -> None:
        """Show the result of a workload, or the progress of one that stops here."""
        self._log_line(workload_markdown.progress_line(progress))
        self._show(progress, matters=True)
        if progress.attention:
            self._show_attention(progress, matters=True)
        if not progress.is_finished:
            return
        name = progress.workload.name
        key = f"batchkit-summary-{workload_markdown.key_part(name)}"
        self._put(
            lambda sink: sink.markdown(key, workload_markdown.summary(progress), f"Result of {name}"), matters=True
        )
        outcome = "succeeded" if progress.all_succeeded else "some-failed"
        payload = workload_markdown.finished_payload(progress)
        self._event("batchkit.workload.finished", name, payload, {"batchkit.outcome": outcome})

    def failed(self, workload: Workload, error: Exception) -> None:
        """Send an event for a drive that ended with an error."""
        self.named_failed(workload.name, error)

    def named_failed(self, name: str, error: Exception) -> None:
        """Send an event for an error; for an unexpected error only its class, because its text may contain anything."""
        message = error.message if isinstance(error, BatchkitError) else ""
        payload = {"workload": name, "error": type(error).__name__, "message": message}
        self._event("batchkit.workload.failed", name, payload)

    def evaluated(self, summary: EvaluationSummary, report: Path | None) -> None:
        """Show the result of a suite's run, and send an event for a fall; ``report`` is its page."""
        key = f"batchkit-eval-{workload_markdown.key_part(summary.suite)}"
        rows, text = evaluation_markdown.metric_rows(summary), evaluation_markdown.text(summary, report)
        self._log_line(f"{summary.run}: {summary.verdict}")
        self._put(
            lambda sink: sink.table(f"{key}-metrics", rows, f"Metrics of {summary.run}", every_seconds=0), matters=True
        )
        self._put(lambda sink: sink.markdown(key, text, f"Result of {summary.run}"), matters=True)
        resource = {
            "prefect.resource.id": f"batchkit.eval.{summary.suite}",
            "prefect.resource.name": summary.suite,
            "batchkit.run": summary.run,
            "batchkit.verdict": summary.verdict,
        }
        finished = evaluation_markdown.finished_payload(summary)
        self._put(lambda sink: sink.event("batchkit.eval.finished", resource, finished), matters=True)
        if summary.verdict == "regressed":
            payload = evaluation_markdown.regressed_payload(summary)
            self._put(lambda sink: sink.event("batchkit.eval.regressed", resource, payload), matters=True)

    def _is_time(self) -> bool:
        """Return whether the last snapshot is old enough for a new one."""
        if self._clock() < self._next_progress:
            return False
        self._next_progress = self._clock() + _PROGRESS_EVERY_SECONDS
        return True

    def _read_and_show(self, workload_id: WorkloadId, sink: FlowRunSink) -> None:
        """Read a snapshot of a workload and send it, in the thread that sends."""
        progress = self._read(workload_id)
        if progress is not None and (shown := self._news_of(progress)) is not None:
            sink.progress(*shown)

    def _show_now_and_then(self, progress: Progress) -> None:
        self._show(progress, matters=False)
        if progress.attention and self._clock() >= self._next_attention:
            self._show_attention(progress, matters=False)

    def _show(self, progress: Progress, *, matters: bool) -> None:
        if (shown := self._news_of(progress)) is not None:
            self._put(lambda sink: sink.progress(*shown), matters=matters)

    def _news_of(self, progress: Progress) -> tuple[str, float, str] | None:
        """Return key, percent and line of a progress artifact; None if the last one was equal."""
        key = f"batchkit-progress-{workload_markdown.key_part(progress.workload.name)}"
        shown = (key, workload_markdown.percent(progress), workload_markdown.progress_line(progress))
        if shown == self._shown:
            return None
        self._shown = shown
        return shown

    def _show_attention(self, progress: Progress, *, matters: bool) -> None:
        name = progress.workload.name
        self._next_attention = self._clock() + _ATTENTION_EVERY_SECONDS
        key = f"batchkit-attention-{workload_markdown.key_part(name)}"
        rows = workload_markdown.attention_rows(progress)
        description = f"Batches of {name} with problems"
        every = 0 if matters else _ATTENTION_EVERY_SECONDS
        self._put(lambda sink: sink.table(key, rows, description, every_seconds=every), matters=matters)

    def _event(self, event: str, name: str, payload: dict[str, Any], labels: dict[str, str] | None = None) -> None:
        resource = {"prefect.resource.id": f"batchkit.workload.{name}", "prefect.resource.name": name, **(labels or {})}
        self._put(lambda sink: sink.event(event, resource, payload), matters=True)

    def _log_line(self, line: str) -> None:
        try:
            self._log(line)
        except Exception:
            _logger.debug("a line could not be logged", exc_info=True)

    def _put(self, send: Callable[[FlowRunSink], object], *, matters: bool) -> None:
        self._thread.put(lambda: send(self._sink()), matters=matters)
