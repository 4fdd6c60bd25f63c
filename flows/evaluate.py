"""Scheduled evaluations: ``evaluate`` begins and submits a run, ``collect_evaluations`` scores finished runs.

No process waits for the batches: ``advance_workloads`` (or ``batchkit serve``, which does all three) advances them. A run is
identified by its suite and its scheduled time, so that a repeated, retried or duplicated flow run finds the existing run.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.runtime import flow_run
from prefect.server.schemas.schedules import CronSchedule
from prefect.states import Completed, Failed

from batchkit.api.collecting import collect
from batchkit.engine.waves import DriveUntil
from batchkit.errors import BatchkitError, one_line

from .leading import failed, open_lead, skipped

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

    from batchkit.api.collecting import Collected
    from batchkit.evaluation.suite import Schedule
    from batchkit.evaluation.suite_file import SuiteFile

    from .leading import Lead


def _run_name() -> str:
    return f"evaluate {Path(str(flow_run.get_parameters()['suite'])).stem}"


@flow(name="evaluate", flow_run_name=_run_name, retries=0, persist_result=False)
async def evaluate(suite: str) -> State[Any]:
    """Begin the run of a suite, a YAML file, for the scheduled time of this flow run, and submit it.

    A flow run that starts after the schedule's next time ends at once as ``Skipped``: the next one does its work. Ends as Failed with
    an error for the user.
    """
    from batchkit.evaluation.suite_file import load_suite  # noqa: PLC0415 - an extra; the error says so

    scheduled = flow_run.get_scheduled_start_time().replace(microsecond=0)
    try:
        file = load_suite(suite)
    except BatchkitError as error:
        return failed(error)
    now = datetime.now(UTC)  # noqa: TID251 - compared with Prefect's clock, not with ours
    if file.suite.schedule is not None and await is_superseded(file.suite.schedule, scheduled, now):
        return Completed(name="Skipped", message="The schedule's next time has passed; the next run does the work.")
    async with open_lead(f"suite:{file.suite.name}") as lead:
        try:
            message = await _submit(lead, file, scheduled.timestamp())
        except BatchkitError as error:
            lead.prefect.named_failed(file.suite.name, error)
            return failed(error)
    return Completed(message=message)


async def _submit(lead: Lead, file: SuiteFile, scheduled_for: float) -> str:
    """Begin the run of a scheduled time and run one pass over it; return a line with its progress."""
    from batchkit.evaluation.runs import begin, next_workload  # noqa: PLC0415 - as above

    evaluation = await lead.call(partial(begin, lead.runner, file, scheduled_for=scheduled_for))
    if evaluation.finished_at is not None:
        return f"{evaluation.name} is finished: {evaluation.verdict}."
    workload = await lead.call(partial(next_workload, lead.runner, evaluation))
    if workload is None:
        return f"{evaluation.name}: all answers have arrived; the next collection scores them."
    progress = await lead.drive(workload, DriveUntil.ONE_PASS)
    return f"{evaluation.name}: {progress.counts.in_flight:,} of {progress.counts.total:,} requests are in flight."


async def is_superseded(schedule: Schedule, scheduled: datetime, now: datetime) -> bool:
    """Return whether a schedule has had a later time than ``scheduled`` already."""
    cron = CronSchedule(cron=schedule.cron, timezone=schedule.timezone)
    # The dates include the start itself.
    dates = await cron.get_dates(2, start=scheduled)
    return any(scheduled < date <= now for date in dates)


@flow(name="collect_evaluations", flow_run_name="collect evaluations", retries=0, persist_result=False)
async def collect_evaluations(interval_seconds: float = 300) -> State[Any]:
    """Score, compare and report every run whose answers have all arrived, and submit the others to their judges.

    ``interval_seconds`` is the interval of the schedule; as with ``advance_workloads``, a run that is more than two intervals late ends
    at once.
    """
    if (state := skipped(interval_seconds)) is not None:
        return state
    async with open_lead() as lead:
        collected = await lead.call(partial(collect, lead.runner))
        for found in collected:
            if found.summary is not None:
                lead.prefect.evaluated(found.summary, found.report)
            elif found.error is not None:
                lead.prefect.named_failed(found.run, found.error)
    return _ending(collected)


def _ending(collected: list[Collected]) -> State[Any]:
    lines = [f"{found.run}: {found.summary.verdict}" for found in collected if found.summary is not None]
    troubles = [f"{found.run}: {one_line(found.error)}" for found in collected if found.error is not None]
    message = "; ".join([*lines, *troubles]) or "No run is ready."
    return Failed(message=message) if troubles else Completed(message=message)
