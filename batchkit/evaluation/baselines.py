"""Which earlier run a run of a suite is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from batchkit.errors import UnknownWorkload, UsageError
from batchkit.evaluation.results import PASSED, SUMMARY, find_run
from batchkit.store import evaluations

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.engine import Connection

    from batchkit.engine.runtime import Runner
    from batchkit.evaluation.suite import Suite
    from batchkit.store.evaluations import Evaluation

#: What ``against`` says instead of a run's name.
CHOSEN = frozenset({"previous", "passed"})
#: A fall that is suspected for longer, and never found, is not worth an ever older run to compare with.
_MOST_SUSPECTED = 14


class Baseline(NamedTuple):
    """The run to compare with, None if there is none; ``notes`` say why."""

    run: Evaluation | None
    notes: tuple[str, ...] = ()


def choose(runner: Runner, evaluation: Evaluation, against: str) -> Baseline:
    """Return the run that a run is compared with: the last that ``passed``, the ``previous`` one, or a named one. Raises as ``named``.

    After a fall the last run that passed is still the one before it, so that every run tells the fall until it is gone. So it is after
    a run with a fall that is significant alone, but not among all that is watched: if it is one, the next run shows it.
    """
    if against not in CHOSEN:
        return Baseline(named(runner, against, evaluation))
    with runner.store.read() as connection:
        found = _last_passed(connection, evaluation) if against == "passed" else _last(connection, evaluation)
        if found is not None:
            return Baseline(found)
        is_first = evaluations.is_first(connection, evaluation)
    if is_first:
        return Baseline(None, ("nothing to compare with: this is the first run",))
    which = "passed" if against == "passed" else "has scores for enough answers"
    return Baseline(None, (f"nothing to compare with: no earlier run of {evaluation.suite!r} {which}",))


def _last(connection: Connection, evaluation: Evaluation, verdicts: Collection[str] | None = None) -> Evaluation | None:
    return next(iter(evaluations.before(connection, evaluation, verdicts=verdicts)), None)


def _last_passed(connection: Connection, evaluation: Evaluation) -> Evaluation | None:
    """Return the last run that passed and has no suspected fall; of very many suspected ones in a row the last."""
    latest = found = _last(connection, evaluation, PASSED)
    for _ in range(_MOST_SUSPECTED):
        if found is None or found.summary is None or not SUMMARY.validate_json(found.summary).suspects:
            return found or latest
        found = _last(connection, found, PASSED)
    return latest


def check_named(connection: Connection | None, suite: Suite) -> None:
    """Raise ``UsageError`` if the suite names a run to compare with that is no baseline; ``connection`` is None without a database."""
    if suite.against in CHOSEN:
        return
    found = None if connection is None else evaluations.find(connection, suite.against)
    if found is None:
        raise UnknownWorkload(
            f"there is no evaluation {suite.against!r} to compare with", hint="evaluations are named SUITE-NUMBER"
        )
    _check_is_baseline(found)


def named(runner: Runner, name: str, evaluation: Evaluation | None = None) -> Evaluation:
    """Return the run to compare with. Raises ``UnknownWorkload``, and ``UsageError`` for a run that is no baseline."""
    found = find_run(runner, name)
    _check_is_baseline(found, evaluation)
    return found


def _check_is_baseline(named: Evaluation, evaluation: Evaluation | None = None) -> None:
    name = named.name
    if named.finished_at is None or (evaluation is not None and named.id == evaluation.id):
        raise UsageError(
            f"the run {name!r} is not finished, so nothing can be compared with it", hint="finish it first"
        )
    if not named.fully_scored:
        raise UsageError(
            f"the run {name!r} has scores for too few answers, so nothing can be compared with it",
            hint="compare with another run, or `passed`, or `previous`",
        )
