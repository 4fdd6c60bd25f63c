"""A preview of the requests of a table and about what they cost: reads every row, stores and sends nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from batchkit import preflight
from batchkit.annotation.render import Renderer
from batchkit.annotation.workload_from_table import RowProblems, default_name, rendered, with_table, without_body_prefix
from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batchkit.annotation.recipe import Recipe
    from batchkit.datasets import Table


@dataclass(slots=True)
class ModelShare:
    """The requests to one model. Tokens are estimates; ``completion_tokens`` is None if some answer has no limit."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int | None = 0


@dataclass(slots=True)
class Preview:
    """The requests of a table: ``shown`` are those of the first rows, as they would be sent; ``warnings`` are counted by text."""

    name: str
    rows: int = 0
    requests: int = 0
    shown: list[dict[str, Any]] = field(default_factory=list)
    models: dict[str, ModelShare] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)


def preview(
    table: Table,
    recipe: Recipe,
    *,
    name: str | None = None,
    folder: Path | None = None,
    shown_rows: int = 3,
    advance: Callable[[int], None] = lambda _rows: None,
) -> Preview:
    """Render a whole table. Raises as ``workload_from_table.ensure_workload``, but does not check that keys are unique."""
    whole = with_table(recipe, table)
    taken = table if whole.limit is None else table.head(whole.limit)
    found = Preview(name or default_name(table, whole), models={model: ModelShare() for model in whole.models})
    problems = RowProblems(table.name)
    for batch, made in rendered(taken, Renderer(whole, taken.columns, folder=folder), problems):
        for lines in made:
            records = [jsonl.loads(line) for line in lines]
            if found.rows < shown_rows:
                found.shown += records
            found.rows += 1
            found.requests += len(records)
            for record, line in zip(records, lines, strict=True):
                inspection = preflight.inspect(record, len(line) - 1)
                for reason in inspection.reasons:
                    problems.add(found.rows, "", without_body_prefix(reason))
                for warning in map(without_body_prefix, inspection.warnings):
                    found.warnings[warning] = found.warnings.get(warning, 0) + 1
                _add(found.models[record["body"]["model"]], record)
        advance(batch.num_rows)
    problems.report()
    return found


def _add(share: ModelShare, record: dict[str, Any]) -> None:
    estimate = preflight.estimate_tokens(record)
    share.requests += 1
    share.prompt_tokens += estimate.prompt
    if estimate.max_completion is None:
        share.completion_tokens = None
    elif share.completion_tokens is not None:
        share.completion_tokens += estimate.max_completion
