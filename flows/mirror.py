"""Shows the work of this process in Prefect: flow runs and task runs with their real times and results.

It neither leads nor delays the work. A ``Mirror`` is an observer: its reports pass through a bounded queue to a thread that writes
them to Prefect's API. If Prefect is slow, gone, killed or restarted, reports are lost, but no work. That thread also imports Prefect.

Without a configured server a temporary one is started, but only after ``_LASTING_SECONDS`` of work.
"""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batchkit.engine.observer import Observer
from batchkit.reports import workload_markdown

from . import configured
from .reporting import PrefectObserver, ReportThread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from batchkit.engine.driver import WaveOutcome
    from batchkit.engine.progress import Progress
    from batchkit.engine.waves import DriveUntil, Wait, Wave
    from batchkit.evaluation.results import EvaluationSummary
    from batchkit.models import Workload, WorkloadId

    from .recording import RecordedRun
    from .server import ServerChoice
    from .sink import PrefectApi

#: A shorter run does not start a temporary server, because that takes many seconds of CPU time.
_LASTING_SECONDS = 20.0
#: The time after which a server that did not answer is tried again.
_CONNECT_AGAIN_SECONDS = 30.0
#: How long a command waits at its end for the last reports: to a configured server, and to a temporary one.
_LEAVE_SECONDS = 1.5
_LEAVE_TEMPORARY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class _FinalState:
    """The final state of a flow run: ``kind`` is Prefect's (COMPLETED, FAILED, CANCELLED), ``name`` None the kind's default."""

    kind: str
    message: str
    name: str | None = None


class Mirror(Observer):
    """Shows workloads that this process drives, or the passes of ``serve``, each as a flow run.

    ``home`` holds the record of a temporary server. ``on_note`` receives notes about Prefect for the user, in a separate thread.
    ``read`` reads a snapshot of a workload, in that thread. ``until`` is a parameter of the flow runs.
    """

    def __init__(
        self,
        home: Path,
        *,
        on_note: Callable[[str], None],
        read: Callable[[WorkloadId], Progress | None] = lambda _workload_id: None,
        until: DriveUntil | None = None,
        interval_seconds: float | None = None,
        lasting_seconds: float = _LASTING_SECONDS,
    ) -> None:
        self._read = read
        self._until = until
        self._interval_seconds = interval_seconds
        self._is_configured = configured.may_be_configured()
        self._server = _Server(home, on_note, wait_seconds=0.0 if self._is_configured else lasting_seconds)
        self._thread = ReportThread()
        self._runs: dict[WorkloadId, _ShownRun] = {}
        self._pass: _ShownRun | None = None
        self._names: dict[WorkloadId, str] = {}
        self._lock = threading.Lock()

    def began(self, workload: Workload) -> None:
        """Show a flow run with the workload's name; in ``serve`` the pass is the flow run."""
        with self._lock:
            self._names[workload.id] = workload.name
            if self._pass is None and self._interval_seconds is None:
                parameters: dict[str, Any] = {"workload_id": int(workload.id), "workload_name": workload.name}
                if self._until is not None:
                    parameters["until"] = self._until.value
                tags = ["batchkit", f"workload:{workload.name}"]
                self._runs[workload.id] = self._open("process_workload", f"run {workload.name}", parameters, tags)

    def pass_began(self, workloads: Sequence[Workload]) -> None:
        """Show a flow run for the pass."""
        with self._lock:
            self._names.update({workload.id: workload.name for workload in workloads})
            self._pass = self._open(
                "advance_workloads",
                "advance open workloads",
                {"interval_seconds": self._interval_seconds},
                ["batchkit"],
            )

    def pass_ended(self) -> None:
        """End the flow run of the pass."""
        with self._lock:
            shown, self._pass = self._pass, None
        if shown is not None:
            shown.end(shown.final_state_of_pass())

    def wave_started(self, wave: Wave) -> None:
        """Show the start of a task run."""
        if (shown := self._run_of(wave.workload_id)) is not None:
            shown.wave_started(wave)

    def wave_ended(self, wave: Wave, outcome: WaveOutcome) -> None:
        """Show the end of a task run, and the result of its wave."""
        if (shown := self._run_of(wave.workload_id)) is not None:
            shown.wave_ended(wave, outcome)

    def waiting(self, workload_id: WorkloadId, wait: Wait) -> None:
        """Show a snapshot of the workload periodically."""
        if (shown := self._run_of(workload_id)) is not None:
            shown.observer.waiting(workload_id, wait)

    def finished(self, progress: Progress) -> None:
        """Show the result of the workload, or its progress."""
        shown = self._run_of(progress.workload.id)
        if shown is None:
            return
        shown.observer.finished(progress)
        shown.lines.append(f"{progress.workload.name}: {workload_markdown.progress_line(progress)}")
        name, message = workload_markdown.final_state(progress)
        self._end(progress.workload.id, _FinalState("COMPLETED", message, name))

    def failed(self, workload: Workload, error: Exception) -> None:
        """Show the error that ended the drive."""
        shown = self._run_of(workload.id)
        if shown is None:
            return
        shown.observer.failed(workload, error)
        message = workload_markdown.error_text(error)
        shown.lines.append(f"{workload.name}: {message}")
        shown.has_failed = True
        self._end(workload.id, _FinalState("FAILED", message))

    def evaluated(self, summary: EvaluationSummary, report: Path | None) -> None:
        """Show the result of a suite's run, in a separate flow run."""
        shown = self._open("collect_evaluations", "collect evaluations", {}, ["batchkit", f"suite:{summary.suite}"])
        shown.observer.evaluated(summary, report)
        shown.end(_FinalState("COMPLETED", f"{summary.run}: {summary.verdict}"))

    def close(self, within_seconds: float | None = None) -> None:
        """Write the queued reports, by default for at most a second or two; unfinished runs are shown as cancelled."""
        interrupted = _FinalState("CANCELLED", "The command was interrupted; the same command resumes.")
        with self._lock:
            open_runs = [*self._runs.values(), *([self._pass] if self._pass is not None else [])]
            self._runs.clear()
        for shown in open_runs:
            shown.end(interrupted)
        self._server.leave()
        self._thread.put(self._server.close_client, matters=True)
        if within_seconds is None:
            within_seconds = _LEAVE_SECONDS if self._is_configured else _LEAVE_TEMPORARY_SECONDS
        self._thread.close(within_seconds)
        self._server.close()

    def _run_of(self, workload_id: WorkloadId) -> _ShownRun | None:
        with self._lock:
            return self._runs.get(workload_id) or self._pass

    def _end(self, workload_id: WorkloadId, ending: _FinalState) -> None:
        with self._lock:
            shown = self._runs.pop(workload_id, None)
        if shown is not None:
            shown.end(ending)

    def _open(self, flow: str, name: str, parameters: dict[str, Any], tags: list[str]) -> _ShownRun:
        run = _LazyRun(self._server, flow, name, parameters, tags, began_at=time.time())
        return _ShownRun(run, self._thread, self._names, self._read)


class _ShownRun:
    """One flow run: its waves become task runs, its reports artifacts, events and log lines."""

    def __init__(
        self,
        run: _LazyRun,
        thread: ReportThread,
        names: dict[WorkloadId, str],
        read: Callable[[WorkloadId], Progress | None],
    ) -> None:
        self._run = run
        self._thread = thread
        self._keys: dict[Wave, str] = {}
        self._numbers = itertools.count()
        #: The result of each workload of a pass, one line each.
        self.lines: list[str] = []
        self.has_failed = False
        self.observer = PrefectObserver(run, thread, names, log=self._log, read=read)
        thread.put(run, matters=True)

    def wave_started(self, wave: Wave) -> None:
        key, at = str(next(self._numbers)), time.time()
        self._keys[wave] = key
        name = workload_markdown.wave_name(wave.kind, len(wave.shard_ids))
        self._thread.put(lambda: self._run().wave_started(key, name, at), matters=True)

    def wave_ended(self, wave: Wave, outcome: WaveOutcome) -> None:
        key, at = self._keys.pop(wave, None), time.time()
        if key is not None:
            has_failed = isinstance(outcome, Exception)
            message = (
                workload_markdown.error_text(outcome)
                if isinstance(outcome, Exception)
                else workload_markdown.counts_line(outcome.counts)
            )
            self._end_task(key, message, at, has_failed=has_failed)
        self.observer.wave_ended(wave, outcome)

    def end(self, ending: _FinalState) -> None:
        at = time.time()
        for key in self._keys.values():
            self._end_task(key, "continues after this flow run", at, has_failed=False)
        self._keys.clear()
        self._thread.put(lambda: self._run().end(ending.kind, ending.name, ending.message, at), matters=True)

    def final_state_of_pass(self) -> _FinalState:
        message = "; ".join(self.lines) or "The workloads continue beside the next pass."
        return _FinalState("FAILED" if self.has_failed else "COMPLETED", message)

    def _end_task(self, key: str, message: str, at: float, *, has_failed: bool) -> None:
        self._thread.put(lambda: self._run().wave_ended(key, message, at, has_failed=has_failed), matters=True)

    def _log(self, line: str) -> None:
        at = time.time()
        self._thread.put(lambda: self._run().log(line, at), matters=True)


class _LazyRun:
    """A recorded run that is created in Prefect when the first report is sent; calling it returns it."""

    def __init__(
        self, server: _Server, flow: str, name: str, parameters: dict[str, Any], tags: list[str], *, began_at: float
    ) -> None:
        self._server = server
        self._flow = flow
        self._name = name
        self._parameters = parameters
        self._tags = tags
        self._began_at = began_at
        self._run: RecordedRun | None = None

    def __call__(self) -> RecordedRun:
        """Return the run. Raises as ``_Server.connect``."""
        api = self._server.connect()
        if self._run is None:
            from .recording import RecordedRun  # noqa: PLC0415 - imports Prefect

            self._run = RecordedRun.begin(
                api, self._flow, self._name, self._parameters, self._tags, began_at=self._began_at
            )
        return self._run


class _Server:
    """The Prefect server for reports: chosen when the first report is sent, in the thread that sends."""

    def __init__(self, home: Path, on_note: Callable[[str], None], *, wait_seconds: float) -> None:
        self._home = home
        self._on_note = on_note
        self._begin_at = time.monotonic() + wait_seconds
        self._leaving = threading.Event()
        self._choice: ServerChoice | None = None
        self._api: PrefectApi | None = None
        self._quiet_until = 0.0
        self._notes: set[str] = set()

    def connect(self) -> PrefectApi:
        """Wait until a server can take reports. Raises ``NotShown`` and ``NoServer`` if there is none."""
        if self._api is not None:
            return self._api
        if time.monotonic() < self._quiet_until:
            raise NotShown("the server did not answer a moment ago")
        if (left := self._begin_at - time.monotonic()) > 0 and self._leaving.wait(left):
            raise NotShown("the work ended before a temporary server was started")
        try:
            from .server import ServerChoice  # noqa: PLC0415 - imports Prefect, which takes more than a second
            from .sink import PrefectApi  # noqa: PLC0415 - as above

            if self._choice is None:
                self._choice = ServerChoice(self._home)
            self._api = PrefectApi(self._choice.choose(on_note=self._note, is_leaving=self._leaving))
        except BaseException as error:
            self._note_failure(error)
            self._quiet_until = time.monotonic() + _CONNECT_AGAIN_SECONDS
            raise
        return self._api

    def leave(self) -> None:
        """Start no server from now on."""
        self._leaving.set()

    def close_client(self) -> None:
        """Close the connection, in the thread that sends."""
        if self._api is not None:
            self._api.close()

    def close(self) -> None:
        """End the temporary server, if there is one."""
        if self._choice is not None:
            self._choice.close()

    def _note(self, text: str) -> None:
        if text not in self._notes:
            self._notes.add(text)
            self._on_note(text)

    def _note_failure(self, error: BaseException) -> None:
        if self._leaving.is_set():
            return
        from .server import NoServer  # noqa: PLC0415 - as above

        reason = str(error) if isinstance(error, NoServer) else f"Prefect failed ({type(error).__name__})"
        self._note(f"{reason}; the work continues without Prefect")


class NotShown(Exception):
    """There is no server for a report."""
