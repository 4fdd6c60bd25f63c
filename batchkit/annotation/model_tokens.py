"""The tokens of a workload of a table by model: the recipe names the models, and they alternate in a known order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit.annotation.recipe import load_recipe
from batchkit.store import report_rows, shards

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from batchkit.models import Workload


def tokens_by_model(connection: Connection, workload: Workload) -> list[tuple[str, int, int]] | None:
    """Return each model of the recipe with its prompt tokens and its completion tokens, those of bad answers included.

    Returns None for a workload without a recipe, and for one of several models that is too large to be read whole.
    """
    if workload.recipe is None:
        return None
    recipe = load_recipe(workload.recipe)
    if len(recipe.models) == 1:
        totals = shards.totals_by_state(connection, workload.id).values()
        return [
            (recipe.models[0], sum(one.prompt_tokens for one in totals), sum(one.completion_tokens for one in totals))
        ]
    # Each model has its samples in a row.
    tokens = report_rows.tokens_round_robin(
        connection, workload.id, workload.request_count or 0, groups=len(recipe.models), repeats=recipe.samples
    )
    return None if tokens is None else [(model, *used) for model, used in zip(recipe.models, tokens, strict=True)]
