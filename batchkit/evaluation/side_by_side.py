"""Several finished runs side by side, and the first compared with each other one row by row, as a verdict compares."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from batchkit.errors import UsageError
from batchkit.evaluation.comparing import compare
from batchkit.evaluation.results import find_run, summary
from batchkit.evaluation.stored_suite import suite_of
from batchkit.stats.paired import holm

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batchkit.engine.runtime import Runner
    from batchkit.evaluation.results import Change, EvaluationSummary, Metric
    from batchkit.store.evaluations import Evaluation


@dataclass(frozen=True, slots=True)
class MetricOfRuns:
    """One metric in each of the runs, in their order; None in a run that does not have it. ``slice`` is ``column=value``, None for all rows."""

    scorer: str
    prompt: str
    model: str
    slice: str | None
    of_runs: tuple[Metric | None, ...]


@dataclass(frozen=True, slots=True)
class PairedChange:
    """How a metric changed from the first run to another one, over the rows that both have scored.

    ``low`` and ``high`` bound ``difference`` (after minus before) with 95 % confidence. ``p_value`` is two-sided, ``corrected_p`` is it
    after Holm's correction: for all metrics of all comparisons, and apart from these for all their slices. ``fell`` and ``rose``
    count the rows whose score changed.
    """

    scorer: str
    prompt: str
    model: str
    slice: str | None
    before: float
    after: float
    difference: float
    low: float
    high: float
    pairs: int
    fell: int
    rose: int
    method: str
    p_value: float
    corrected_p: float


@dataclass(frozen=True, slots=True)
class RunCompared:
    """One run compared with the first: what differs beside the answers, and how each metric and slice changed.

    ``rescored`` is the run with the first run's answers, scored by the scorers and labels of this one, whose scores were compared;
    None if the first run's own were. ``uncompared`` says what could not be compared, and why.
    """

    run: str
    differences: tuple[str, ...]
    changes: tuple[PairedChange, ...]
    rescored: str | None
    uncompared: tuple[str, ...]


@dataclass(frozen=True, slots=True, repr=False)
class RunsCompared:
    """Runs side by side; ``comparisons`` has an entry for each but the first, which all are compared with."""

    runs: tuple[str, ...]
    metrics: tuple[MetricOfRuns, ...]
    comparisons: tuple[RunCompared, ...]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(self.runs)}: {len(self.metrics)} metrics>"


def compare_all(runner: Runner, names: Sequence[str]) -> RunsCompared:
    """Compare the first run with each other one.

    Raises ``UnknownWorkload``, and ``UsageError`` for a run that is not finished or has scores for too few answers.
    """
    found = [_comparable(runner, name) for name in names]
    first, *others = found
    if rescored := next((one for one in others if one.derived_from is not None), None):
        raise UsageError(
            f"{rescored.name!r} has rescored answers of another run, and others cannot be scored as it was",
            hint=f"name it first: `batchkit compare {rescored.name} {first.name}`",
        )
    summaries = [summary(runner, one.name) for one in found]
    suite_of(first)  # one that this version cannot read is refused
    comparisons = [_compared(runner, first, other, its) for other, its in zip(others, summaries[1:], strict=True)]
    return RunsCompared(tuple(names), tuple(_metrics(summaries)), tuple(_corrected(comparisons)))


def _comparable(runner: Runner, name: str) -> Evaluation:
    evaluation = find_run(runner, name)
    if evaluation.finished_at is None:
        raise UsageError(
            f"the run {name!r} is not finished, so nothing can be compared with it", hint="finish it first"
        )
    if not evaluation.fully_scored:
        raise UsageError(
            f"the run {name!r} has scores for too few answers, so nothing can be compared with it",
            hint="`batchkit runs` lists the verdicts; compare other runs",
        )
    return evaluation


def _compared(runner: Runner, first: Evaluation, other: Evaluation, found: EvaluationSummary) -> RunCompared:
    # Without alarms: a comparison on demand judges nothing.
    suite = suite_of(other).model_copy(update={"alarms": ()})
    comparison = compare(runner, other, suite, first, table_digest=found.table_digest)
    changes = (*comparison.changes, *comparison.slice_changes)
    return RunCompared(
        run=other.name,
        differences=comparison.differences,
        changes=tuple(map(_change, changes)),
        rescored=None if comparison.rescored is None else comparison.rescored.name,
        uncompared=comparison.uncompared,
    )


def _change(change: Change) -> PairedChange:
    return PairedChange(
        scorer=change.scorer,
        prompt=change.prompt,
        model=change.model,
        slice=change.slice,
        before=change.before,
        after=change.after,
        difference=change.difference,
        low=change.low,
        high=change.high,
        pairs=change.pairs,
        fell=change.flipped_down,
        rose=change.flipped_up,
        method=change.method,
        p_value=change.p_value,
        corrected_p=change.p_value,
    )


def _metrics(summaries: Sequence[EvaluationSummary]) -> Iterator[MetricOfRuns]:
    by_key = [
        {(metric.scorer, metric.prompt, metric.model, metric.slice): metric for metric in one.metrics}
        for one in summaries
    ]
    for key in dict.fromkeys(key for of_run in by_key for key in of_run):
        yield MetricOfRuns(*key, tuple(of_run.get(key) for of_run in by_key))


def _corrected(comparisons: Sequence[RunCompared]) -> Iterator[RunCompared]:
    """Yield the comparisons with corrected p-values: the slices, of which there may be many, make the others no weaker."""
    corrected: dict[tuple[int, int], float] = {}
    for is_whole in (True, False):
        places = [
            (at, place)
            for at, one in enumerate(comparisons)
            for place, change in enumerate(one.changes)
            if (change.slice is None) is is_whole
        ]
        values = holm([comparisons[at].changes[place].p_value for at, place in places])
        corrected |= dict(zip(places, values, strict=True))
    for at, one in enumerate(comparisons):
        changes = (replace(change, corrected_p=corrected[at, place]) for place, change in enumerate(one.changes))
        yield replace(one, changes=tuple(changes))
