"""A flow that annotates a table like ``batchkit annotate``, for schedules and for the user's own flows.

::

    from batchkit.flows.annotate import annotate

    recipe = {"prompts": [{"user": "Kind? {{ text }}"}], "models": ["openai/gpt-oss-20b"], "rules": {"format": "any"}}
    await annotate(["/data/today.csv"], recipe, output="/data/today.labelled.parquet")

A deployment of ``batchkit.flows.annotate.annotate`` has the same parameters. With ``until="submitted"`` it ends when everything is
submitted; a later flow run with the same parameters fetches the answers and writes the output.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.runtime import flow_run
from pydantic import ValidationError

from batchkit.api.queries import earlier_of_query
from batchkit.api.remembered import write_remembered_output
from batchkit.api.table_question import TableQuestion
from batchkit.api.tables import begin_table, finish_table
from batchkit.engine.waves import DriveUntil
from batchkit.errors import BatchkitError, UsageError

from .leading import ended, failed, open_lead

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

    from batchkit.annotation.recipe import Recipe


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
    separator: str | None = None,
    until: str = "finished",
) -> State[Any]:
    """Send a recipe's questions about the rows of ``tables`` and write the ``output`` when all are answered.

    ``tables`` are files or addresses, as for ``batchkit annotate``. The same checks as in ``batchkit.annotate`` come first, and the
    output is stored with the workload: any command that finishes it writes it. ``recipe`` has the fields of ``annotation.Recipe``.
    The default name is made from the table and everything that decides the requests, so the same call again resumes; an unfinished
    workload with earlier rows of the same query is finished first. Ends as Completed (``SomeFailed``, ``Unfinished``) or Failed with
    an error for the user.
    """
    async with open_lead() as lead:
        try:
            question = TableQuestion(
                recipe=_valid_recipe(recipe),
                parts=[str(table) for table in tables],
                query=query,
                separator=separator,
                name=name,
                output=output,
            )
            question.check_outputs(output)
            for earlier in await lead.call(partial(earlier_of_query, lead.runner, question)):
                progress = await lead.drive(earlier, DriveUntil(until))
                if not progress.is_finished:
                    return ended(progress)
                await lead.call(partial(write_remembered_output, lead.runner, progress))
            question, workload = await lead.call(partial(begin_table, lead.runner, question))
            before = progress = await lead.call(partial(lead.runner.progress, workload.id))
            if not before.is_finished:
                progress = await lead.drive(workload, DriveUntil(until))
            if progress.is_finished:
                await lead.call(partial(finish_table, lead.runner, question, progress, is_news=not before.is_finished))
        except BatchkitError as error:
            lead.prefect.named_failed(name or ", ".join(tables), error)
            return failed(error)
    return ended(progress)


def _valid_recipe(fields: dict[str, Any]) -> Recipe:
    from batchkit.annotation.recipe import Recipe  # noqa: PLC0415 - an extra

    try:
        return Recipe.model_validate({"kind": "annotate", **fields})
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, item['loc'])) or 'recipe'}: {item['msg']}" for item in error.errors()]
        raise UsageError(
            f"the recipe is not valid: {'; '.join(problems)}", hint="correct the parameter `recipe` of the flow run"
        ) from None
