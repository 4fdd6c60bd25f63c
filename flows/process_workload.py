"""The foreground run of one workload, what ``batchkit run`` starts; or a run of it on a worker.

On a worker, after ``prefect deploy`` (see ``prefect.yaml``), with GROQ_API_KEY and BATCHKIT_* set for the worker, and the id
and the name that ``batchkit status NAME --json`` gives of a workload that ``batchkit submit`` has made::

    prefect deployment run process_workload/batchkit --param workload_id=3 --param workload_name=my-workload

Prefect shows the run under the workload's name, a task run for each wave of work, a progress artifact, a table of the
batches that need attention, and a summary at the end.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed

from batchkit.engine.driver import DriveUntil
from batchkit.errors import BatchkitError
from batchkit.models import WorkloadId

from . import pictures
from .adapter import HandsWithdrawn, Job, follow
from .passing import advancing
from .session import open_reporter, open_session
from .tasks import perform

if TYPE_CHECKING:
    from collections.abc import Generator

    from prefect.client.schemas.objects import State

    from batchkit.engine.driver import Wait, Waves
    from batchkit.engine.progress import Progress
    from batchkit.engine.runtime import Runner
    from batchkit.models import Workload
    from batchkit.steps.context import StepReport

_logger = logging.getLogger("batchkit.flows")


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

    The name is only for the eye. Ends as Completed (``SomeFailed`` when requests failed, ``Unfinished`` when it stopped
    before), Failed with an error that is meant for the user, or Cancelled when the work went on or stopped elsewhere.
    """

    def job_of(runner: Runner) -> Job[Progress]:
        workload = runner.progress(WorkloadId(workload_id)).workload
        return Job(runner, _driving(runner, workload, DriveUntil(until)), names={workload.id: workload.name})

    async with open_session(job_of) as session, open_reporter(session.job.names) as reporter:
        name = session.job.names[WorkloadId(workload_id)]
        reporter.tag("batchkit", f"workload:{name}")
        try:
            progress = await follow(session.job, session.hands, run_wave=perform, watcher=reporter)
        except HandsWithdrawn:
            return Cancelled(message="The work was interrupted or goes on without Prefect.")
        except BatchkitError as error:
            reporter.failed(name, error)
            return Failed(message=" ".join(filter(None, (f"{error.message}.", error.hint))))
        except Exception as error:
            reporter.failed(name, error)
            raise
        reporter.finished(progress)
    return _ending(progress)


def _driving(
    runner: Runner, workload: Workload, until: DriveUntil
) -> Generator[Waves | Wait, StepReport | None, Progress]:
    """Drive a workload on a worker; the command that runs this flow in its own process handles what it has finished itself."""
    advanced = yield from advancing(runner, workload, until=until)
    for note in advanced.notes:
        _logger.info(note)
    return advanced.progress


def _ending(progress: Progress) -> State[Any]:
    line = pictures.progress_line(progress)
    if not progress.is_finished:
        return Completed(name="Unfinished", message=f"{line}. The same command goes on.")
    if progress.all_succeeded:
        return Completed(message=line)
    return Completed(name="SomeFailed", message=line)
