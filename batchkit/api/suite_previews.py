"""A dry run of a suite. Needs the extra ``annotate``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from batchkit.api import existing
from batchkit.api.budgets import new_workload_check, note_budget
from batchkit.api.deadlines import plan_deadline
from batchkit.api.evaluations import ALL_ROWS
from batchkit.engine.composition import lane_of, rules_of
from batchkit.engine.observer import counting
from batchkit.settings import load_settings

if TYPE_CHECKING:
    from batchkit.annotation.estimate import Earlier
    from batchkit.annotation.preview import Preview
    from batchkit.annotation.recipe import Recipe
    from batchkit.api.evaluations import PartOfRows
    from batchkit.api.modes import RunMode
    from batchkit.evaluation.judge_estimates import JudgeEstimate
    from batchkit.evaluation.power import FindableFall
    from batchkit.settings import Settings
    from batchkit.steps.split import SplitOptions


@dataclass(frozen=True, slots=True)
class SuitePreview:
    """The requests of a suite and about what they cost; what its rows can find; and what its judges cost on top.

    ``left_out`` are the rows that are not asked, as they serve as examples.
    """

    requests: Preview
    findable: tuple[FindableFall, ...]
    judges: tuple[JudgeEstimate, ...]
    left_out: int = 0


def preview_suite(
    suite: Path, options: SplitOptions, settings: Settings | None, mode: RunMode, *, part: PartOfRows = ALL_ROWS
) -> SuitePreview:
    """Make all checks of a run of ``suite``; stores and sends nothing. Raises ``BatchkitError``."""
    from batchkit.annotation.estimate import earlier_workloads  # noqa: PLC0415 - an extra
    from batchkit.annotation.preview import preview  # noqa: PLC0415 - as above
    from batchkit.annotation.workload_from_table import longest_request  # noqa: PLC0415 - as above
    from batchkit.evaluation import baselines, runs  # noqa: PLC0415 - as above
    from batchkit.evaluation.judge_estimates import judge_estimate  # noqa: PLC0415 - as above
    from batchkit.evaluation.power import findable_falls  # noqa: PLC0415 - as above
    from batchkit.evaluation.suite_file import load_suite  # noqa: PLC0415 - as above

    found = settings or load_settings()
    file = part.of(load_suite(suite))
    asked = runs.check_suite(file, found.dialect)

    def earlier(recipe: Recipe) -> tuple[dict[str, Earlier], list[str]] | None:
        return existing.read_if_possible(found, partial(earlier_workloads, recipe=recipe))

    with counting(mode.observer, "rendering the rows") as advance:
        shown = preview(
            asked.table,
            asked.recipe,
            dialect=found.dialect,
            max_line_bytes=longest_request(found, options),
            name=file.suite.name,
            folder=Path(file.suite.folder),
            lane_of=lane_of(found, options, file.suite.models),
            rules=rules_of(found, options),
            earlier=earlier,
            advance=advance,
        )
    models = {*file.suite.models, *(model for judge in file.suite.judges for model in judge.models)}
    chosen = file.suite.with_budget(options)
    new_workload_check(found, chosen, mode.observer, is_dry_run=True)(models)
    note_budget(found, chosen, mode.observer)
    lane = lane_of(found, options, file.suite.models)(shown.requests)
    plan_deadline(found, chosen, shown.models, lane=lane, observer=mode.observer)
    with existing.readable_store(found) as store:
        if store is None:
            baselines.check_named(None, file.suite)
            falls = findable_falls(file.suite, shown.rows, None)
        else:
            with store.read() as connection:
                baselines.check_named(connection, file.suite)
                falls = findable_falls(file.suite, shown.rows, connection)
    judges = []
    for judge in file.suite.judges:
        with counting(mode.observer, f"rendering the questions to {judge.label}") as advance:
            estimate = judge_estimate(
                judge,
                file.suite,
                asked.table,
                shown.estimate,
                dialect=found.dialect,
                earlier=earlier,
                advance=advance,
            )
            judges.append(estimate)
    left_out = 0 if asked.examples is None else asked.examples.left_out
    return SuitePreview(shown, falls, tuple(judges), left_out)
