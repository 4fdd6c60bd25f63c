"""Looking back at evaluations: the runs of a suite, runs side by side, the scored rows of a run. Needs the extra ``annotate``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from batchkit.api import existing
from batchkit.api.modes import RunMode
from batchkit.api.opening import open_existing
from batchkit.datasets import require_extra
from batchkit.engine.observer import counting
from batchkit.errors import UnknownWorkload, UsageError
from batchkit.files.outputs import check_file
from batchkit.settings import load_settings
from batchkit.steps.export import input_files
from batchkit.store.engine import displayed, parse_url

if TYPE_CHECKING:
    import pyarrow as pa

    from batchkit.api.opening import Source
    from batchkit.evaluation.past_runs import PastRun
    from batchkit.evaluation.side_by_side import RunsCompared
    from batchkit.settings import Settings

_SUITE_ENDINGS = frozenset({".yaml", ".yml"})


def runs(suite: Source | None = None, *, limit: int = 30, settings: Settings | None = None) -> list[PastRun]:
    """Read the last ``limit`` runs of a suite, or of all suites, oldest first; needs no key and creates nothing.

    ``suite`` is its name or its file. Raises ``UnknownWorkload`` when there are none of that suite, or no database yet.
    """
    require_extra()
    from batchkit.evaluation import past_runs  # noqa: PLC0415 - an extra

    settings = settings or load_settings()
    wanted = None if suite is None else _suite_name(suite)
    missing = existing.missing_file(settings)
    if missing is not None:
        raise UnknownWorkload(
            f"there are no runs yet: {missing} does not exist", hint="`batchkit eval SUITE` makes one"
        )
    found = existing.read(
        settings,
        lambda connection: past_runs.read_runs(
            connection,
            wanted,
            limit=limit,
            now=time.time(),
            linger_seconds=settings.resubmit_linger_seconds,
        ),
    )
    if wanted is not None and not found:
        place = displayed(parse_url(settings.resolved_database_url))
        raise UnknownWorkload(f"there is no run of the suite {wanted!r} in {place}", hint="`batchkit runs` lists them")
    return found or []


def compare_runs(run: str, *others: str, settings: Settings | None = None) -> RunsCompared:
    """Compare a run with others, each with paired tests over the rows of both.

    If scorers or labels differ, the kept answers of ``run`` are scored again with those of the other run, and stored as a run outside
    the series; nothing is sent. Raises ``UnknownWorkload``, and ``UsageError`` for a run that is not finished or has no scores, and
    for the same run twice.
    """
    return compare_named([run, *others], settings, RunMode())


def compare_named(names: list[str], settings: Settings | None, mode: RunMode) -> RunsCompared:
    """Do what ``compare_runs`` does."""
    require_extra()
    from batchkit.evaluation import side_by_side  # noqa: PLC0415 - an extra

    if len(set(names)) < max(len(names), 2):
        raise UsageError(
            "there are no two different runs to compare", hint="name each run once; `batchkit runs` lists them"
        )
    with open_existing(settings, mode) as runner, counting(mode.observer, "comparing the runs"):
        return side_by_side.compare_all(runner, names)


def export_scored(name: str, target: str, settings: Settings | None, mode: RunMode, *, raw_csv: bool = False) -> int:
    """Write the scored rows of a run to a file or ``table:NAME`` (see ``ScoredTable``); returns how many.

    Raises ``UnknownWorkload``, and ``UsageError`` for a run that is not finished and a target that cannot be written.
    """
    require_extra()
    from batchkit.datasets.writing import check_target, table_name_of  # noqa: PLC0415 - an extra
    from batchkit.evaluation.results import find_run  # noqa: PLC0415 - as above
    from batchkit.evaluation.scored_table import dataset_files, write_scored_table  # noqa: PLC0415 - as above
    from batchkit.evaluation.stored_suite import suite_of  # noqa: PLC0415 - as above

    check_target(target)
    is_file = table_name_of(target) is None
    if is_file:
        check_file(Path(target))
    with open_existing(settings, mode) as runner:
        evaluation = find_run(runner, name)
        workload = runner.find(evaluation.workload)
        if is_file:
            check_file(Path(target), inputs=[*input_files(workload), *dataset_files(suite_of(evaluation))])
        with counting(mode.observer, f"writing {target}") as advance:
            return write_scored_table(runner, evaluation, target, raw_csv=raw_csv, advance=advance)


def scored_table(name: str, settings: Settings | None) -> pa.Table:
    """Return the scored rows of a run as a table in memory. Raises as ``export_scored``."""
    import pyarrow as pa  # noqa: PLC0415 - an extra

    from batchkit.evaluation.results import find_run  # noqa: PLC0415 - as above
    from batchkit.evaluation.scored_table import ScoredTable  # noqa: PLC0415 - as above

    with open_existing(settings, RunMode()) as runner:
        scored = ScoredTable(runner, find_run(runner, name))
        return pa.Table.from_batches(list(scored.batches()), schema=scored.schema)


def _suite_name(suite: Source) -> str:
    from batchkit.evaluation.suite_file import load_suite  # noqa: PLC0415 - an extra

    path = Path(suite)
    return load_suite(path).suite.name if path.suffix.lower() in _SUITE_ENDINGS else str(suite)
