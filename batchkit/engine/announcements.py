"""Writing events into the outbox, in the transaction that causes them: finished, failed, regressed, stopped.

A report is a JSON object::

    version     1; keys may be added under the same version
    id          identifies the event; an event that is delivered twice has the same id
    kind        finished: every request succeeded; failed: finished, but not every request (or answer of an evaluation) succeeded;
                regressed: an alarm of an evaluation went off; stopped: work ended because of an outage or a refusal of the account;
                budget: stopped by the budget, a larger one resumes
    at          Unix seconds
    workload    its name, null when the database could not be read
    run         the name of an evaluation, else null
    requests    total, pending, in_flight, succeeded, failed, cancelled; or null
    failures    the first reasons: code, status_code, count
    seconds     how long the workload was worked on; null when unknown
    exit_code   the exit code of a command for this result
    output      where the results are written, or null
    reason      why it was stopped, else null
    evaluation  suite, verdict, previous, failed_answers; or null

It holds neither the key nor any text of a prompt or an answer.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from batchkit.engine.budget_texts import budget_text
from batchkit.engine.progress import read_progress
from batchkit.errors import AccountRefused, BatchkitError, ProviderError, RowsHeld, StoreUnavailable
from batchkit.files import jsonl
from batchkit.notifications.delivery import Unsaved
from batchkit.store import notifications, requests, shards, workloads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy.engine import Connection

    from batchkit.engine.progress import Progress
    from batchkit.models import WorkloadId
    from batchkit.store.engine import Store

logger = logging.getLogger(__name__)

VERSION = 1
_EVENTS = uuid.UUID("6f0d0a52-3c5e-4f0b-9a55-0f3c1b7c2a9e")
_MOST_REASONS = 5
#: The recipe kind of workloads that belong to an evaluation, which has its own event.
_OF_EVALUATION = "evaluate"
_OUTAGES = (ProviderError, StoreUnavailable, RowsHeld)


@dataclass(frozen=True, slots=True)
class EvaluationEnd:
    """The end of a suite's run, as its report states it."""

    suite: str
    verdict: str
    previous: str | None
    failed_answers: int


@dataclass(frozen=True, slots=True)
class _Driven:
    name: str
    was_finished: bool


class Announcer:
    """Writes events for ``targets`` (the names of their rows); without targets it does nothing. ``clock`` gives Unix seconds."""

    def __init__(self, store: Store, targets: Iterable[str], *, owner: str, clock: Callable[[], float]) -> None:
        self._store = store
        self._targets = tuple(targets)
        self._owner = owner
        self._clock = clock
        self._driven: dict[WorkloadId, _Driven] = {}
        self._unsaved: list[Unsaved] = []

    def take_unsaved(self) -> list[Unsaved]:
        """Return the events that could not be stored, and forget them."""
        taken, self._unsaved = self._unsaved, []
        return taken

    def began(self, workload_id: WorkloadId) -> None:
        """Record that this process drives a workload, and whether it is finished already: its end is then no event."""
        if not self._targets:
            return
        with self._store.read() as connection:
            name = workloads.get(connection, workload_id).name
            self._driven[workload_id] = _Driven(name, _is_finished(connection, workload_id))

    def merged(self, connection: Connection, workload_id: WorkloadId) -> None:
        """Write the event of a workload if this transaction finishes it. An error here is logged; the transaction still commits."""
        if not self._targets:
            return
        try:
            with connection.begin_nested():
                if _is_finished(connection, workload_id):
                    self._finished(connection, workload_id)
        except Exception:
            logger.warning("a notification could not be written", exc_info=True)

    def ended(
        self, workload_id: WorkloadId, error: BaseException | None, *, is_finished: bool, is_one_pass: bool
    ) -> None:
        """Write the end of a drive, if it is an event and not written yet. Raises nothing.

        Two transactions that finish a workload together may not see each other, so that neither knows that it is the last one.
        """
        driven = self._driven.pop(workload_id, None)
        if not self._targets:
            return
        try:
            if is_finished and driven is not None and not driven.was_finished:
                with self._store.write() as connection:
                    self._finished(connection, workload_id)
            elif isinstance(error, AccountRefused) or (isinstance(error, _OUTAGES) and not is_one_pass):
                self._stopped(workload_id, driven, error, is_one_pass=is_one_pass)
        except Exception:
            logger.warning("a notification could not be written", exc_info=True)

    def stopped_by_budget(self, progress: Progress) -> None:
        """Write that the budget stopped a workload: once for each amount that was spent by then. Raises nothing."""
        state = progress.budget
        if not self._targets or state is None:
            return
        workload, spent = progress.workload, state.ledger.spent
        event_id = _event_id("budget", workload.directory, str(state.budget), str(spent))
        try:
            with self._store.write() as connection:
                if notifications.exists(connection, event_id):
                    return
                reason = budget_text(progress)
                report = _report(
                    event_id,
                    "budget",
                    self._clock(),
                    workload=workload.name,
                    exit_code=6,
                    progress=progress,
                    reason=reason,
                )
                self._add(connection, report)
        except Exception:
            logger.warning("a notification could not be written", exc_info=True)

    def concluded(self, connection: Connection, *, run: str, workload: str, at: float, end: EvaluationEnd) -> None:
        """Write the end of a suite's run, in the transaction that declares it finished."""
        if not self._targets:
            return
        is_short = end.failed_answers or end.verdict in {"unscored", "incomparable"}
        kind = "regressed" if end.verdict == "regressed" else "failed" if is_short else "finished"
        code = {"regressed": 5, "failed": 3, "finished": 0}[kind]
        event_id = _event_id("evaluation", run, str(at))
        report = _report(event_id, kind, at, workload=workload, run=run, exit_code=code, evaluation=asdict(end))
        self._add(connection, report)

    def _finished(self, connection: Connection, workload_id: WorkloadId) -> None:
        workload = workloads.get(connection, workload_id)
        if _is_of_evaluation(workload.recipe):
            return
        # Requests that are resubmitted after the end are in new shards: the next end is another event.
        event_id = _event_id("finished", workload.directory, str(shards.next_number(connection, workload_id)))
        if notifications.exists(connection, event_id):
            return
        now = self._clock()
        progress = read_progress(connection, workload, now=now)
        kind, code = ("finished", 0) if progress.all_succeeded else ("failed", 3)
        self._add(connection, _report(event_id, kind, now, workload=workload.name, exit_code=code, progress=progress))

    def _stopped(
        self, workload_id: WorkloadId, driven: _Driven | None, error: BatchkitError, *, is_one_pass: bool
    ) -> None:
        """Write that work was stopped: once per process, or for single passes once in all, until the next merge."""
        now = self._clock()
        by = "" if is_one_pass else self._owner
        try:
            with self._store.write() as connection:
                progress = read_progress(connection, workloads.get(connection, workload_id), now=now)
                at = (str(progress.last_merged_at), progress.workload.directory)
                self._add(
                    connection, self._stop_report(_stop_id(by, error, *at), error, progress.workload.name, progress)
                )
        except BatchkitError as trouble:
            # The outage may be that of the database itself.
            logger.debug("the event of a stop could not be written: %s", trouble.message)
            name = None if driven is None else driven.name
            report = self._stop_report(_stop_id(self._owner, error, str(workload_id)), error, name, None)
            if all(found.report["id"] != report["id"] for found in self._unsaved):
                self._unsaved += [Unsaved(target, report) for target in self._targets]

    def _stop_report(
        self, event_id: str, error: BatchkitError, name: str | None, progress: Progress | None
    ) -> dict[str, Any]:
        return _report(
            event_id,
            "stopped",
            self._clock(),
            workload=name,
            exit_code=error.exit_code,
            progress=progress,
            reason=error.message,
        )

    def _add(self, connection: Connection, report: dict[str, Any]) -> None:
        notifications.add(
            connection,
            event_id=report["id"],
            targets=self._targets,
            at=report["at"],
            kind=report["kind"],
            subject=report["run"] or report["workload"] or "",
            report=jsonl.dumps(report).decode(),
        )


def _report(
    event_id: str,
    kind: str,
    at: float,
    *,
    workload: str | None,
    exit_code: int,
    run: str | None = None,
    progress: Progress | None = None,
    reason: str | None = None,
    evaluation: dict[str, Any] | None = None,
) -> dict[str, Any]:
    output = None if progress is None else progress.workload.output
    return {
        "version": VERSION,
        "id": event_id,
        "kind": kind,
        "at": at,
        "workload": workload,
        "run": run,
        "requests": None if progress is None else asdict(progress.counts),
        # The samples are left out: they may quote an answer.
        "failures": [
            {"code": found.code, "status_code": found.status_code, "count": found.count}
            for found in (() if progress is None else progress.failures[:_MOST_REASONS])
        ],
        "seconds": None if progress is None else progress.worked_seconds,
        "exit_code": exit_code,
        "output": None if output is None else jsonl.loads(output)["target"],
        "reason": reason,
        "evaluation": evaluation,
    }


def _is_finished(connection: Connection, workload_id: WorkloadId) -> bool:
    """Return whether every request has its final state; runs two queries that stop at the first row."""
    return not (
        shards.open_count(connection, workload_id, at_most=1)
        or requests.pending_count(connection, workload_id, at_most=1)
    )


def _is_of_evaluation(recipe: str | None) -> bool:
    return recipe is not None and jsonl.loads(recipe).get("kind") == _OF_EVALUATION


def _stop_id(by: str, error: BatchkitError, *where: str) -> str:
    return _event_id("stopped", by, type(error).__name__, *where)


def _event_id(*parts: str) -> str:
    return uuid.uuid5(_EVENTS, "\n".join(parts)).hex
