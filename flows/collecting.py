"""Collecting evaluations: what a pass does for runs whose workloads are finished. Needs no Prefect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchkit.errors import BatchkitError
from batchkit.evaluation.open_runs import open_runs

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from batchkit.drive import Wait, Waves
    from batchkit.evaluation.results import EvaluationSummary
    from batchkit.runner import Runner
    from batchkit.steps.context import StepReport
    from batchkit.store.evaluations import Evaluation


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a run: ``summary`` when this pass finished it, with its ``report`` if there is one; else what is in its way."""

    run: str
    summary: EvaluationSummary | None
    report: Path | None = None
    error: BatchkitError | None = None


def is_due(runner: Runner) -> bool:
    """Whether there is a run to collect; where there is none this costs one query."""
    if not open_runs(runner):
        return False
    from batchkit.evaluation.runs import due_runs  # noqa: PLC0415 - an extra, and slow to load

    return bool(due_runs(runner))


def collecting(runner: Runner) -> Generator[Waves | Wait, StepReport | None, list[Finding]]:
    """Take every run that is due further, in the shape of a drive that asks for nothing."""
    yield from ()
    if not open_runs(runner):
        return []
    from batchkit.evaluation.runs import collect  # noqa: PLC0415 - as above

    return [
        Finding(
            found.evaluation.name,
            found.summary,
            write_report(runner, found.evaluation) if found.summary is not None else None,
            found.error,
        )
        for found in collect(runner)
    ]


def finished(found: Finding) -> Generator[Waves | Wait, StepReport | None, list[Finding]]:
    """Give what is found already, in the shape of ``collecting``."""
    yield from ()
    return [found]


def write_report(runner: Runner, evaluation: Evaluation) -> Path | None:
    """Write the page that the suite asks for, if it can be written; the run is finished with or without it."""
    from batchkit.evaluation.runs import report_path  # noqa: PLC0415 - as above
    from batchkit.reports.writing import write_report as write  # noqa: PLC0415 - as above

    target = report_path(evaluation)
    try:
        return None if target is None else write(runner, evaluation.name, target)
    except BatchkitError:
        return None
