"""Reading workloads: status, export, report. Nothing here drives or sends."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from batchkit.api import existing
from batchkit.api.looking_back import export_scored
from batchkit.api.modes import RunMode
from batchkit.api.opening import open_existing
from batchkit.api.remembered import remembered
from batchkit.datasets import require_extra
from batchkit.engine.observer import counting
from batchkit.files.outputs import check_file, check_page
from batchkit.settings import load_settings
from batchkit.steps.export import check_target, input_files

if TYPE_CHECKING:
    from batchkit.api.opening import Source
    from batchkit.engine.progress import Progress
    from batchkit.settings import Settings


def status(name: str | None = None, *, settings: Settings | None = None) -> list[Progress]:
    """Read where a workload stands, or all of them, oldest first; needs no key and creates nothing.

    Raises ``UnknownWorkload``, also when the database does not exist yet.
    """
    return existing.snapshots(settings or load_settings(), name)


def export(
    name: str, target: Source, *, scored: bool = False, raw_csv: bool = False, settings: Settings | None = None
) -> int:
    """Write one line per request in input order to a ``.jsonl``, ``.csv`` or ``.parquet`` file; returns how many.

    ``scored`` writes the rows of the evaluation run ``name`` with their answers and scores (see ``evaluation.scored_table.ScoredTable``);
    then ``target`` is any file that a table is written to, or ``table:NAME``.

    In a ``.csv`` a text that a spreadsheet would run as a formula gets an apostrophe in front, unless ``raw_csv``.
    Raises ``UnknownWorkload``, and ``UsageError`` for a target that cannot be written or is the input.
    """
    if scored:
        return export_scored(name, str(target), settings, RunMode(), raw_csv=raw_csv)
    count, _ = export_results(name, Path(target), settings, RunMode(), raw_csv=raw_csv)
    return count


def export_results(
    name: str, target: Path, settings: Settings | None, mode: RunMode, *, raw_csv: bool
) -> tuple[int, Progress]:
    """Do what ``export`` does; returns how many lines were written, and where the workload stands."""
    check_target(target)
    with open_existing(settings, mode) as runner:
        workload = runner.find(name)
        check_target(target, inputs=input_files(workload))
        with counting(mode.observer, f"writing {target.name}", total=workload.request_count) as advance:
            count = runner.export(workload.name, target, raw_csv=raw_csv, advance=advance)
        return count, runner.progress(workload.id)


def report(name: str, target: Source | None = None, *, rows: int = 500, settings: Settings | None = None) -> Path:
    """Write one self-contained HTML page about a workload or an evaluation run; needs the extra ``annotate``.

    ``target`` is by default ``NAME.report.html`` in the working directory; ``rows`` says how many requests it shows, the worst
    first, up to 2,000. Gives the whole path of the page. Raises ``UnknownWorkload``.
    """
    require_extra()
    from batchkit.reports.writing import default_target, write_report  # noqa: PLC0415 - an extra

    page = default_target(name) if target is None else Path(target)
    check_file(page, makes_folder=True)
    check_page(page)
    with open_existing(settings, RunMode()) as runner:
        workload = runner.known(name)
        output = None if workload is None else remembered(workload)
        gold, weights = ((), None) if output is None else (output.gold, output.weights)
        return write_report(runner, name, page, rows=rows, gold=gold, weights=weights)
