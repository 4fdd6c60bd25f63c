"""Runs of suites and their scores. A score is written once, and a run begins and ends once, however many processes work on it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import delete, func, insert, or_, select, text, update
from sqlalchemy.exc import IntegrityError

from batchkit.store.evaluation_tables import RUNNING, evaluation_arms, evaluation_rows, evaluations, scores
from batchkit.store.rows import columns_for

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from sqlalchemy import ColumnElement, Table
    from sqlalchemy.engine import Connection

_ROWS_PER_STATEMENT = 1_000
_FULLY_SCORED = evaluations.c.fully_scored == 1


class Arm(NamedTuple):
    """A prompt with a model; its place in the run's arms is ``(seq / samples) % arm_count``."""

    prompt: str
    prompt_digest: str
    model: str


class RowOf(NamedTuple):
    """A row of the dataset: ``number`` from 1, its ``key`` if it has one, its slices as a JSON object.

    ``cluster`` names the rows that belong together. ``labels`` has the texts of the expected columns as a JSON object,
    ``content`` is a digest of the other columns; None in runs of earlier versions.
    """

    number: int
    key: str | None
    slices: str
    cluster: str | None = None
    labels: str | None = None
    content: bytes | None = None


class RunOfSeries(NamedTuple):
    """A finished run of a suite's series, without its texts."""

    number: int
    name: str
    verdict: str


class ScoreOf(NamedTuple):
    """The result of one scorer for one answer: a score, or the reason why there is none."""

    scorer: str
    seq: int
    score: float | None
    reason: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A row of ``evaluations``; times are Unix seconds.

    ``number`` is its place in the suite's series, None for a run outside it: of some rows only, or ``derived_from`` another run,
    whose answers it scores. ``workload`` is the name of the workload that holds the answers. ``scheduled_for`` is the time of the
    schedule. ``verdict`` (see ``results.Verdict``), ``summary`` (JSON) and ``fully_scored`` are set when the run is finished.
    """

    id: int
    suite: str
    number: int | None
    name: str
    suite_version: str
    definition: str
    workload: str
    arms: tuple[Arm, ...]
    samples: int
    scheduled_for: float | None
    started_at: float
    finished_at: float | None
    verdict: str | None
    summary: str | None
    derived_from: str | None = None
    fully_scored: bool = False


def begin(
    connection: Connection,
    *,
    suite: str,
    suite_version: str,
    definition: str,
    arms: Sequence[Arm],
    samples: int,
    name: str | None,
    scheduled_for: float | None,
    at: float,
    is_partial: bool = False,
    is_resumed: Callable[[Evaluation], bool] = lambda _unfinished: False,
) -> Evaluation | None:
    """Insert the suite's next run, called ``name`` or ``SUITE-NUMBER``; None when another process inserted it first: read again.

    A run that ``is_partial`` is outside the series, and called ``SUITE.partial-N``. A run without a name and a time is the next one
    only while there is no unfinished one that ``is_resumed`` instead.
    """
    is_next = name is None and scheduled_for is None
    if is_next and any(map(is_resumed, unfinished(connection, suite, is_partial=is_partial))):
        return None
    number: int | None = None
    if is_partial:
        others = select(func.count()).where(
            evaluations.c.suite == suite, evaluations.c.number.is_(None), evaluations.c.derived_from.is_(None)
        )
        called = name or f"{suite}.partial-{connection.execute(others).scalar_one() + 1}"
    else:
        last = select(func.coalesce(func.max(evaluations.c.number), 0)).where(evaluations.c.suite == suite)
        number = connection.execute(last).scalar_one() + 1
        called = name or f"{suite}-{number}"
    values = {
        "suite": suite,
        "number": number,
        "name": called,
        "suite_version": suite_version,
        "definition": definition,
        "workload": called,
        "arm_count": len(arms),
        "samples": samples,
        "scheduled_for": scheduled_for,
        "started_at": at,
    }
    return _insert(connection, values, arms)


def derive(
    connection: Connection, origin: Evaluation, *, name: str, suite_version: str, definition: str, at: float
) -> Evaluation | None:
    """Insert a run outside the series that scores the answers of ``origin`` by another definition; None if the name is taken."""
    values = {
        "suite": origin.suite,
        "number": None,
        "name": name,
        "suite_version": suite_version,
        "definition": definition,
        "workload": origin.workload,
        "arm_count": len(origin.arms),
        "samples": origin.samples,
        "scheduled_for": None,
        "started_at": at,
        "derived_from": origin.name,
    }
    return _insert(connection, values, origin.arms)


def _insert(connection: Connection, values: dict[str, Any], arms: Sequence[Arm]) -> Evaluation | None:
    try:
        with connection.begin_nested():
            evaluation_id = connection.execute(insert(evaluations).returning(evaluations.c.id), values).scalar_one()
    except IntegrityError:
        return None
    rows = [{"evaluation_id": evaluation_id, "arm": place, **arm._asdict()} for place, arm in enumerate(arms)]
    connection.execute(insert(evaluation_arms), rows)
    return find(connection, values["name"])


def forget(connection: Connection, evaluation_id: int) -> None:
    """Remove a run for which nothing was sent; a finished run stays."""
    is_running = select(evaluations.c.id).where(evaluations.c.id == evaluation_id, RUNNING)
    for table in (scores, evaluation_rows, evaluation_arms):
        connection.execute(delete(table).where(table.c.evaluation_id.in_(is_running)))
    connection.execute(delete(evaluations).where(evaluations.c.id == evaluation_id, RUNNING))


def find(connection: Connection, name: str) -> Evaluation | None:
    """Read a run by its name."""
    return _first(connection, evaluations.c.name == name)


def scheduled(connection: Connection, suite: str, scheduled_for: float) -> Evaluation | None:
    """Read a suite's run for a time of its schedule."""
    return _first(connection, evaluations.c.suite == suite, evaluations.c.scheduled_for == scheduled_for)


def unfinished(connection: Connection, suite: str, *, is_partial: bool = False) -> list[Evaluation]:
    """Read the unfinished runs of a suite's series, or the partial ones, that were not begun by a schedule, newest first."""
    conditions = (
        evaluations.c.suite == suite,
        evaluations.c.scheduled_for.is_(None),
        evaluations.c.number.is_(None) if is_partial else evaluations.c.number.is_not(None),
        evaluations.c.derived_from.is_(None),
        RUNNING,
    )
    return list(_read(connection, *conditions, order=evaluations.c.id.desc()))


def before(
    connection: Connection, evaluation: Evaluation, *, verdicts: Collection[str] | None = None, limit: int = 1
) -> list[Evaluation]:
    """Read the last runs of the suite's series that ended before ``evaluation`` in one of the ``verdicts``, latest first.

    Only fully scored runs: with others nothing can be compared. None: any verdict.
    """
    conditions = _scored_before(evaluation.suite, evaluation.number)
    if verdicts is not None:
        conditions.append(evaluations.c.verdict.in_(verdicts))
    return list(_read(connection, *conditions, order=evaluations.c.number.desc(), limit=limit))


def last_scored(connection: Connection, suite: str, *, limit: int) -> list[Evaluation]:
    """Read the last fully scored runs of a suite's series, latest first."""
    return list(_read(connection, *_scored_before(suite, None), order=evaluations.c.number.desc(), limit=limit))


def series_before(
    connection: Connection, evaluation: Evaluation, *, verdicts: Collection[str], limit: int
) -> list[RunOfSeries]:
    """Read the fully scored runs before ``evaluation`` from the last ``limit`` of these ``verdicts`` on, whatever they ended in, oldest first."""
    conditions = _scored_before(evaluation.suite, evaluation.number)
    chosen = (
        select(evaluations.c.number)
        .where(*conditions, evaluations.c.verdict.in_(verdicts))
        .order_by(evaluations.c.number.desc())
        .limit(limit)
        .subquery()
    )
    first = select(func.min(chosen.c.number)).scalar_subquery()
    query = (
        select(evaluations.c.number, evaluations.c.name, evaluations.c.verdict)
        .where(*conditions, evaluations.c.number >= first)
        .order_by(evaluations.c.number)
    )
    return [RunOfSeries(*row) for row in connection.execute(query)]


def _scored_before(suite: str, number: int | None) -> list[ColumnElement[bool]]:
    conditions = [evaluations.c.suite == suite, evaluations.c.number.is_not(None), _FULLY_SCORED]
    return conditions if number is None else [*conditions, evaluations.c.number < number]


def is_first(connection: Connection, evaluation: Evaluation) -> bool:
    """Whether no run of the suite's series ended before this one."""
    conditions = [
        evaluations.c.suite == evaluation.suite,
        evaluations.c.number.is_not(None),
        evaluations.c.finished_at.is_not(None),
    ]
    if evaluation.number is not None:
        conditions.append(evaluations.c.number < evaluation.number)
    return connection.execute(select(evaluations.c.id).where(*conditions).limit(1)).first() is None


def derived_from(connection: Connection, name: str) -> list[Evaluation]:
    """Read the runs that score the answers of another one, oldest first."""
    return list(_read(connection, evaluations.c.derived_from == name, order=evaluations.c.id))


def running(connection: Connection) -> list[Evaluation]:
    """Read the runs that are not finished, oldest first; not those that are derived from others."""
    return list(_read(connection, RUNNING, evaluations.c.derived_from.is_(None), order=evaluations.c.id))


def add_rows(connection: Connection, evaluation_id: int, rows: Iterable[RowOf]) -> None:
    """Insert rows of the dataset; existing ones are not changed."""
    _add(connection, evaluation_rows, evaluation_id, rows)


def add_scores(connection: Connection, evaluation_id: int, found: Iterable[ScoreOf]) -> None:
    """Insert scores; existing ones are not changed."""
    _add(connection, scores, evaluation_id, found)


def finish(
    connection: Connection, evaluation_id: int, *, verdict: str, summary: str, fully_scored: bool, at: float
) -> bool:
    """Declare a run finished; return False, and change nothing, when it was finished already."""
    done = connection.execute(
        update(evaluations)
        .where(evaluations.c.id == evaluation_id, RUNNING)
        .values(verdict=verdict, summary=summary, fully_scored=int(fully_scored), finished_at=at)
    )
    return done.rowcount == 1


def rows_of(connection: Connection, evaluation_id: int) -> Iterator[RowOf]:
    """Read the rows of a run, in order."""
    query = (
        select(*columns_for(RowOf, evaluation_rows))
        .where(evaluation_rows.c.evaluation_id == evaluation_id)
        .order_by(evaluation_rows.c.number)
    )
    return map(RowOf._make, connection.execute(query))


def labels_of(connection: Connection, evaluation_id: int) -> Iterator[tuple[str | None, str | None]]:
    """Read the key and the labels (see ``RowOf``) of each row of a run, in order."""
    query = (
        select(evaluation_rows.c.key, evaluation_rows.c.labels)
        .where(evaluation_rows.c.evaluation_id == evaluation_id)
        .order_by(evaluation_rows.c.number)
    )
    return ((row[0], row[1]) for row in connection.execute(query))


def scores_of(connection: Connection, evaluation_id: int, scorer: str) -> Iterator[ScoreOf]:
    """Read the scores of one scorer for a run's answers, in the order of the requests."""
    query = (
        select(*columns_for(ScoreOf, scores))
        .where(scores.c.evaluation_id == evaluation_id, scores.c.scorer == scorer)
        .order_by(scores.c.seq)
    )
    return map(ScoreOf._make, connection.execute(query))


def _add(connection: Connection, table: Table, evaluation_id: int, rows: Iterable[RowOf | ScoreOf]) -> None:
    names = table.columns.keys()
    statement = text(
        f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)})"  # noqa: S608 - names of our tables
        f" ON CONFLICT ({', '.join(table.primary_key.columns.keys())}) DO NOTHING"
    )
    left = iter(rows)
    while chunk := list(islice(left, _ROWS_PER_STATEMENT)):
        connection.execute(statement, [{"evaluation_id": evaluation_id, **row._asdict()} for row in chunk])


def _first(connection: Connection, *conditions: Any) -> Evaluation | None:
    return next(_read(connection, *conditions, order=evaluations.c.id.desc(), limit=1), None)


def _read(connection: Connection, *conditions: Any, order: Any, limit: int | None = None) -> Iterator[Evaluation]:
    rows = connection.execute(select(evaluations).where(*conditions).order_by(order).limit(limit)).all()
    arms: dict[int, list[Arm]] = {row.id: [] for row in rows}
    query = select(evaluation_arms).where(evaluation_arms.c.evaluation_id.in_(arms)).order_by(evaluation_arms.c.arm)
    for arm in connection.execute(query):
        arms[arm.evaluation_id].append(Arm(arm.prompt, arm.prompt_digest, arm.model))
    for row in rows:
        yield Evaluation(
            id=row.id,
            suite=row.suite,
            number=row.number,
            name=row.name,
            suite_version=row.suite_version,
            definition=row.definition,
            workload=row.workload,
            arms=tuple(arms[row.id]),
            samples=row.samples,
            scheduled_for=row.scheduled_for,
            started_at=row.started_at,
            finished_at=row.finished_at,
            verdict=row.verdict,
            summary=row.summary,
            derived_from=row.derived_from,
            fully_scored=bool(row.fully_scored),
        )


def newest(connection: Connection, suite: str | None = None, *, limit: int) -> list[Evaluation]:
    """Read the last ``limit`` runs that were begun, of one suite or of all, oldest first; also those outside the series."""
    conditions = () if suite is None else (evaluations.c.suite == suite,)
    found = list(_read(connection, *conditions, order=evaluations.c.id.desc(), limit=limit))
    return found[::-1]


class RunOf(NamedTuple):
    """The run that a workload belongs to; ``workload`` is the one with the run's answers, ``verdict`` is None until it is finished."""

    run: str
    suite: str
    verdict: str | None
    workload: str


def runs_with_workloads(connection: Connection, workload: str | None = None) -> list[RunOf]:
    """Read the runs and the workloads of their answers, oldest first; with ``workload`` only those that it may belong to.

    The workload of a judge is called like that of the answers, with a dot and the judge's name behind.
    """
    query = (
        select(evaluations.c.name, evaluations.c.suite, evaluations.c.verdict, evaluations.c.workload)
        .where(evaluations.c.derived_from.is_(None))
        .order_by(evaluations.c.id)
    )
    if workload is not None:
        main = evaluations.c.workload
        is_judged = func.substr(workload, 1, func.length(main) + 1) == main + "."
        query = query.where(or_(main == workload, is_judged))
    return [RunOf(*row) for row in connection.execute(query)]


def scores_between(
    connection: Connection, evaluation_id: int, scorer: str, *, first: int, last: int
) -> dict[int, ScoreOf]:
    """Read the scores of one scorer for the answers ``first`` to ``last`` (included), by their place."""
    query = select(*columns_for(ScoreOf, scores)).where(
        scores.c.evaluation_id == evaluation_id, scores.c.scorer == scorer, scores.c.seq.between(first, last)
    )
    return {row.seq: ScoreOf._make(row) for row in connection.execute(query)}


def labels_between(connection: Connection, evaluation_id: int, *, first: int, last: int) -> dict[int, str | None]:
    """Read the expected values of the rows ``first`` to ``last`` (included, from 1) of a run, by their number (see ``RowOf``)."""
    query = select(evaluation_rows.c.number, evaluation_rows.c.labels).where(
        evaluation_rows.c.evaluation_id == evaluation_id, evaluation_rows.c.number.between(first, last)
    )
    return {row.number: row.labels for row in connection.execute(query)}
