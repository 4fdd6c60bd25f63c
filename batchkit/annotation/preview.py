"""A preview of the requests of a table and about what they cost: reads every row, stores and sends nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Any

from batchkit import preflight
from batchkit.annotation.estimate import Estimate, estimate
from batchkit.annotation.render import KEY_REPEATED, Renderer, RowProblem
from batchkit.annotation.rendering import (
    RowsWithoutRequest,
    add_until_full,
    keys_of,
    refusal_of,
    rendered,
    repeated_rows,
    requests_of,
    without_body_prefix,
)
from batchkit.annotation.workload_from_table import default_name, with_table
from batchkit.files import jsonl
from batchkit.files.uniqueness import SeenIds
from batchkit.models import Lane
from batchkit.preflight import ModelShare
from batchkit.provider.pricing import pricing_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from batchkit.annotation.estimate import Earlier
    from batchkit.annotation.recipe import Recipe
    from batchkit.datasets import Table
    from batchkit.preflight import LineRules
    from batchkit.provider.dialect import Dialect
    from batchkit.provider.pricing import Pricing
    from batchkit.steps.reuse_plan import PlannedReuse

    #: Makes the requests of a row with its number. Raises ``RowProblem``.
    _Ask = Callable[[dict[str, Any], int], list[bytes]]


@dataclass(slots=True)
class Preview:
    """The requests of a table: ``shown`` are those of the first rows, as they would be sent; ``warnings`` are counted by text.

    ``skipped`` counts the rows without a request by their reason; they are among ``rows``. ``reused`` requests have an answer in the
    database, ``repeated`` ones ask what an earlier one asks: ``models`` and ``estimate``, tokens and price by model, are without them.
    """

    name: str
    rules: LineRules
    pricing: Pricing
    rows: int = 0
    requests: int = 0
    shown: list[dict[str, Any]] = field(default_factory=list)
    models: dict[str, ModelShare] = field(default_factory=dict)
    warnings: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    reused: int = 0
    repeated: int = 0
    estimate: Estimate = field(default_factory=lambda: Estimate(()))

    def add(self, lines: list[bytes], *, sign: int = 1) -> None:
        """Add the requests of a row to the figures; with ``sign`` -1 they are taken off again."""
        self.requests += sign * len(lines)
        self.add_sent(lines, sign=sign)

    def add_sent(self, lines: Iterable[bytes], *, sign: int = 1) -> None:
        """Add only the figures of requests that are sent."""
        for line in lines:
            record = jsonl.loads(line)
            for warning in map(without_body_prefix, preflight.inspect(record, len(line) - 1, self.rules).warnings):
                self.warnings[warning] += sign
            self.models[record["body"]["model"]].add(preflight.estimate_tokens(record), sign=sign)


def preview(
    table: Table,
    recipe: Recipe,
    *,
    dialect: Dialect,
    max_line_bytes: int,
    name: str | None = None,
    folder: Path | None = None,
    shown_rows: int = 3,
    earlier: Callable[[Recipe], tuple[dict[str, Earlier], list[str]] | None] = lambda _recipe: None,
    reuse: PlannedReuse | None = None,
    lane_of: Callable[[int], Lane] = lambda _requests: Lane.BATCH,
    rules: LineRules | None = None,
    advance: Callable[[int], None] = lambda _rows: None,
) -> Preview:
    """Render a whole table. ``lane_of`` returns the lane of so many requests, which decides the price; ``earlier`` returns what ``estimate.earlier_workloads`` does, or None. Raises as ``workload_from_table.ensure_workload``."""
    whole = with_table(recipe, table)
    taken = table if whole.limit is None else table.head(whole.limit)
    renderer = Renderer(whole, taken.columns, dialect=dialect, folder=folder, rules=rules)
    found = Preview(
        name or default_name(table, whole),
        renderer.rules,
        pricing_of(dialect.name),
        models={model: ModelShare() for model in whole.models},
    )
    rows = RowsWithoutRequest(whole, table.name)
    inspect = partial(refusal_of, rules=renderer.rules, max_line_bytes=max_line_bytes)
    keys = SeenIds()
    shown = 0
    for batch, made in rendered(taken, renderer, rows, inspect):
        made_now: list[bytes] = []
        for lines in made:
            if lines and shown < shown_rows:
                found.shown += map(jsonl.loads, lines)
                shown += 1
            found.rows += 1
            found.requests += len(lines)
            made_now += lines
        are_sent = [True] * len(made_now) if reuse is None else reuse.sent([line.rstrip(b"\n") for line in made_now])
        found.add_sent(compress(made_now, are_sent))
        keys.update(keys_of(batch, renderer))
        advance(batch.num_rows)
    if suspects := keys.suspects():
        repeated = repeated_rows(taken, renderer, suspects)
        if whole.skips(is_empty=False):
            rows.report(found.rows)
            again = _with_rows(taken, renderer.columns, repeated)
            ask = partial(requests_of, renderer, inspect=inspect)
            rows.skipped[KEY_REPEATED] += _take_off(again, found, ask)
        else:
            add_until_full(repeated, rows)
    rows.report(found.rows)
    found.skipped = rows.skipped
    if reuse is not None:
        found.reused, found.repeated = reuse.reused, reuse.repeated
    found.pricing = pricing_of(dialect.name, lane_of(found.requests))
    found.estimate = estimate(found.models, found.pricing, *(earlier(whole) or ({}, [])))
    return found


def _take_off(repeated: Iterator[tuple[RowProblem, dict[str, Any]]], found: Preview, ask: _Ask) -> int:
    """Take the requests of repeated rows off the figures; returns how many rows have had some."""
    count = 0
    for problem, row in repeated:
        try:
            lines = ask(row, problem.number)
        except RowProblem:
            continue
        found.add(lines, sign=-1)
        count += 1
    return count


def _with_rows(
    table: Table, columns: Sequence[str], problems: Iterator[RowProblem]
) -> Iterator[tuple[RowProblem, dict[str, Any]]]:
    """Yield the rows that the problems name, which ascend, with the values of ``columns``."""
    from batchkit.datasets import rows_of  # noqa: PLC0415 - an extra, which no other verb needs

    following = next(problems, None)
    first = 1
    for batch in table.batches():
        while following is not None and following.number < first + batch.num_rows:
            (row,) = rows_of(batch.slice(following.number - first, 1).select(list(columns)))
            yield following, row
            following = next(problems, None)
        first += batch.num_rows
