"""How long a workload was worked on, without the times in which no command and no batch ran.

Work time is the time in which a command drove the workload (from its event ``driven`` to its ``stopped``), or a batch ran by the
provider's times, or events followed each other within minutes. The events of a running workload are seconds apart, so that only long
gaps need to be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, or_, select

from batchkit.files import jsonl
from batchkit.models import TERMINAL_STATUSES
from batchkit.store import events as event_log
from batchkit.store.tables import batches, events, shards

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.engine import Connection

    from batchkit.models import WorkloadId

DRIVEN = "driven"
STOPPED = "stopped"
#: Events that are closer together belong to the same work.
_GAP_SECONDS = 900.0
_END_TIMES = ("completed_at", "expired_at", "cancelled_at", "failed_at")


def drive_began(connection: Connection, workload_id: WorkloadId, *, at: float, by: str) -> None:
    """Record that a command begins to drive; ``by`` names it."""
    event_log.record(connection, workload_id, DRIVEN, at=at, detail=by)


def drive_stopped(connection: Connection, workload_id: WorkloadId, *, at: float, why: str) -> None:
    """Record that a command stopped driving; ``why`` is the reason."""
    event_log.record(connection, workload_id, STOPPED, at=at, detail=why)


_SPAN = select(func.min(events.c.at), func.max(events.c.at)).where(
    events.c.workload_id == bindparam("workload_id"), events.c.at <= bindparam("until")
)


def _telling_events() -> Select[Any]:
    """Return the query for the events at which a command began or stopped, and for those after a gap."""
    earlier = func.lag(events.c.at).over(order_by=events.c.id)
    steps = (
        select(events.c.id, events.c.at, events.c.kind, earlier.label("earlier"))
        .where(events.c.workload_id == bindparam("workload_id"), events.c.at <= bindparam("until"))
        .subquery("steps")
    )
    telling = or_(steps.c.at - steps.c.earlier > _GAP_SECONDS, steps.c.kind.in_([DRIVEN, STOPPED]))
    return select(steps.c.at, steps.c.kind, steps.c.earlier).where(telling).order_by(steps.c.id)


_TELLING_EVENTS = _telling_events()


def work_seconds(connection: Connection, workload_id: WorkloadId, *, until: float, is_driven: bool) -> float:
    """Return the seconds of work up to ``until`` (Unix seconds); ``is_driven``: a command is driving the workload at that time."""
    bound = {"workload_id": workload_id, "until": until}
    first, last = connection.execute(_SPAN, bound).one()
    if first is None:
        return 0.0
    idle = 0.0
    driven = 0
    for at, kind, before in connection.execute(_TELLING_EVENTS, bound).all():
        # When a command begins while another one is recorded as driving, that one may be dead.
        if before is not None and at - before > _GAP_SECONDS and (driven <= 0 or kind == DRIVEN):
            idle += _without_batch(connection, workload_id, before, at)
        driven = {DRIVEN: max(driven, 0) + 1, STOPPED: driven - 1}.get(kind, driven)
    if until - last > _GAP_SECONDS and not is_driven:
        idle += _without_batch(connection, workload_id, last, until)
    return max(float(until - first - idle), 0.0)


def ended_at(connection: Connection, workload_id: WorkloadId) -> float | None:
    """Return when the split or the last transition of a shard of the workload was recorded (Unix seconds); None without one."""
    of_work = or_(events.c.shard_id.is_not(None), events.c.kind == event_log.SPLIT)
    query = select(func.max(events.c.at)).where(events.c.workload_id == workload_id, of_work)
    at: float | None = connection.execute(query).scalar_one()
    return at


_BATCHES_IN_WORK = (
    select(batches.c.status, batches.c.raw, batches.c.created_at)
    .join(shards, shards.c.id == batches.c.shard_id)
    .where(
        batches.c.workload_id == bindparam("workload_id"),
        or_(shards.c.merged_at.is_(None), shards.c.merged_at >= bindparam("ended")),
    )
)


def _without_batch(connection: Connection, workload_id: WorkloadId, began: float, ended: float) -> float:
    """Return for how many seconds between two events no batch ran: batches of that time ran from its beginning."""
    last_end = began
    bound = {"workload_id": workload_id, "ended": ended}
    for status, raw, created_at in connection.execute(_BATCHES_IN_WORK, bound):
        if created_at is not None and created_at >= ended:
            continue
        end = _end_of(raw)
        if end is None:
            end = began if status in TERMINAL_STATUSES else ended
        last_end = max(last_end, min(end, ended))
    return ended - last_end


def _end_of(raw: str) -> float | None:
    batch: Any = jsonl.loads_leniently(raw.encode())
    if not isinstance(batch, dict):
        return None
    found = [batch[name] for name in _END_TIMES if isinstance(batch.get(name), int | float) and batch[name] > 0]
    return float(max(found)) if found else None
