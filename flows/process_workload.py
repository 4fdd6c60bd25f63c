"""The run of one workload: in the foreground, as ``batchkit run`` shows it, or on a worker.

Prefect shows the run under the workload's name, a task run for each wave of work, a progress artifact, a table of the
batches that need attention, and a summary at the end.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.runtime import flow_run

from batchkit.engine.waves import DriveUntil
from batchkit.errors import BatchkitError
from batchkit.models import WorkloadId

from .leading import ended, failed, open_lead

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State


def _run_name() -> str:
    parameters = flow_run.get_parameters()
    return f"run {parameters.get('workload_name') or parameters['workload_id']}"


@flow(name="process_workload", flow_run_name=_run_name, retries=0, persist_result=False)
async def process_workload(
    workload_id: int,
    workload_name: str = "",  # noqa: ARG001 - names the run, see _run_name
    until: str = "finished",
) -> State[Any]:
    """Drive one workload until it is ``finished`` or ``submitted``.

    The name is only for display. Ends as Completed (``SomeFailed`` if requests failed, ``Unfinished`` if it stopped earlier) or Failed
    with an error for the user.
    """
    async with open_lead() as lead:
        snapshot = await lead.call(partial(lead.runner.progress, WorkloadId(workload_id)))
        lead.prefect.tag(f"workload:{snapshot.workload.name}")
        try:
            progress = await lead.drive(snapshot.workload, DriveUntil(until))
        except BatchkitError as error:
            return failed(error)
        if not lead.is_foreground:
            await lead.finish(progress)
    return ended(progress)
