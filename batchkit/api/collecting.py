"""Collecting evaluations: what a pass does for runs whose workloads are finished."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchkit.api.finishing import log_trouble
from batchkit.evaluation.open_runs import open_runs

if TYPE_CHECKING:
    from pathlib import Path

    from batchkit.engine.runtime import Runner
    from batchkit.engine.waits import Retries
    from batchkit.evaluation.results import EvaluationSummary
    from batchkit.store.evaluations import Evaluation


@dataclass(frozen=True, slots=True)
class Collected:
    """What became of a run: ``summary`` when this pass finished it, with its ``report`` if there is one; else what is in its way."""

    run: str
    summary: EvaluationSummary | None
    report: Path | None = None
    error: Exception | None = None


def is_due(runner: Runner, retries: Retries[str] | None = None) -> bool:
    """Whether there is a run to collect; where there is none this costs one query.

    ``retries`` knows by their names the runs that failed and wait to be tried again.
    """
    if not open_runs(runner):
        return False
    from batchkit.evaluation.runs import due_runs  # noqa: PLC0415 - an extra, and slow to load

    return any(retries is None or retries.left_seconds(evaluation.name) <= 0 for evaluation in due_runs(runner))


def collect(runner: Runner, retries: Retries[str] | None = None) -> list[Collected]:
    """Take every run that is due further; returns what became of each.

    Any error of one run is that run's. One that waits to be tried again by ``retries`` is left out.
    """
    if not open_runs(runner):
        return []
    from batchkit.evaluation import runs  # noqa: PLC0415 - as above

    def skip(evaluation: Evaluation) -> bool:
        return retries is not None and retries.left_seconds(evaluation.name) > 0

    collected = []
    for found in runs.collect(runner, skip=skip):
        name = found.evaluation.name
        if found.error is not None:
            log_trouble(name, found.error)
        report = write_report(runner, found.evaluation) if found.summary is not None else None
        collected.append(Collected(name, found.summary, report, found.error))
    return collected


def write_report(runner: Runner, evaluation: Evaluation) -> Path | None:
    """Write the page that the suite asks for, if it can be written; the run is finished with or without it."""
    from batchkit.evaluation.runs import report_path  # noqa: PLC0415 - as above
    from batchkit.reports.writing import write_report as write  # noqa: PLC0415 - as above

    target = report_path(evaluation)
    try:
        return None if target is None else write(runner, evaluation.name, target)
    except Exception as error:  # noqa: BLE001 - a page that cannot be written keeps no other run from its verdict
        log_trouble(evaluation.name, error)
        return None
