"""A table annotated by a flow: what ``batchkit annotate`` does, for schedules and for other flows of the user's.

::

    from batchkit.flows.annotate import annotate

    await annotate(
        ["/data/today.csv"],
        {
            "prompts": [{"user": "Is this kind? {{ text }}"}],
            "models": ["openai/gpt-oss-20b"],
            "rules": {"format": "choice", "choices": ["kind", "unkind"]},
        },
        output="/data/today.labelled.parquet",
    )

A deployment of ``batchkit.flows.annotate.annotate`` takes the same as parameters. With ``until="submitted"`` it lets go as soon as
everything is on its way; the same flow run again, later, finds the answers and writes the output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed
from pydantic import ValidationError

from batchkit.engine.driver import DriveUntil
from batchkit.errors import BatchkitError, UsageError

from . import pictures
from .adapter import HandsWithdrawn, Job, follow
from .session import open_reporter, open_session
from .tasks import perform

if TYPE_CHECKING:
    from collections.abc import Generator

    from prefect.client.schemas.objects import State

    from batchkit.engine.driver import Wait, Waves
    from batchkit.engine.progress import Progress
    from batchkit.engine.runtime import Runner
    from batchkit.models import WorkloadId
    from batchkit.steps.context import StepReport


def _run_name() -> str:
    parameters = flow_run.get_parameters()
    return f"annotate {parameters.get('name') or ', '.join(map(str, parameters['tables']))}"


@flow(name="annotate", flow_run_name=_run_name, retries=0, persist_result=False)
async def annotate(
    tables: list[str],
    recipe: dict[str, Any],
    *,
    output: str | None = None,
    name: str | None = None,
    query: str | None = None,
    until: str = "finished",
) -> State[Any]:
    """Ask a recipe's questions of the rows of ``tables`` (words as for ``batchkit annotate``) and write the ``output`` when all are answered.

    ``recipe`` has the members of ``annotation.Recipe``. The name is by default made of the table and everything that makes the requests,
    so the same again carries on. Ends as Completed (``SomeFailed``, ``Unfinished``) or Failed with an error that is meant for the user.
    """
    names: dict[WorkloadId, str] = {}

    def drive(runner: Runner) -> Generator[Waves | Wait, StepReport | None, Progress]:
        from batchkit.annotation.gather import write_annotated  # noqa: PLC0415 - an extra
        from batchkit.annotation.orders import ensure_workload  # noqa: PLC0415 - as above
        from batchkit.annotation.recipe import Recipe  # noqa: PLC0415 - as above
        from batchkit.datasets import open_table  # noqa: PLC0415 - as above

        try:
            made = Recipe.model_validate({"kind": "annotate", **recipe})
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, item['loc'])) or 'recipe'}: {item['msg']}" for item in error.errors()]
            raise UsageError(
                f"the recipe is wrong: {'; '.join(problems)}", hint="correct the parameter `recipe` of the flow run"
            ) from None
        workload = ensure_workload(runner, open_table(tables, query=query), made, name=name)
        names[workload.id] = workload.name
        progress = runner.progress(workload.id)
        if not progress.is_finished:
            progress = yield from runner.drive(workload.id, until=DriveUntil(until))
        if progress.is_finished and output is not None:
            write_annotated(runner, workload, output)
        return progress

    async with (
        open_session(lambda runner: Job(runner, drive(runner), names=names)) as session,
        open_reporter(names) as reporter,
    ):
        reporter.tag("batchkit")
        try:
            progress = await follow(session.job, session.hands, run_wave=perform, watcher=reporter)
        except HandsWithdrawn:
            return Cancelled(message="The work was interrupted or goes on without Prefect.")
        except BatchkitError as error:
            reporter.failed(name or ", ".join(tables), error)
            return Failed(message=" ".join(filter(None, (f"{error.message}.", error.hint))))
        reporter.finished(progress)
    line = pictures.progress_line(progress)
    if not progress.is_finished:
        return Completed(name="Unfinished", message=f"{line}. The same again goes on.")
    return Completed(message=line) if progress.all_succeeded else Completed(name="SomeFailed", message=line)
