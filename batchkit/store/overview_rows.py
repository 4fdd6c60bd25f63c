"""Queries for an overview of everything: cheap for each workload, and a marker that changes whenever anything does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import exists, or_, select, text

from batchkit.errors import UnknownWorkload
from batchkit.lifecycle import OPEN_SHARD_STATES
from batchkit.models import RequestState
from batchkit.store.evaluation_tables import evaluations
from batchkit.store.tables import UNFINISHED, requests, shards, workloads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from batchkit.models import WorkloadId
    from batchkit.store.engine import Store


class ListedWorkload(NamedTuple):
    """A workload in an overview. ``is_open``: it has requests without a final state, or is not split yet.

    ``last_event`` is the number of its last event: what is derived from its rows holds until the next one.
    """

    id: WorkloadId
    name: str
    created_at: float
    is_open: bool
    has_failed: bool
    last_event: int


class ListedRun(NamedTuple):
    """A run of a suite; ``verdict`` is None until it is finished, ``number`` outside the series."""

    suite: str
    number: int | None
    name: str
    verdict: str | None
    started_at: float
    finished_at: float | None
    workload: str


def _listed() -> Any:
    has_shards = exists().where(
        shards.c.workload_id == workloads.c.id, shards.c.state.in_([state.value for state in OPEN_SHARD_STATES])
    )

    def has_requests(state: RequestState) -> Any:
        # The condition of the partial index stands here literally: SQLite wants to find it.
        return (
            select(requests.c.seq)
            .where(requests.c.workload_id == workloads.c.id, requests.c.state == state.value, UNFINISHED)
            .exists()
        )

    is_open = or_(workloads.c.request_count.is_(None), has_shards, has_requests(RequestState.PENDING))
    last_event = text(
        "(SELECT coalesce(max(events.id), 0) FROM events WHERE events.workload_id = workloads.id) AS last_event"
    )
    return select(
        workloads.c.id,
        workloads.c.name,
        workloads.c.created_at,
        is_open.label("is_open"),
        has_requests(RequestState.FAILED).label("has_failed"),
        last_event,
    ).order_by(workloads.c.id.desc())


_LISTED = _listed()


def listed(connection: Connection) -> list[ListedWorkload]:
    """Read all workloads, the newest first: a few lookups in indexes for each."""
    return [_workload(row) for row in connection.execute(_LISTED)]


def one(connection: Connection, workload_id: WorkloadId) -> ListedWorkload:
    """Read one workload as the overview has it. Raises ``UnknownWorkload`` when it was removed."""
    row = connection.execute(_LISTED.where(workloads.c.id == workload_id)).one_or_none()
    if row is None:
        raise UnknownWorkload(f"there is no workload {workload_id} (any more)")
    return _workload(row)


def _workload(row: Sequence[Any]) -> ListedWorkload:
    return ListedWorkload(row[0], row[1], row[2], bool(row[3]), bool(row[4]), row[5])


def runs(connection: Connection, *, suite: str | None = None, limit: int) -> list[ListedRun]:
    """Read the last runs, the newest first, without those that rescored another one."""
    query = (
        select(
            evaluations.c.suite,
            evaluations.c.number,
            evaluations.c.name,
            evaluations.c.verdict,
            evaluations.c.started_at,
            evaluations.c.finished_at,
            evaluations.c.workload,
        )
        .where(evaluations.c.derived_from.is_(None))
        .order_by(evaluations.c.id.desc())
        .limit(limit)
    )
    if suite is not None:
        query = query.where(evaluations.c.suite == suite)
    return [ListedRun._make(row) for row in connection.execute(query)]


#: Statistics of all tables in this schema (they follow a commit within a second), and what tells of the same more directly.
_MARKER = text(
    "SELECT (SELECT max(id) FROM events), (SELECT max(seen_at) FROM runners), (SELECT max(at) FROM reviews),"
    " (SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables WHERE schemaname = current_schema())"
)


class ChangeMarker:
    """Reads a value that changes when any process has committed something; one cheap query, which reads no table of requests.

    Use it in one thread, and close it there. Raises what ``Store.read`` raises.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: Any = None

    def read(self) -> str:
        """Return the present value."""
        if not self._store.is_sqlite:
            with self._store.read() as connection:
                return repr(tuple(connection.execute(_MARKER).one()))
        # It counts the commits of other connections, as seen by one that stays open (sqlite.org/pragma.html#pragma_data_version).
        if self._kept is None:
            with self._store.read():
                pass  # a missing file is an error with a hint
            self._kept = self._store.engine.raw_connection()
        return str(self._kept.driver_connection.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Close the connection that stays open."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None
