"""What people decided about rows of annotated tables; kept apart from what models answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import func, select, text

from batchkit.store.tables import reviews

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy.engine import Connection

    from batchkit.models import WorkloadId

_PUT = text(
    "INSERT INTO reviews (workload_id, number, at, reviewer, decision)"
    " VALUES (:workload_id, :number, :at, :reviewer, :decision)"
    " ON CONFLICT (workload_id, number) DO UPDATE SET at = excluded.at, reviewer = excluded.reviewer,"
    " decision = excluded.decision"
)
_ROWS_AT_ONCE = 1_000


class Decision(NamedTuple):
    """What people decided about a row: ``number`` starts at 1, ``decision`` is a JSON object with values by columns of the answer."""

    number: int
    decision: str


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
