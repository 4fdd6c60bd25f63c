"""Scoring the kept answers of a run again, with other scorers or labels. Nothing is sent.

The result is a run of its own, ``NAME.rescored-N``, outside the suite's series. The same scorers and labels give the same run.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from batchkit.annotation.workload_from_table import snapshot_path
from batchkit.datasets import Snapshot, rows_of
from batchkit.datasets.values import text_of
from batchkit.errors import BatchkitError, WorkloadConflict
from batchkit.evaluation.metrics import measure
from batchkit.evaluation.results import SUMMARY, EvaluationSummary, label_figures, pass_at
from batchkit.evaluation.scoring import labels_text, score_answers
from batchkit.evaluation.stored_suite import suite_of
from batchkit.evaluation.suite_tables import open_dataset
from batchkit.files import jsonl
from batchkit.store import evaluations

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from batchkit.engine.runtime import Runner
    from batchkit.evaluation.suite import Suite
    from batchkit.store.evaluations import Evaluation

_TRIES = 20

#: The expected values of rows, by column, under the text of a row's key.
Labels = dict[str, dict[str, Any]]


class AnswersGone(BatchkitError):
    """The answers of a run, or the rows they belong to, are not kept any more."""


def labels_of(runner: Runner, evaluation: Evaluation, suite: Suite, places: Collection[int]) -> Labels:
    """Return the expected values of the rows at these places (from 0) of a run, by the text of the row's key.

    Raises ``AnswersGone``.
    """
    key = suite.dataset.key
    if key is None or not places:
        return {}
    wanted = set(places)
    found: Labels = {}
    columns = [key, *(column for column in suite.label_columns if column != key)]
    place = 0
    try:
        for batch in Snapshot.open(snapshot_path(runner, runner.find(evaluation.workload))).batches():
            for row in rows_of(batch.select(columns)):
                if place in wanted:
                    found[text_of(row[key])] = {column: row[column] for column in suite.label_columns}
                place += 1
    except BatchkitError as error:
        raise AnswersGone(error.message, hint=error.hint) from error
    return found


def rescore(
    runner: Runner, origin: Evaluation, then: Suite, now: Suite, *, without: Collection[str], relabelled: Labels
) -> Evaluation:
    """Score the answers of the finished run ``origin`` with the scorers of ``now``, except those ``without``; return the derived run.

    ``then`` is the suite of the run, which said what to ask. ``relabelled`` has the expected values that changed. Raises
    ``AnswersGone`` if the answers were cleaned.
    """
    derived = begin_rescoring(runner, origin, then, now, without=without, relabelled=relabelled)
    return finish_rescoring(runner, derived, relabelled=relabelled)


def begin_rescoring(
    runner: Runner, origin: Evaluation, then: Suite, now: Suite, *, without: Collection[str] = (), relabelled: Labels
) -> Evaluation:
    """Return the derived run that ``rescore`` finishes; one that is finished may be among them. Raises ``AnswersGone``."""
    if runner.known(origin.workload) is None:
        raise AnswersGone(
            f"the answers of {origin.name!r} were cleaned", hint="keep them for as long as they are compared with"
        )
    suite = _suite(then, now, without)
    return _derived(runner, origin, _version(suite, relabelled), suite.model_dump_json(by_alias=True))


def finish_rescoring(
    runner: Runner,
    derived: Evaluation,
    *,
    relabelled: Labels,
    advance: Callable[[int], None] = lambda _rows: None,
) -> Evaluation:
    """Score a derived run, unless it is finished. Raises ``AnswersGone``."""
    if derived.finished_at is not None:
        return derived
    suite = suite_of(derived)
    try:
        scored = score_answers(runner, derived, suite, relabelled=relabelled, advance=advance)
    except BatchkitError as error:
        raise AnswersGone(error.message, hint=error.hint) from error
    with runner.store.read() as connection:
        measured = measure(connection, derived, suite)
    at = runner.clock()
    found = EvaluationSummary(
        suite=derived.suite,
        run=derived.name,
        previous=None,
        suite_version=derived.suite_version,
        workload_names=(derived.workload,),
        started_at=derived.started_at,
        finished_at=at,
        metrics=measured.metrics,
        changes=(),
        judge_agreement=scored.judges.with_people,
        verdict="rescored",
        failed_answers=scored.failed,
        labels=label_figures(scored.confusions),
        notes=(f"the answers of {derived.derived_from}, scored again",),
        scorings=measured.scorings,
        arm_comparisons=measured.arm_comparisons,
        spreads=measured.spreads,
        between_judges=scored.judges.between,
        judge_biases=scored.judges.biases,
        pass_at=pass_at(suite),
    )
    with runner.store.write() as connection:
        evaluations.finish(
            connection,
            derived.id,
            verdict=found.verdict,
            summary=SUMMARY.dump_json(found).decode(),
            fully_scored=measured.is_fully_scored,
            at=at,
        )
        again = evaluations.find(connection, derived.name)
    return derived if again is None else again


def todays_labels(runner: Runner, origin: Evaluation, suite: Suite) -> Labels:
    """Return the expected values of today's table that differ from those of a run, by the text of the row's key.

    Empty for a suite without a key. Raises as ``open_table``.
    """
    key = suite.dataset.key
    if key is None or not suite.label_columns:
        return {}
    with runner.store.read() as connection:
        known = {row.key: row.labels for row in evaluations.rows_of(connection, origin.id) if row.key is not None}
    found: Labels = {}
    table = open_dataset(suite)
    columns = list(dict.fromkeys((key, *suite.label_columns)))
    for batch in table.batches():
        for row in rows_of(batch.select(columns)):
            name = text_of(row[key])
            if name in known and known[name] != labels_text(row, suite):
                found[name] = {column: row[column] for column in suite.label_columns}
    return found


def _suite(then: Suite, now: Suite, without: Collection[str]) -> Suite:
    """Return a suite that asks what ``then`` asked and scores as ``now`` does."""
    scorers = tuple(scorer for scorer in now.scorers if scorer.label not in without)
    asked = {name: getattr(then, name) for name in ("prompt", "prompts", "examples", "models", "samples")}
    return now.model_copy(update={**asked, "scorers": scorers, "alarms": ()})


def _version(suite: Suite, relabelled: Labels) -> str:
    labels = sorted(
        (key, *(f"{column}={text_of(value)}" for column, value in values.items())) for key, values in relabelled.items()
    )
    return hashlib.sha256(suite.version().encode() + jsonl.dumps(labels)).hexdigest()


def _derived(runner: Runner, origin: Evaluation, version: str, definition: str) -> Evaluation:
    """Return the derived run of this version, begun if there is none."""
    for _ in range(_TRIES):
        with runner.store.write() as connection:
            known: Sequence[Evaluation] = evaluations.derived_from(connection, origin.name)
            found = next((derived for derived in known if derived.suite_version == version), None)
            if found is None:
                found = evaluations.derive(
                    connection,
                    origin,
                    name=f"{origin.name}.rescored-{len(known) + 1}",
                    suite_version=version,
                    definition=definition,
                    at=runner.clock(),
                )
        if found is not None:
            return found
    raise WorkloadConflict(f"{origin.name!r} cannot be scored again: the next name is taken")
