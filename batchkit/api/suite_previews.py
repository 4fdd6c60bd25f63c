"""A dry run of a suite. Needs the extra ``annotate``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from batchkit.api import existing
from batchkit.api.evaluations import ALL_ROWS
from batchkit.api.listed_models import model_check
from batchkit.engine.observer import counting
from batchkit.settings import load_settings

if TYPE_CHECKING:
    from batchkit.annotation.preview import Preview
    from batchkit.api.evaluations import PartOfRows
    from batchkit.api.modes import RunMode
    from batchkit.evaluation.power import FindableFall
    from batchkit.settings import Settings
    from batchkit.steps.split import SplitOptions


@dataclass(frozen=True, slots=True)
class SuitePreview:
    """The requests of a suite and about what they cost; what its rows can find; and how many judgements come on top, by judge.

    ``left_out`` are the rows that are not asked, as they serve as examples.
    """

    requests: Preview
    findable: tuple[FindableFall, ...]
    judgements: dict[str, int]
    left_out: int = 0


def preview_suite(
    suite: Path, options: SplitOptions, settings: Settings | None, mode: RunMode, *, part: PartOfRows = ALL_ROWS
) -> SuitePreview:
    """Make all checks of a run of ``suite``; stores and sends nothing. Raises ``BatchkitError``."""
    from batchkit.annotation.estimate import earlier_workloads  # noqa: PLC0415 - an extra
    from batchkit.annotation.preview import preview  # noqa: PLC0415 - as above
    from batchkit.annotation.workload_from_table import longest_request  # noqa: PLC0415 - as above
    from batchkit.evaluation import baselines, runs  # noqa: PLC0415 - as above
    from batchkit.evaluation.power import findable_falls  # noqa: PLC0415 - as above
    from batchkit.evaluation.suite_file import load_suite  # noqa: PLC0415 - as above

    found = settings or load_settings()
    file = part.of(load_suite(suite))
    asked = runs.check_suite(file)
    with counting(mode.observer, "rendering the rows") as advance:
        shown = preview(
            asked.table,
            asked.recipe,
            max_line_bytes=longest_request(found, options),
            name=file.suite.name,
            folder=Path(file.suite.folder),
            earlier=lambda asked: existing.read_if_possible(found, partial(earlier_workloads, recipe=asked)),
            advance=advance,
        )
    models = {*file.suite.models, *(judge.model for judge in file.suite.judges)}
    model_check(found, mode.observer, is_dry_run=True)(models)
    with existing.readable_store(found) as store:
        if store is None:
            baselines.check_named(None, file.suite)
            falls = findable_falls(file.suite, shown.rows, None)
        else:
            with store.read() as connection:
                baselines.check_named(connection, file.suite)
                falls = findable_falls(file.suite, shown.rows, connection)
    left_out = 0 if asked.examples is None else asked.examples.left_out
    return SuitePreview(shown, falls, {judge.label: shown.requests for judge in file.suite.judges}, left_out)
