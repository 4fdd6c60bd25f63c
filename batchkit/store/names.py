"""Names that many rows share, stored once: models and service tiers. Rows hold their numbers.

A provider chooses these names, so their number is limited: a server that invents names can neither make the table grow without
end nor make a merge fail. A name that comes when the table is full gets no number, and reads as absent; the answer's body still
has it. A name stays when the workloads that used it are cleaned.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Final

from sqlalchemy import insert, select, text

from batchkit.store.tables import names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.engine import Connection, Engine

#: The most names of all workloads of a database.
MOST_NAMES: Final = 1_000
_EVERY = select(names.c.name, names.c.id)
_ADD = text(
    "INSERT INTO names (id, name) SELECT coalesce(max(id), 0) + 1, :name FROM names HAVING count(*) < :most"
    " ON CONFLICT DO NOTHING"
)


def ids_of(connection: Connection, wanted: Iterable[str | None]) -> dict[str | None, int | None]:
    """Return the number of each name, in a write transaction: new names are added, in sorted order.

    None, and a name for which there is no room, have the number None. On Postgres new names are committed at once, and stay when
    the transaction is rolled back: a process that is stopped in the middle of one blocks no other process's names.
    """
    given = set(wanted)
    if given <= {None}:
        return {None: None}
    found = _known(connection)
    new = sorted(name for name in given if name is not None and name not in found)
    if new and len(found) < MOST_NAMES:
        if connection.dialect.name == "postgresql":
            _add_at_once(connection.engine, new)
            found = _known(connection)
        else:
            added = dict(zip(new[: MOST_NAMES - len(found)], count(max(found.values(), default=0) + 1), strict=False))
            connection.execute(insert(names), [{"id": number, "name": name} for name, number in added.items()])
            found |= added
    return {name: None if name is None else found.get(name) for name in given}


def _add_at_once(engine: Engine, new: Iterable[str]) -> None:
    """Add names, each by one statement that commits by itself, until all are there or the table is full."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for name in new:
            # Another process may take the same number at the same moment: then the next one is free.
            while name not in (found := _known(connection)) and len(found) < MOST_NAMES:
                connection.execute(_ADD, {"name": name, "most": MOST_NAMES})


def every(connection: Connection) -> dict[int | None, str]:
    """Return the name of each number."""
    return {number: name for name, number in _known(connection).items()}


def _known(connection: Connection) -> dict[str, int]:
    return {name: number for name, number in connection.execute(_EVERY)}  # noqa: C416 - rows are not pairs to dict()
