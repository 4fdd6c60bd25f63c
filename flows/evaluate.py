"""Evaluations on a schedule: ``evaluate`` begins a night's run and lets go, ``collect_evaluations`` finishes what is there.

No process waits for the batches: ``advance_workloads`` (or ``batchkit serve``, which does all three) moves them meanwhile. A run is its suite
and the moment that the schedule meant, so that a flow run that is repeated, retried or doubled finds the run that is there.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.runtime import flow_run
from prefect.server.schemas.schedules import CronSchedule
from prefect.states import Cancelled, Completed, Failed

from batchkit.engine.driver import DriveUntil
from batchkit.errors import BatchkitError

from .adapter import HandsWithdrawn, Job, follow
from .advance_workloads import LATE_INTERVALS, seconds_late
from .collecting import collecting
from .session import open_reporter, open_session
from .tasks import perform

if TYPE_CHECKING:
    from collections.abc import Generator

    from prefect.client.schemas.objects import State

    from batchkit.engine.driver import Wait, Waves
    from batchkit.engine.runtime import Runner
    from batchkit.evaluation.suite import Schedule
    from batchkit.evaluation.suite_file import SuiteFile
    from batchkit.models import WorkloadId
    from batchkit.steps.context import StepReport

    from .collecting import Finding


def _run_name() -> str:
    return f"evaluate {Path(str(flow_run.get_parameters()['suite'])).stem}"


@flow(name="evaluate", flow_run_name=_run_name, retries=0, persist_result=False)
async def evaluate(suite: str) -> State[Any]:
    """Begin the run of a suite, a YAML file, for the moment that this flow run was scheduled for, and submit it.

    One that starts so late that the schedule's next moment has passed ends at once as ``Skipped``: the next one does its work. Ends as
    Failed with an error that is meant for the user.
    """
    from batchkit.evaluation.suite_file import load_suite  # noqa: PLC0415 - an extra; the error says so

    scheduled = flow_run.get_scheduled_start_time().replace(microsecond=0)
    try:
        file = load_suite(suite)
    except BatchkitError as error:
        return Failed(message=_words(error))
    now = datetime.now(UTC)  # noqa: TID251 - compared with Prefect's clock, not with ours
    if file.suite.schedule is not None and await is_superseded(file.suite.schedule, scheduled, now):
        return Completed(name="Skipped", message="The schedule's next moment has passed; its run does the work.")
    names: dict[WorkloadId, str] = {}

    def job_of(runner: Runner) -> Job[str]:
        return Job(runner, _submitting(runner, file, scheduled.timestamp(), names), names=names)

    async with open_session(job_of) as session, open_reporter(names) as reporter:
        reporter.tag("batchkit", f"suite:{file.suite.name}")
        try:
            message = await follow(session.job, session.hands, run_wave=perform, watcher=reporter)
        except HandsWithdrawn:
            return Cancelled(message="The work was interrupted or goes on without Prefect.")
        except BatchkitError as error:
            reporter.failed(file.suite.name, error)
            return Failed(message=_words(error))
    return Completed(message=message)


def _submitting(
    runner: Runner, file: SuiteFile, scheduled_for: float, names: dict[WorkloadId, str]
) -> Generator[Waves | Wait, StepReport | None, str]:
    """Begin the run of a moment and take it one pass further; says what there is."""
    from batchkit.evaluation.runs import begin, next_workload  # noqa: PLC0415 - as above

    evaluation = begin(runner, file, scheduled_for=scheduled_for)
    if evaluation.finished_at is not None:
        return f"{evaluation.name} is finished: {evaluation.verdict}."
    workload = next_workload(runner, evaluation)
    if workload is None:
        return f"{evaluation.name}: all answers are there; the next collection scores them."
    names[workload.id] = workload.name
    progress = yield from runner.drive(workload.id, until=DriveUntil.ONE_PASS)
    return f"{evaluation.name}: {progress.counts.in_flight:,} of {progress.counts.total:,} requests are on their way."


async def is_superseded(schedule: Schedule, scheduled: datetime, now: datetime) -> bool:
    """Whether a schedule has come to a later moment than ``scheduled`` already."""
    cron = CronSchedule(cron=schedule.cron, timezone=schedule.timezone)
    # Its own moment is among the dates from there on.
    dates = await cron.get_dates(2, start=scheduled)
    return any(scheduled < date <= now for date in dates)


@flow(name="collect_evaluations", flow_run_name="collect evaluations", retries=0, persist_result=False)
async def collect_evaluations(interval_seconds: float = 300) -> State[Any]:
    """Score, compare and report every run whose answers are all there, and hand the others to their judges.

    ``interval_seconds`` is that of the schedule; as ``advance_workloads``, a run that is more than two of them late ends at once.
    """
    late = seconds_late(flow_run.get_scheduled_start_time())
    if late > LATE_INTERVALS * interval_seconds:
        return Completed(name="Skipped", message=f"{late:.0f} s late; a later run does the work")
    async with (
        open_session(lambda runner: Job(runner, collecting(runner), names={})) as session,
        open_reporter({}) as reporter,
    ):
        reporter.tag("batchkit")
        try:
            findings: list[Finding] = await follow(session.job, session.hands, run_wave=perform, watcher=reporter)
        except HandsWithdrawn:
            return Cancelled(message="The pass was interrupted or goes on without Prefect.")
        for found in findings:
            if found.summary is not None:
                reporter.evaluated(found.summary, found.report)
            elif found.error is not None:
                reporter.failed(found.run, found.error)
    return _ending(findings)


def _ending(findings: list[Finding]) -> State[Any]:
    lines = [f"{found.run}: {found.summary.verdict}" for found in findings if found.summary is not None]
    troubles = [f"{found.run}: {_words(found.error)}" for found in findings if found.error is not None]
    message = "; ".join([*lines, *troubles]) or "No run is due."
    return Failed(message=message) if troubles else Completed(message=message)


def _words(error: Exception) -> str:
    if not isinstance(error, BatchkitError):
        return f"{type(error).__name__}: {error}"
    problems = [str(problem) for problem in getattr(error, "problems", ())]
    return " ".join(filter(None, (f"{error.message}.", *problems, error.hint)))
