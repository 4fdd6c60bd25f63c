"""The ledger of synchronous calls: how often each request was executed, and what the calls were answered with.

A request is known by its ``x-client-request-id``, or else by the digest of its body. Counts go to the database in groups, so
that thousands of calls a second cost few commits; only what has not been written yet is in memory.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from batchkit.emulator.state.database import Database

_PAGE = 5_000
_MOST_SPENDERS = 1_000
_META = "synchronous"


@dataclass(slots=True)
class StatusCount:
    """The answers with one HTTP status, and the provider times of the first and the last of them."""

    count: int = 0
    first_at: float = 0.0
    last_at: float = 0.0


@dataclass(slots=True)
class Spent:
    """What the successful answers of one model and tier used."""

    model: str
    service_tier: str
    answers: int = 0
    tokens: int = 0
    audio_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class SynchronousTotals:
    """Sums over all synchronous calls since the directory exists.

    ``requests`` counts distinct ones, ``executed`` the executions, ``succeeded`` those with success, ``delivered`` the answers
    that were handed to an open connection. ``executed_again`` counts executions beyond the first of each request,
    ``bought_twice`` such successes. ``most_in_flight`` is the largest number of calls at one time since the emulator started.
    ``statuses`` has the answers by HTTP status, with ``none`` for broken connections.
    """

    requests: int
    executed: int
    succeeded: int
    delivered: int
    executed_again: int
    bought_twice: int
    most_in_flight: int
    statuses: dict[str, StatusCount]
    spent: tuple[Spent, ...]


@dataclass(slots=True)
class SynchronousLedger:
    """Counts executions and answers; the event loop records, any thread reads."""

    database: Database
    in_flight: int = 0
    most_in_flight: int = 0
    _lock: Lock = field(default_factory=Lock)
    _pending: dict[str, list[int]] = field(default_factory=dict)
    _statuses: dict[str, StatusCount] = field(default_factory=dict)
    _spent: dict[tuple[str, str], Spent] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read what an earlier emulator has counted in the directory."""
        row = self.database.row("SELECT value FROM meta WHERE key = ?", (_META,))
        # What another version wrote may have another shape: those counts start again.
        with suppress(AttributeError, TypeError, KeyError, ValueError):
            stored = orjson.loads(row["value"]) if row is not None else {"statuses": {}, "spent": []}
            self._statuses = {status: StatusCount(**counted) for status, counted in stored["statuses"].items()}
            self._spent = {(each["model"], each["service_tier"]): Spent(**each) for each in stored["spent"]}

    def arrived(self) -> None:
        """Count a call that is in flight from now on."""
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def executed(self, request: str, *, succeeded: bool) -> None:
        """Count an execution."""
        with self._lock:
            counts = self._pending.setdefault(request, [0, 0, 0])
            counts[0] += 1
            counts[1] += succeeded

    def used(self, model: str, tier: str, tokens: int, audio_seconds: float) -> None:
        """Count what a successful answer used. Models beyond a thousand are counted together."""
        with self._lock:
            spent = self._spent.get((model, tier))
            if spent is None:
                name = model if len(self._spent) < _MOST_SPENDERS else "others"
                spent = self._spent.setdefault((name, tier), Spent(name, tier))
            spent.answers += 1
            spent.tokens += tokens
            spent.audio_seconds += audio_seconds

    def ended(self, status: str, at: float, *, delivered: str | None = None) -> None:
        """Count the end of a call; ``delivered`` is the executed request whose answer was handed over."""
        self.in_flight -= 1
        with self._lock:
            counted = self._statuses.get(status)
            if counted is None:
                counted = self._statuses[status] = StatusCount(first_at=at)
            counted.count += 1
            counted.last_at = at
            if delivered is not None:
                self._pending.setdefault(delivered, [0, 0, 0])[2] += 1

    def executions(self, request: str) -> int:
        """Return how often a request was executed so far."""
        # The writing connection: counts that are being written are in neither place for a reader.
        with self.database.write() as connection, self._lock:
            row = connection.execute("SELECT executed FROM synchronous WHERE request = ?", (request,)).fetchone()
            return (row["executed"] if row is not None else 0) + self._pending.get(request, (0,))[0]

    def write_to(self, connection: sqlite3.Connection) -> None:
        """Add the counts to the database, in the caller's transaction."""
        with self._lock:
            pending, self._pending = self._pending, {}
            sums = orjson.dumps(
                {
                    "statuses": {status: asdict(counted) for status, counted in self._statuses.items()},
                    "spent": [asdict(spent) for spent in self._spent.values()],
                }
            )
            connection.executemany(
                """
                INSERT INTO synchronous (request, executed, succeeded, delivered) VALUES (?, ?, ?, ?)
                ON CONFLICT (request) DO UPDATE SET executed = executed + excluded.executed,
                    succeeded = succeeded + excluded.succeeded, delivered = delivered + excluded.delivered
                """,
                [(request, *counts) for request, counts in pending.items()],
            )
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_META, sums.decode()))

    def totals(self, connection: sqlite3.Connection) -> SynchronousTotals:
        """Sum up what ``write_to`` has written."""
        sums = connection.execute(
            """
            SELECT count(*) AS requests, coalesce(sum(executed), 0) AS executed, coalesce(sum(succeeded), 0) AS succeeded,
                coalesce(sum(delivered), 0) AS delivered, coalesce(sum(max(executed - 1, 0)), 0) AS executed_again,
                coalesce(sum(max(succeeded - 1, 0)), 0) AS bought_twice
            FROM synchronous
            """
        ).fetchone()
        with self._lock:
            return SynchronousTotals(
                **dict(sums),
                most_in_flight=self.most_in_flight,
                statuses={status: StatusCount(**asdict(counted)) for status, counted in self._statuses.items()},
                spent=tuple(Spent(**asdict(spent)) for spent in self._spent.values()),
            )


def request_lines(connection: sqlite3.Connection) -> Iterator[bytes]:
    """Stream the requests as JSON lines ``{request, executed, succeeded, delivered}``, by request."""
    cursor = connection.execute("SELECT request, executed, succeeded, delivered FROM synchronous ORDER BY request")
    while rows := cursor.fetchmany(_PAGE):
        yield b"".join(orjson.dumps(dict(row), option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def request_counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Return how often each request was executed."""
    rows = connection.execute("SELECT request, executed FROM synchronous")
    return {row["request"]: row["executed"] for row in rows}
