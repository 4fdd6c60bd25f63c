"""The ledger: everything that was uploaded, created, executed and answered. It proves what a client bought."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from batchkit.emulator.state.synchronous_ledger import SynchronousTotals, request_counts, request_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.emulator.state.world import World

_PAGE = 5_000


@dataclass(frozen=True, slots=True)
class LedgerBatch:
    """The true state of a batch, whatever the scenario shows. Lines ``held`` wait for the window's end."""

    id: str
    metadata: dict[str, str] | None
    input_file_id: str
    endpoint: str
    window: str
    status: str
    created_at: int
    completed: int
    failed: int
    held: int
    total: int
    output_file_id: str | None
    error_file_id: str | None


@dataclass(frozen=True, slots=True)
class LedgerUpload:
    """An accepted upload."""

    id: str
    filename: str
    bytes: int
    created_at: int
    deleted: bool


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all batches since the directory exists, without synchronous calls.

    ``requests_carried`` counts lines of batches that ran, ``requests_executed`` those really executed,
    ``requests_succeeded`` those answered with success; ``custom_ids`` counts distinct ones. ``bought_twice`` counts the
    successes beyond the first of each custom_id: it is 0 when nothing was paid for twice.
    """

    batches: int
    uploads: int
    custom_ids: int
    requests_carried: int
    requests_executed: int
    requests_succeeded: int
    bought_twice: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """A snapshot. ``batches`` and ``uploads`` are oldest first, ``calls`` counts HTTP calls by operation.

    ``executed`` and ``successes`` map each custom_id that a batch carried to how often it was executed and answered
    with success; both hold every custom_id, so prefer ``GET /_emulator/executions`` for millions. ``synchronous`` sums up the
    calls beside batches, ``synchronous_executed`` maps each of their requests to how often it was executed.
    """

    batches: tuple[LedgerBatch, ...]
    uploads: tuple[LedgerUpload, ...]
    totals: Totals
    calls: dict[str, int]
    executed: dict[str, int]
    successes: dict[str, int]
    synchronous: SynchronousTotals
    synchronous_executed: dict[str, int]

    def executions(self, custom_id: str) -> int:
        """Return the number of executions of a request: 0 if it was never executed or never sent."""
        return self.executed.get(custom_id, 0)

    def execution_counts(self) -> dict[str, int]:
        """Return how often each custom_id was executed."""
        return dict(self.executed)


def take_ledger(world: World, *, with_executions: bool = True) -> Ledger:
    """Read the ledger at one moment; without executions the three maps are empty."""
    world.save()
    with world.database.snapshot() as connection:
        batches = connection.execute("SELECT * FROM batches ORDER BY sequence").fetchall()
        uploads = connection.execute("SELECT * FROM files WHERE purpose = 'batch' ORDER BY sequence").fetchall()
        sums = connection.execute(
            """
            SELECT count(*) AS custom_ids, coalesce(sum(carried), 0) AS carried, coalesce(sum(executed), 0) AS executed,
                coalesce(sum(succeeded), 0) AS succeeded, coalesce(sum(max(succeeded - 1, 0)), 0) AS bought_twice
            FROM executions
            """
        ).fetchone()
        synchronous = world.synchronous.totals(connection)
        executed, successes, called = {}, {}, {}
        if with_executions:
            called = request_counts(connection)
            for row in connection.execute("SELECT custom_id, executed, succeeded FROM executions"):
                executed[row["custom_id"]] = row["executed"]
                successes[row["custom_id"]] = row["succeeded"]
    return Ledger(
        batches=tuple(
            LedgerBatch(
                id=row["id"],
                metadata=None if row["metadata"] is None else orjson.loads(row["metadata"]),
                input_file_id=row["input_file_id"],
                endpoint=row["endpoint"],
                window=row["completion_window"],
                status=row["status"],
                created_at=int(row["created_at"]),
                completed=row["completed"],
                failed=row["failed"],
                held=row["held"],
                total=row["total"],
                output_file_id=row["output_file_id"],
                error_file_id=row["error_file_id"],
            )
            for row in batches
        ),
        uploads=tuple(
            LedgerUpload(row["id"], row["filename"], row["bytes"], row["created_at"], row["deleted_at"] is not None)
            for row in uploads
        ),
        totals=Totals(
            batches=len(batches),
            uploads=len(uploads),
            custom_ids=sums["custom_ids"],
            requests_carried=sums["carried"],
            requests_executed=sums["executed"],
            requests_succeeded=sums["succeeded"],
            bought_twice=sums["bought_twice"],
        ),
        calls=world.calls(),
        executed=executed,
        successes=successes,
        synchronous=synchronous,
        synchronous_executed=called,
    )


def execution_lines(world: World) -> Iterator[bytes]:
    """Stream the ledger's requests as JSON lines ``{custom_id, carried, executed, succeeded}``, by custom_id."""
    with world.database.snapshot() as connection:
        cursor = connection.execute("SELECT custom_id, carried, executed, succeeded FROM executions ORDER BY custom_id")
        while rows := cursor.fetchmany(_PAGE):
            yield b"".join(orjson.dumps(dict(row), option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def synchronous_lines(world: World) -> Iterator[bytes]:
    """Stream the ledger's synchronous requests as JSON lines ``{request, executed, succeeded, delivered}``, by request."""
    world.save()
    with world.database.snapshot() as connection:
        yield from request_lines(connection)
