"""The rows of a query on a database: copied once, and told apart by their content.

The rows of a query change, so that its text does not say what was asked. A recipe stores both digests: that of the rows, like the
digest of a file, and that of the query, by which a workload with earlier rows of the same query is found.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from batchkit.annotation.recipe import load_recipe
from batchkit.annotation.rendering import SNAPSHOT
from batchkit.errors import BatchkitError, UsageError
from batchkit.store import workloads

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from batchkit.annotation.recipe import Recipe
    from batchkit.datasets import Table
    from batchkit.datasets.sql import SqlTable
    from batchkit.models import Workload


def copied(table: SqlTable, recipe: Recipe, folder: Path) -> tuple[Table, Recipe]:
    """Copy the rows that a recipe takes of a query into ``folder``; returns the copy, and the recipe with its digests.

    Raises as ``Table.batches``, and ``SpoolError``.
    """
    from batchkit.datasets import Snapshot  # noqa: PLC0415 - an extra, which no other verb needs
    from batchkit.datasets.sql import RowsDigest  # noqa: PLC0415 - as above

    taken = table if recipe.limit is None else table.head(recipe.limit)
    path = folder / f"query{Path(SNAPSHOT).suffix}"
    digest = RowsDigest()
    with Snapshot.writer(path, taken.schema) as copy:
        for batch in taken.batches():
            digest.update(batch)
            copy.write(batch)
    kept = Snapshot.open(path)
    kept.name = table.name
    digests = {"table_digest": digest.hexdigest(), "query_digest": table.query_digest()}
    return kept, recipe.model_copy(update={"table": recipe.table or table.name, **digests})


def open_of_same_query(connection: Connection, recipe: Recipe) -> list[Workload]:
    """Return the unfinished workloads with the same questions about rows of the same query, whatever the rows, oldest first.

    A workload whose input is not split whole is none of them: nothing of it was sent.
    """
    return [workload for workload in workloads.open_workloads(connection) if is_of_query(workload, recipe)]


def is_of_query(workload: Workload, recipe: Recipe) -> bool:
    """Whether a workload asks the same questions about rows of the same query, whatever the rows."""
    try:
        before = load_recipe(workload.recipe) if workload.recipe is not None else None
    except UsageError:
        return False
    if before is None:
        return False
    # Earlier versions took the digest of the query for that of its rows.
    is_same = recipe.query_digest in {before.query_digest, before.table_digest}
    return is_same and _question(before) == _question(recipe)


def _question(recipe: Recipe) -> Recipe:
    return recipe.essence().model_copy(update={"table_digest": ""})


def has_rows(workload: Workload, recipe: Recipe, kept: Callable[[], Path]) -> bool:
    """Whether a workload of the same query was made from the rows of ``recipe``; ``kept`` returns the path of its copy of them."""
    from batchkit.datasets import Snapshot  # noqa: PLC0415 - as above
    from batchkit.datasets.sql import RowsDigest  # noqa: PLC0415 - as above

    digest = load_recipe(workload.recipe or "").table_digest
    if digest != recipe.query_digest:
        return digest == recipe.table_digest
    found = RowsDigest()
    try:
        for batch in Snapshot.open(kept()).batches():
            found.update(batch)
    except BatchkitError:
        return False
    return found.hexdigest() == recipe.table_digest
