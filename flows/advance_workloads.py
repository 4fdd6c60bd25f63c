"""One pass over every open workload: what a schedule runs, on workers or in ``batchkit serve``. Many may run at once.

Each pass takes what it does with leases in batchkit's own database, so that runs beside it take something else. The workloads
are advanced at the same time; the flow run ends with the last of them. A pass that finds nothing to do makes no task runs.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed

from . import pictures
from .adapter import HandsWithdrawn, follow
from .passing import Advanced, job_of, log_trouble, message_of
from .session import flow_session, open_reporter, open_sessions
from .tasks import perform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect.client.schemas.objects import State

    from .reporting import Reporter
    from .session import Session

#: A scheduled run that starts this many intervals late does nothing: a later one does its work.
LATE_INTERVALS = 2
#: So many workloads are advanced at the same time by a worker; in ``serve`` the command decides.
_MOST_AT_ONCE = 16


@flow(name="advance_workloads", flow_run_name="advance open workloads", retries=0, persist_result=False)
async def advance_workloads(interval_seconds: float = 60) -> State[Any]:
    """Take every open workload one pass further.

    ``interval_seconds`` is that of the schedule: a run that starts more than two of them late, as they pile up while no
    worker runs, ends at once as ``Skipped``. Ends as Failed when a workload could not be advanced; the others were.
    """
    late = seconds_late(flow_run.get_scheduled_start_time())
    if late > LATE_INTERVALS * interval_seconds:
        return Completed(name="Skipped", message=f"{late:.0f} s late; a later run does the work")

    async with (
        open_sessions(lambda runner: [job_of(runner, workload) for workload in runner.open_workloads()]) as opened,
        open_reporter(opened.names) as reporter,
    ):
        reporter.tag("batchkit")
        slots = asyncio.Semaphore(len(opened.sessions) if opened.are_given else _MOST_AT_ONCE)
        outcomes = await asyncio.gather(
            *(_advance(session, reporter, slots) for session in opened.sessions), return_exceptions=True
        )
    return _ending(outcomes)


def seconds_late(scheduled: datetime) -> float:
    """Say how many seconds ago a run should have started."""
    return (datetime.now(UTC) - scheduled).total_seconds()  # noqa: TID251 - compared with Prefect's clock, not with ours


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of one workload: a line for the flow run's message, None when somebody else goes on with it."""

    line: str | None
    failed: bool = False


async def _advance(session: Session, reporter: Reporter, slots: asyncio.Semaphore) -> _Outcome:
    """Follow the job of one workload. An error of the job is that workload's outcome; one of Prefect's is raised."""
    # This runs in a context of its own, so that the tasks of each workload find its session.
    flow_session.set(session)
    job = session.job
    (name,) = job.names.values()
    try:
        async with slots:
            advanced: Advanced = await follow(job, session.hands, run_wave=perform, watcher=reporter)
    except HandsWithdrawn:
        return _Outcome(None)
    except Exception as error:
        if not job.is_over:
            raise
        log_trouble(name, error)
        reporter.failed(name, error)
        return _Outcome(f"{name}: {message_of(error)}", failed=True)
    finally:
        session.hands.flow_ended()
    if advanced.progress.is_finished:
        reporter.finished(advanced.progress)
    return _Outcome(f"{name}: {pictures.progress_line(advanced.progress)}")


def _ending(outcomes: Sequence[_Outcome | BaseException]) -> State[Any]:
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    known = [outcome for outcome in outcomes if isinstance(outcome, _Outcome)]
    message = "; ".join(outcome.line for outcome in known if outcome.line is not None) or "No workload is open."
    if any(outcome.failed for outcome in known):
        return Failed(message=message)
    if any(outcome.line is None for outcome in known):
        return Cancelled(message="The pass was interrupted or goes on without Prefect.")
    return Completed(message=message)
