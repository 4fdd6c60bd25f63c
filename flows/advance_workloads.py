"""One pass over every open workload, run by a schedule on workers or by ``batchkit serve``. Several passes may run at once.

Each pass claims its work with leases in batchkit's own database, so that concurrent passes do other work. The workloads are
advanced at the same time; the flow run ends with the last of them. A pass without work makes no task runs.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.states import Completed, Failed

from batchkit.api.finishing import log_trouble
from batchkit.engine.waves import DriveUntil
from batchkit.errors import one_line
from batchkit.reports import workload_markdown

from .leading import open_lead, skipped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect.client.schemas.objects import State

    from batchkit.models import Workload

    from .leading import Lead

#: The number of workloads that a worker advances at the same time.
_MOST_AT_ONCE = 16


@flow(name="advance_workloads", flow_run_name="advance open workloads", retries=0, persist_result=False)
async def advance_workloads(interval_seconds: float = 60) -> State[Any]:
    """Run one pass over every open workload.

    ``interval_seconds`` is the interval of the schedule: a run that starts more than two intervals late (runs pile up while no worker
    runs) ends at once as ``Skipped``. Ends as Failed if a workload could not be advanced; the others were.
    """
    if (state := skipped(interval_seconds)) is not None:
        return state
    async with open_lead() as lead:
        workloads = await lead.call(lead.runner.open_workloads)
        slots = asyncio.Semaphore(_MOST_AT_ONCE)
        outcomes = await asyncio.gather(*(_advance(lead, workload, slots) for workload in workloads))
    return _ending(outcomes)


async def _advance(lead: Lead, workload: Workload, slots: asyncio.Semaphore) -> tuple[str, bool]:
    """Run one pass over a workload; return a line for the flow run's message, and whether it failed. Any error is that workload's."""
    try:
        async with slots:
            progress = await lead.drive(workload, DriveUntil.ONE_PASS)
            await lead.finish(progress)
    except Exception as error:  # noqa: BLE001 - the other workloads are still advanced
        log_trouble(workload.name, error)
        return f"{workload.name}: {one_line(error)}", True
    return f"{workload.name}: {workload_markdown.progress_line(progress)}", False


def _ending(outcomes: Sequence[tuple[str, bool]]) -> State[Any]:
    message = "; ".join(line for line, _ in outcomes) or "No workload is open."
    return Failed(message=message) if any(failed for _, failed in outcomes) else Completed(message=message)
