"""The outbox: one row per event and target, written with the transition that causes it and delivered under a lease."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, delete, or_, select, text, update

from batchkit.files.jsonl import storable_text
from batchkit.store.tables import notifications

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection

_ADD = text(
    "INSERT INTO notifications (id, target, at, kind, subject, report)"
    " VALUES (:id, :target, :at, :kind, :subject, :report) ON CONFLICT (id, target) DO NOTHING"
)

#: How far the clocks of two machines may differ; a lease that ends even later was written by a wrong clock.
_MOST_SKEW_SECONDS = 3_600.0


@dataclass(frozen=True, slots=True)
class Notification:
    """A row to deliver: ``id`` identifies the event, ``report`` is JSON, ``tries`` counts begun deliveries including this one."""

    id: str
    target: str
    report: str
    tries: int


def add(
    connection: Connection, *, event_id: str, targets: Iterable[str], at: float, kind: str, subject: str, report: str
) -> None:
    """Insert an event for each target; an existing row is not changed. ``at`` is in Unix seconds."""
    values = {"id": event_id, "at": at, "kind": kind, "subject": storable_text(subject), "report": report}
    connection.execute(_ADD, [{**values, "target": target} for target in targets])


def exists(connection: Connection, event_id: str) -> bool:
    """Return whether an event was written."""
    return connection.execute(select(notifications.c.id).where(notifications.c.id == event_id)).first() is not None


def is_due(connection: Connection, target: str, *, since: float) -> bool:
    """Return whether a row for a target is undelivered, for events after ``since`` (Unix seconds); leased rows count too."""
    query = select(notifications.c.id).where(_undelivered(target, since)).limit(1)
    return connection.execute(query).first() is not None


def lease_owners(connection: Connection) -> set[str]:
    """Return the owners of all leases on undelivered rows."""
    query = select(notifications.c.lease_owner).where(
        notifications.c.delivered_at.is_(None), notifications.c.lease_owner.is_not(None)
    )
    return set(connection.scalars(query))


def claim(
    connection: Connection,
    target: str,
    *,
    owner: str,
    now: float,
    lease_seconds: float,
    since: float,
    dead: Iterable[str] = (),
) -> Notification | None:
    """Take the lease of the oldest undelivered row for a target that no process is delivering; None when there is no such row.

    ``dead`` are owners that are certainly dead.
    """
    until = notifications.c.lease_until
    wrong = until > now + lease_seconds + _MOST_SKEW_SECONDS
    free = or_(until.is_(None), until < now, wrong, notifications.c.lease_owner.in_(list(dead)))
    query = (
        select(notifications.c.id, notifications.c.report, notifications.c.tries)
        .where(_undelivered(target, since), free)
        .order_by(notifications.c.at, notifications.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    claimed = Notification(row.id, target, row.report, row.tries + 1)
    values = {"lease_owner": owner, "lease_until": now + lease_seconds, "tries": claimed.tries}
    connection.execute(update(notifications).where(_is(claimed)).values(values))
    return claimed


def mark_delivered(connection: Connection, row: Notification, *, at: float) -> None:
    """Record that a row was delivered."""
    values = {"delivered_at": at, "lease_owner": None, "lease_until": None, "last_error": None}
    connection.execute(update(notifications).where(_is(row)).values(values))


def give_back(connection: Connection, row: Notification, *, owner: str, error: str) -> None:
    """Give up the lease of a row that was not delivered, and store the reason."""
    own = and_(_is(row), notifications.c.lease_owner == owner)
    values = {"lease_owner": None, "lease_until": None, "last_error": storable_text(error)}
    connection.execute(update(notifications).where(own).values(values))


def forget(connection: Connection, *, before: float) -> None:
    """Remove the rows of events before ``before`` (Unix seconds)."""
    connection.execute(delete(notifications).where(notifications.c.at < before))


def _is(row: Notification) -> ColumnElement[bool]:
    return and_(notifications.c.id == row.id, notifications.c.target == row.target)


def _undelivered(target: str, since: float) -> ColumnElement[bool]:
    return and_(notifications.c.target == target, notifications.c.delivered_at.is_(None), notifications.c.at > since)
