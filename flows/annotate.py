"""A flow that annotates a table like ``batchkit annotate``, for schedules and for the user's own flows.

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

A deployment of ``batchkit.flows.annotate.annotate`` has the same parameters. With ``until="submitted"`` it ends when everything is
submitted; a later flow run with the same parameters fetches the answers and writes the output.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.runtime import flow_run
from pydantic import ValidationError

from batchkit.engine.waves import DriveUntil
from batchkit.errors import BatchkitError, UsageError

from .leading import ended, failed, open_lead

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

    from batchkit.engine.runtime import Runner
    from batchkit.models import Workload


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
    """Send a recipe's questions about the rows of ``tables`` (files or addresses, as for ``batchkit annotate``) and write the ``output`` when all are answered.

    ``recipe`` has the fields of ``annotation.Recipe``. The default name is made from the table and everything that decides the
    requests, so the same call again resumes. Ends as Completed (``SomeFailed``, ``Unfinished``) or Failed with an error for the user.
    """
    async with open_lead() as lead:
        try:
            workload = await lead.call(partial(_workload_of, lead.runner, tables, recipe, name=name, query=query))
            progress = await lead.call(partial(lead.runner.progress, workload.id))
            if not progress.is_finished:
                progress = await lead.drive(workload, DriveUntil(until))
            if progress.is_finished and output is not None:
                await lead.call(partial(_write, lead.runner, workload, output))
        except BatchkitError as error:
            lead.prefect.named_failed(name or ", ".join(tables), error)
            return failed(error)
    return ended(progress)


def _workload_of(
    runner: Runner, tables: list[str], recipe: dict[str, Any], *, name: str | None, query: str | None
) -> Workload:
    from batchkit.annotation.recipe import Recipe  # noqa: PLC0415 - as above
    from batchkit.annotation.workload_from_table import ensure_workload  # noqa: PLC0415 - an extra
    from batchkit.datasets import open_table  # noqa: PLC0415 - as above

    try:
        made = Recipe.model_validate({"kind": "annotate", **recipe})
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, item['loc'])) or 'recipe'}: {item['msg']}" for item in error.errors()]
        raise UsageError(
            f"the recipe is not valid: {'; '.join(problems)}", hint="correct the parameter `recipe` of the flow run"
        ) from None
    return ensure_workload(runner, open_table(tables, query=query), made, name=name)


def _write(runner: Runner, workload: Workload, output: str) -> None:
    from batchkit.annotation.row_answers import write_output_table  # noqa: PLC0415 - an extra

    write_output_table(runner, workload, output)
