"""Names that many rows share, stored once: models and service tiers. Rows hold their numbers.

A provider chooses these names, so their number is limited: a server that invents names can neither make the table grow without end
nor a merge fail. A name that comes when the table is full gets no number, and reads as absent; the answer's body still has it. A
name stays when the workloads that brought it are cleaned.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Final

from sqlalchemy import insert, select, text

from batchkit.store.tables import names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.engine import Connection

#: The most names of all workloads of a database.
MOST_NAMES: Final = 1_000


def ids_of(connection: Connection, wanted: Iterable[str | None]) -> dict[str | None, int | None]:
    """Return the number of each name, in a write transaction: new names are added, in sorted order.

    None, and a name for which there is no room, have the number None. On Postgres a transaction that adds a name blocks others
    that would add one until it ends, so call this near its end.
    """
    given = set(wanted)
    if given <= {None}:
        return {None: None}
    found = _known(connection)
    new = sorted(name for name in given if name is not None and name not in found)
    if new and len(found) < MOST_NAMES:
        if connection.dialect.name == "postgresql":
            connection.execute(text("LOCK TABLE names IN SHARE ROW EXCLUSIVE MODE"))
            found = _known(connection)
            new = [name for name in new if name not in found]
        added = dict(zip(new[: MOST_NAMES - len(found)], count(max(found.values(), default=0) + 1), strict=False))
        if added:
            connection.execute(insert(names), [{"id": number, "name": name} for name, number in added.items()])
        found |= added
    return {name: None if name is None else found.get(name) for name in given}


def every(connection: Connection) -> dict[int | None, str]:
    """Return the name of each number."""
    return {number: name for name, number in _known(connection).items()}


def _known(connection: Connection) -> dict[str, int]:
    return {name: number for name, number in connection.execute(select(names.c.name, names.c.id))}  # noqa: C416 - rows are not pairs to dict()
