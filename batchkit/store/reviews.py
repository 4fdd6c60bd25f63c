"""What people decided about rows of annotated tables; kept apart from what models answered.

A row without a decision is a claim: somebody has the row before them. A claim is timed, and after a while anybody may take it over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import func, select, text

from batchkit.store.tables import reviews

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy.engine import Connection

    from batchkit.models import WorkloadId

_PUT = text(
    "INSERT INTO reviews (workload_id, number, at, reviewer, decision)"
    " VALUES (:workload_id, :number, :at, :reviewer, :decision)"
    " ON CONFLICT (workload_id, number) DO UPDATE SET at = excluded.at, reviewer = excluded.reviewer,"
    " decision = excluded.decision"
)
_CLAIM = text(
    "INSERT INTO reviews (workload_id, number, at, reviewer) VALUES (:workload_id, :number, :at, :claim)"
    " ON CONFLICT (workload_id, number) DO UPDATE SET at = excluded.at, reviewer = excluded.reviewer"
    " WHERE reviews.decision IS NULL AND (reviews.reviewer = excluded.reviewer OR reviews.at <= :expired)"
)
_DECIDE = text(
    "UPDATE reviews SET at = :at, reviewer = :reviewer, decision = :decision, note = :note"
    " WHERE workload_id = :workload_id AND number = :number AND decision IS NULL AND reviewer = :claim"
)
_REOPEN = text(
    "UPDATE reviews SET at = :at, reviewer = :claim, decision = NULL"
    " WHERE workload_id = :workload_id AND number = :number AND decision IS NOT NULL AND reviewer = :reviewer"
)
_RELEASE = text(
    "DELETE FROM reviews WHERE workload_id = :workload_id AND number = :number AND decision IS NULL AND reviewer = :claim"
)
_ROWS_AT_ONCE = 1_000


class Decision(NamedTuple):
    """What people decided about a row: ``number`` starts at 1, ``decision`` is a JSON object with values by columns of the answer."""

    number: int
    decision: str


class Reviewed(NamedTuple):
    """A row that somebody decided or has before them: the latter without a ``decision``. ``at`` is in Unix seconds."""

    number: int
    at: float
    reviewer: str
    decision: str | None
    note: str | None


def claim(
    connection: Connection, workload_id: WorkloadId, number: int, *, claim: str, at: float, expired_at: float
) -> bool:
    """Claim a row, or hold on to it; returns False if it is decided, or claimed by another one after ``expired_at``."""
    values = {"workload_id": workload_id, "number": number, "claim": claim, "at": at, "expired": expired_at}
    return connection.execute(_CLAIM, values).rowcount == 1


def release(connection: Connection, workload_id: WorkloadId, number: int, *, claim: str) -> None:
    """Release a claimed row."""
    connection.execute(_RELEASE, {"workload_id": workload_id, "number": number, "claim": claim})


def decide(
    connection: Connection,
    workload_id: WorkloadId,
    number: int,
    *,
    claim: str,
    reviewer: str,
    decision: str,
    note: str | None,
    at: float,
) -> bool:
    """Store a decision about a row that is claimed; returns False if the claim has passed to another one."""
    values = {"workload_id": workload_id, "number": number, "claim": claim, "reviewer": reviewer, "at": at}
    return connection.execute(_DECIDE, {**values, "decision": decision, "note": note}).rowcount == 1


def reopen(
    connection: Connection, workload_id: WorkloadId, number: int, *, claim: str, reviewer: str, at: float
) -> bool:
    """Turn a decision of ``reviewer`` back into a claim; returns False if there is none."""
    values = {"workload_id": workload_id, "number": number, "claim": claim, "reviewer": reviewer, "at": at}
    return connection.execute(_REOPEN, values).rowcount == 1


def of_rows(connection: Connection, workload_id: WorkloadId, numbers: Sequence[int]) -> dict[int, Reviewed]:
    """Read the decisions and claims about some rows, by their numbers."""
    query = select(reviews.c.number, reviews.c.at, reviews.c.reviewer, reviews.c.decision, reviews.c.note).where(
        reviews.c.workload_id == workload_id, reviews.c.number.in_(numbers)
    )
    return {row.number: Reviewed._make(row) for row in connection.execute(query)}


def put(
    connection: Connection, workload_id: WorkloadId, decisions: Iterable[Decision], *, at: float, reviewer: str
) -> int:
    """Store decisions in place of earlier ones about the same rows; returns how many. ``at`` is in Unix seconds."""
    common = {"workload_id": workload_id, "at": at, "reviewer": reviewer}
    count = 0
    batch: list[dict[str, object]] = []
    for found in decisions:
        batch.append({**common, "number": found.number, "decision": found.decision})
        count += 1
        if len(batch) == _ROWS_AT_ONCE:
            connection.execute(_PUT, batch)
            batch = []
    if batch:
        connection.execute(_PUT, batch)
    return count


def count_decided(connection: Connection, workload_id: WorkloadId) -> int:
    """Return how many rows of a workload people decided."""
    query = select(func.count()).where(reviews.c.workload_id == workload_id, reviews.c.decision.is_not(None))
    return int(connection.execute(query).scalar_one())


def by_reviewer(connection: Connection, workload_id: WorkloadId) -> list[tuple[str, int]]:
    """Return how many rows each reviewer decided, most first."""
    count = func.count()
    query = (
        select(reviews.c.reviewer, count)
        .where(reviews.c.workload_id == workload_id, reviews.c.decision.is_not(None))
        .group_by(reviews.c.reviewer)
        .order_by(count.desc(), reviews.c.reviewer)
    )
    return [(reviewer, int(decisions)) for reviewer, decisions in connection.execute(query)]


def newest(connection: Connection, workload_id: WorkloadId) -> float | None:
    """Return when a row of a workload was last claimed or decided, in Unix seconds; None if none was."""
    query = select(func.max(reviews.c.at)).where(reviews.c.workload_id == workload_id)
    at: float | None = connection.execute(query).scalar_one()
    return at


def decided(connection: Connection, workload_id: WorkloadId, *, after: int, limit: int) -> list[Decision]:
    """Read up to ``limit`` decisions about rows after number ``after``, in the order of the rows."""
    query = (
        select(reviews.c.number, reviews.c.decision)
        .where(reviews.c.workload_id == workload_id, reviews.c.number > after, reviews.c.decision.is_not(None))
        .order_by(reviews.c.number)
        .limit(limit)
    )
    return [Decision(number, decision) for number, decision in connection.execute(query)]


def every(connection: Connection, workload_id: WorkloadId) -> Iterator[Decision]:
    """Yield the decisions about a workload's rows in order, in bounded memory."""
    after = 0
    while found := decided(connection, workload_id, after=after, limit=_ROWS_AT_ONCE):
        yield from found
        after = found[-1].number
