"""The processes that drive workloads: one row each, refreshed while the process works."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, func, insert, or_, select, update

from batchkit.files.jsonl import storable_text
from batchkit.store.tables import runners

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.engine import Connection

    from batchkit.models import WorkloadId


@dataclass(frozen=True, slots=True)
class RunnerRow:
    """A row of ``runners``. Times are Unix seconds of the process that wrote it.

    ``owner`` is the owner name of the process's leases. ``verb`` is the command (``watch``). ``workload_id`` is None for a
    process that drives every open workload. ``waiting_for`` is a phrase ("12 batches at the provider"); ``until`` is the latest
    end of the wait, None without one.
    """

    owner: str
    verb: str
    host: str
    workload_id: WorkloadId | None
    seen_at: float
    waiting_for: str | None = None
    since: float | None = None
    until: float | None = None

    @property
    def pid(self) -> str | None:
        """Return the process id on its host, taken from the owner name."""
        parts = self.owner.split("|")
        return parts[2] if len(parts) > 2 else None  # noqa: PLR2004 - see owners.new_owner


def put(connection: Connection, row: RunnerRow) -> None:
    """Insert or replace the process's row."""
    values = {**asdict(row), "waiting_for": storable_text(row.waiting_for)}
    if not connection.execute(update(runners).where(runners.c.owner == row.owner).values(values)).rowcount:
        connection.execute(insert(runners), values)


def remove(connection: Connection, owners: Iterable[str]) -> None:
    """Remove the rows of some processes."""
    connection.execute(delete(runners).where(runners.c.owner.in_(list(owners))))


def remove_unseen(connection: Connection, *, before: float) -> None:
    """Remove the rows that were last written before ``before`` (Unix seconds)."""
    connection.execute(delete(runners).where(runners.c.seen_at < before))


def owners(connection: Connection) -> set[str]:
    """Read the owners of all rows."""
    return set(connection.scalars(select(runners.c.owner)))


_OF_WORKLOAD = (
    select(runners)
    .where(
        or_(runners.c.workload_id == bindparam("workload_id"), runners.c.workload_id.is_(None)),
        runners.c.seen_at > bindparam("seen_after"),
    )
    .order_by(func.coalesce(runners.c.workload_id, 0).desc(), runners.c.seen_at.desc(), runners.c.owner)
)


def of_workload(connection: Connection, workload_id: WorkloadId, *, seen_after: float) -> list[RunnerRow]:
    """Read the processes that drove a workload after ``seen_after``: first those that drive it alone, latest first."""
    found = connection.execute(_OF_WORKLOAD, {"workload_id": workload_id, "seen_after": seen_after})
    return [RunnerRow(**row) for row in found.mappings()]
