"""Writes a report: one HTML file for a workload or an evaluation run."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchkit import formatting
from batchkit.annotation.weighing import weighted_votes
from batchkit.errors import UsageError
from batchkit.evaluation.results import is_run, summary
from batchkit.files.spool import disk_errors, whole_file
from batchkit.reports import page
from batchkit.reports.annotation_report import annotation_view
from batchkit.reports.answer_kinds import commonest_flip, cut_sentences, kind_tables, read_kinds
from batchkit.reports.evaluation_report import evaluation_view
from batchkit.reports.evaluation_rows import WorstRows
from batchkit.reports.evaluation_sides import load_sides, with_context
from batchkit.reports.evaluation_trend import read_series
from batchkit.reports.facts import read_facts
from batchkit.reports.rows import rows_of, within, worst_rows
from batchkit.reports.views import row_kinds, workload_view

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.annotation.weighing import Weights
    from batchkit.engine.runtime import Runner
    from batchkit.models import Workload
    from batchkit.reports.evaluation_sides import Sides
    from batchkit.reports.rows import ShownRow
    from batchkit.reports.views import Counts

DEFAULT_ROWS = 500
#: A phone cannot load a page with more rows.
MOST_ROWS = 2_000
#: The largest size of a page's rows; the rest of it is far smaller.
_ROWS_BYTES = 1_600_000
_ROW_MARKUP_BYTES = 700
_UNSAFE = re.compile(r"[^\w.-]+")
_FELL = "down"
_WORST_FIRST = (
    "Failed requests first (some of each reason if there are many), then cancelled and waiting ones, then those with the most attempts,"
    " then the first of the input. Long texts are cut."
)
_REVIEW_FIRST = "Rows whose annotators disagree or did not answer come first; of the others"
_LOWEST_FIRST = (
    "First the requests whose score fell since the run that was compared with, then failed ones, then the lowest scores, and at the end some whose"
    " score rose. Long texts are cut."
)


def write_report(
    runner: Runner,
    name: str,
    target: Path,
    *,
    rows: int = DEFAULT_ROWS,
    gold: Sequence[str] = (),
    weights: Weights | None = None,
) -> Path:
    """Write the page of ``report_page`` into a file. Returns its absolute path.

    The file appears completely, by a rename, or not at all. Raises as ``report_page``.
    """
    text = report_page(runner, name, rows=rows, gold=gold, weights=weights)
    target = target.absolute()
    with disk_errors("write", target), whole_file(target) as handle:
        handle.write(text.encode())
    return target


def report_page(
    runner: Runner,
    name: str,
    *,
    rows: int = DEFAULT_ROWS,
    gold: Sequence[str] = (),
    weights: Weights | None = None,
) -> str:
    """Return the page of the evaluation run of that name, or of the workload, with up to ``rows`` of its requests.

    ``gold`` and ``weights`` are those of the output of an annotation (see ``annotation.weighing``). Raises ``UnknownWorkload``,
    ``UsageError`` for more than ``MOST_ROWS`` rows, ``SpoolError``.
    """
    if not 0 <= rows <= MOST_ROWS:
        raise UsageError(
            f"a report has 0 to {MOST_ROWS:,} rows, not {rows:,}", hint="`batchkit export` writes all of them"
        )
    if is_run(runner, name):
        return evaluation_page(runner, name, rows=rows)
    return workload_page(runner, runner.find(name), rows=rows, gold=gold, weights=weights)


def default_target(name: str) -> Path:
    """Return the file of a page in the working directory; characters that file names cannot have are replaced."""
    return Path(f"{_UNSAFE.sub('-', name).strip('.-') or 'batchkit'}.report.html")


def workload_page(
    runner: Runner, workload: Workload, *, rows: int, gold: Sequence[str] = (), weights: Weights | None = None
) -> str:
    """Return the page of a workload; of an annotation, the rows that people should look at come first."""
    facts = read_facts(runner, workload)
    annotation = None
    if workload.recipe is not None:
        is_finished = facts.progress.is_finished
        annotation = annotation_view(
            runner,
            workload,
            gold=gold,
            weighted=weighted_votes(runner, workload, gold=gold, weights=weights) if is_finished else None,
            is_finished=is_finished,
            most_review=rows // 2,
        )
    review = {} if annotation is None else annotation.review
    found = [replace(row, review=review[row.place - 1]) for row in rows_of(runner, workload, list(review))]
    found += [row for row in worst_rows(runner, workload, limit=rows) if row.place - 1 not in review]
    shown = _fitting(found[:rows])
    total = facts.progress.counts.total
    order = f"{_REVIEW_FIRST} {_WORST_FIRST[0].lower()}{_WORST_FIRST[1:]}" if review else _WORST_FIRST
    return page.render(
        title=f"{workload.name}: {facts.progress.state.value} - batchkit",
        workloads=[workload_view(facts)],
        evaluation=None,
        annotation=annotation,
        rows=shown,
        rows_title=_rows_title(shown, total) if rows else "",
        rows_note=f"{order} {_left_out(shown, total, workload.name)}",
        kinds=row_kinds(shown),
    )


def evaluation_page(runner: Runner, name: str, *, rows: int) -> str:
    """Return the page of an evaluation run, with its workloads that still exist."""
    return page.render(**evaluation_content(runner, name, rows=rows))


def evaluation_content(runner: Runner, name: str, *, rows: int) -> dict[str, Any]:
    """Return what the page of an evaluation run shows, as ``page.render`` takes it."""
    found = summary(runner, name)
    workloads = [workload for workload in map(runner.known, found.workload_names) if workload is not None]
    facts = [read_facts(runner, workload) for workload in workloads]
    answers = next((workload for workload in workloads if workload.name == found.workload_names[0]), None)
    shown: list[ShownRow] = []
    kinds: tuple[Counts, ...] = ()
    cut_answers: tuple[str, ...] = ()
    commonest = ""
    order = _WORST_FIRST
    if answers is not None and found.verdict == "unfinished":
        shown = _fitting(worst_rows(runner, answers, limit=rows))
    elif answers is not None:
        sides = load_sides(runner, found)
        worst = WorstRows(rows)
        read = read_kinds(runner, sides, answers, worst.add)
        kinds, cut_answers = tuple(kind_tables(sides, read)), tuple(cut_sentences(sides, read))
        commonest = commonest_flip(read)
        shown = _fitting(with_context(runner, sides, answers, worst.read(runner, answers)))
        order = _LOWEST_FIRST + _former_note(sides)
    total = facts[0].progress.counts.total if answers is not None else 0
    return {
        "title": f"{name}: {found.verdict} - batchkit",
        "workloads": [workload_view(of) for of in facts],
        "evaluation": evaluation_view(
            found, cut_answers=cut_answers, kinds=kinds, commonest=commonest, series=read_series(runner, found)
        ),
        "rows": shown,
        "rows_title": _rows_title(shown, total) if rows else "",
        "rows_note": f"{order} {_left_out(shown, total, found.workload_names[0])}",
        "kinds": row_kinds(shown),
        "opened": _FELL if any(row.flipped == _FELL for row in shown) else "",
    }


def _former_note(sides: Sides) -> str:
    if sides.former is None or sides.former.workload is not None:
        return ""
    return f" The answers of {sides.former.name} were cleaned, so only those of this run are shown."


def _fitting(rows: list[ShownRow]) -> list[ShownRow]:
    return within(rows, _ROWS_BYTES, _ROW_MARKUP_BYTES)


def _rows_title(shown: Sequence[ShownRow], total: int) -> str:
    if len(shown) >= total:
        return "All requests, the worst first" if total else "No requests yet"
    return f"The worst {len(shown):,} of {formatting.counted(total, 'request')}"


def _left_out(shown: Sequence[ShownRow], total: int, name: str) -> str:
    if len(shown) >= total:
        return ""
    return f"{total - len(shown):,} more are not on this page: batchkit export {name} writes all of them."
