"""One pass over every open workload: what a schedule runs, on workers or in ``batchkit serve``. Many may run at once.

Each pass takes what it does with leases in batchkit's own database, so that runs beside it take something else. A pass that
finds nothing to do makes no task runs.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed

from . import pictures
from .adapter import HandsWithdrawn, Job, Pass, follow, one_pass
from .session import open_reporter, open_session
from .tasks import perform

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

    from batchkit.models import WorkloadId
    from batchkit.runner import Runner

#: A scheduled run that starts this many intervals late does nothing: a later one does its work.
LATE_INTERVALS = 2


@flow(name="advance_workloads", flow_run_name="advance open workloads", retries=0, persist_result=False)
async def advance_workloads(interval_seconds: float = 60) -> State[Any]:
    """Take every open workload one pass further.

    ``interval_seconds`` is that of the schedule: a run that starts more than two of them late, as they pile up while no
    worker runs, ends at once as ``Skipped``. Ends as Failed when a workload could not be advanced; the others were.
    """
    late = seconds_late(flow_run.get_scheduled_start_time())
    if late > LATE_INTERVALS * interval_seconds:
        return Completed(name="Skipped", message=f"{late:.0f} s late; a later run does the work")

    def job_of(runner: Runner) -> Job[Pass]:
        names: dict[WorkloadId, str] = {}
        return Job(runner, one_pass(runner, names), names=names)

    async with open_session(job_of) as session, open_reporter(session.job.names) as reporter:
        reporter.tag("batchkit")
        try:
            came_to: Pass = await follow(session.job, session.hands, run_wave=perform, watcher=reporter)
        except HandsWithdrawn:
            return Cancelled(message="The pass was interrupted or goes on without Prefect.")
        for progress in came_to.pictures:
            if progress.is_finished:
                reporter.finished(progress)
        for workload, error in came_to.problems:
            reporter.failed(workload.name, error)
    return _ending(came_to)


def seconds_late(scheduled: datetime) -> float:
    """Say how many seconds ago a run should have started."""
    return (datetime.now(UTC) - scheduled).total_seconds()  # noqa: TID251 - compared with Prefect's clock, not with ours


def _ending(came_to: Pass) -> State[Any]:
    lines = [f"{progress.workload.name}: {pictures.progress_line(progress)}" for progress in came_to.pictures]
    lines += [f"{workload.name}: {type(error).__name__}: {error.message}" for workload, error in came_to.problems]
    message = "; ".join(lines) or "No workload is open."
    return Failed(message=message) if came_to.problems else Completed(message=message)
