"""The runs of suites as they are looked back at: verdict, scores, changes, cost. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from batchkit.annotation.model_tokens import tokens_by_model
from batchkit.engine.progress import read_progress
from batchkit.evaluation.results import SUMMARY
from batchkit.provider.pricing import pricing_of
from batchkit.store import evaluations, workloads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

    from batchkit.engine.progress import Progress
    from batchkit.evaluation.results import Change, EvaluationSummary, Verdict
    from batchkit.models import Workload
    from batchkit.store.evaluations import Evaluation

#: A run in the suite's ``series``; a ``partial`` one, of some rows only; one with the ``rescored`` answers of another. Only the first
#: kind has a number and is a baseline.
Kind = Literal["series", "partial", "rescored"]


@dataclass(frozen=True, slots=True)
class RunScore:
    """The mean of a scorer over all rows of a run, for one prompt and model, with its 95 % interval.

    ``difference`` is its change since the run that was compared with, over the rows of both, with the bounds ``change_low`` and
    ``change_high`` and the two-sided ``p_value``; all are None where nothing was compared. ``is_alarm`` is whether an alarm of this
    metric went off.
    """

    scorer: str
    prompt: str
    model: str
    count: int
    mean: float
    low: float
    high: float
    difference: float | None = None
    change_low: float | None = None
    change_high: float | None = None
    p_value: float | None = None
    is_alarm: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class PastRun:
    """One run. Times are Unix seconds.

    ``number`` is its place in the suite's series, None for another ``kind``. ``previous`` is the run that it was compared with.
    ``failed_answers`` and ``scores`` are those of a finished run; ``cost_usd`` is what its answers and judgements cost, None if that is
    unknown or it is not finished. ``progress`` is where an unfinished run's last workload stands, None if there is none yet.
    """

    run: str
    suite: str
    number: int | None
    kind: Kind
    derived_from: str | None
    started_at: float
    finished_at: float | None
    scheduled_for: float | None
    verdict: Verdict
    previous: str | None = None
    failed_answers: int | None = None
    scores: tuple[RunScore, ...] = ()
    cost_usd: float | None = None
    progress: Progress | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.run}: {self.verdict}>"


def read_runs(
    connection: Connection, suite: str | None, *, limit: int, now: float, linger_seconds: float
) -> list[PastRun]:
    """Read the last ``limit`` runs of one suite, or of all, oldest first."""
    return [
        _past_run(connection, evaluation, now, linger_seconds)
        for evaluation in evaluations.newest(connection, suite, limit=limit)
    ]


def kind_of(evaluation: Evaluation) -> Kind:
    """Return which kind of run it is."""
    if evaluation.derived_from is not None:
        return "rescored"
    return "series" if evaluation.number is not None else "partial"


def _past_run(connection: Connection, evaluation: Evaluation, now: float, linger_seconds: float) -> PastRun:
    found = _summary(evaluation)
    progress = None
    if evaluation.finished_at is None:
        progress = _progress(connection, evaluation, now, linger_seconds)
    return PastRun(
        run=evaluation.name,
        suite=evaluation.suite,
        number=evaluation.number,
        kind=kind_of(evaluation),
        derived_from=evaluation.derived_from,
        started_at=evaluation.started_at,
        finished_at=evaluation.finished_at,
        scheduled_for=evaluation.scheduled_for,
        verdict="unfinished" if found is None else found.verdict,
        previous=None if found is None else found.previous,
        failed_answers=None if found is None else found.failed_answers,
        scores=() if found is None else tuple(_scores(found)),
        cost_usd=None if found is None or evaluation.derived_from else _cost_of_run(connection, found),
        progress=progress,
    )


def _summary(evaluation: Evaluation) -> EvaluationSummary | None:
    return None if evaluation.summary is None else SUMMARY.validate_json(evaluation.summary)


def _scores(found: EvaluationSummary) -> Iterator[RunScore]:
    changes: dict[tuple[str, str, str], Change] = {
        (change.scorer, change.prompt, change.model): change
        for change in found.changes
        if change.slice is None and change.window is None
    }
    alarms = {(change.scorer, change.prompt, change.model) for change in found.alarms}
    for metric in found.metrics:
        if metric.slice is not None:
            continue
        key = (metric.scorer, metric.prompt, metric.model)
        change = changes.get(key)
        yield RunScore(
            *key,
            metric.count,
            metric.mean,
            metric.low,
            metric.high,
            None if change is None else change.difference,
            None if change is None else change.low,
            None if change is None else change.high,
            None if change is None else change.p_value,
            key in alarms,
        )


def _progress(connection: Connection, evaluation: Evaluation, now: float, linger_seconds: float) -> Progress | None:
    """Return where the run's workload stands; the first unfinished one, if there are several."""
    found = [
        read_progress(connection, workload, now=now, linger_seconds=linger_seconds)
        for workload in _workloads(connection, evaluation)
    ]
    return next((progress for progress in found if not progress.is_finished), found[-1] if found else None)


def _workloads(connection: Connection, evaluation: Evaluation) -> Iterator[Workload]:
    from batchkit.evaluation.suite import Suite  # noqa: PLC0415 - only for unfinished runs: their judges

    try:
        judges = [judge.label for judge in Suite.model_validate_json(evaluation.definition).judges]
    except ValidationError:
        judges = []  # of another version of batchkit
    for name in (evaluation.workload, *(f"{evaluation.workload}.{judge}" for judge in judges)):
        workload = workloads.find(connection, name)
        if workload is not None:
            yield workload


def _cost_of_run(connection: Connection, found: EvaluationSummary) -> float | None:
    """Return the cost of all workloads of a run; None if that of one is unknown, as of one that was cleaned."""
    total = 0.0
    for name in found.workload_names:
        workload = workloads.find(connection, name)
        cost = None if workload is None else _cost(connection, workload)
        if cost is None:
            return None
        total += cost
    return round(total, 12)


def _cost(connection: Connection, workload: Workload) -> float | None:
    """Return the cost of a workload whose recipe names its models; None if the price of one is unknown."""
    price = pricing_of(workload.provider, workload.lane).price
    prices = [price(*used) for used in tokens_by_model(connection, workload) or ()]
    known = [one for one in prices if one is not None]
    return sum(known) if known and len(known) == len(prices) else None
