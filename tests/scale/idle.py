"""``python -m tests.scale.idle``: one pass of ``advance_workloads`` over many open batches without news.

The provider is a server on loopback that answers over real HTTP; its own cost is not counted.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from sqlalchemy import event

from batchkit.engine.runtime import Runner
from batchkit.engine.waves import Done, DriveUntil
from batchkit.settings import load_settings
from batchkit.store import migrate
from batchkit.store.engine import Store
from tests.clock import FakeClock
from tests.factories import NOW
from tests.provider.server import Reply, ScriptedServer, Seen, as_json
from tests.scale.fill import Filling, analyse, fill
from tests.scale.temporary_databases import DATABASES, temporary_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_WRITES = ("INSERT", "UPDATE", "DELETE")


@dataclass(frozen=True)
class IdlePass:
    """The work of one pass. ``seconds`` are CPU seconds of the pass's thread, ``open_seconds`` those of opening its runner."""

    calls: Counter[str]
    statements: int
    rows_written: int
    open_seconds: float
    seconds: float


def batch_as_told(batch_id: str, *, completed: int = 0, total: int = 1, status: str = "in_progress") -> dict[str, Any]:
    """Return a batch as the provider sends it."""
    return {
        "id": batch_id,
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "errors": None,
        "input_file_id": f"file-of-{batch_id}",
        "completion_window": "24h",
        "status": status,
        "output_file_id": None,
        "error_file_id": None,
        "created_at": int(NOW),
        "in_progress_at": int(NOW),
        "expires_at": int(NOW) + 86_400,
        "request_counts": {"total": total, "completed": completed, "failed": 0},
        "metadata": {"batchkit_workload": "scale"},
    }


def status_server(*, completed: int = 0) -> ScriptedServer:
    """Return a server that reports every requested batch as running, with this number of requests done."""

    def choose(seen: Seen) -> Reply | None:
        ids = [value for name, value in seen.query if name == "id"]
        if not ids:
            return None
        told = [batch_as_told(batch_id, completed=completed) for batch_id in ids]
        return as_json({"object": "list", "data": told, "paging": {"next_cursor": None}})

    return ScriptedServer(choose=choose)


def open_store(url: str, *, workloads: int, batches: int) -> None:
    """Fill a new database with workloads of ``batches`` open batches each."""
    store = Store(url)
    migrate.upgrade(store)
    for number in range(workloads):
        fill(store, Filling(submitted=batches, lines=1), name=f"scale-{number}")
    analyse(store)
    store.close()


def one_idle_pass(url: str, home: Path, server: ScriptedServer) -> IdlePass:
    """Run one scheduled pass in its own runner. Raises ``AssertionError`` if the pass finds work."""
    server.seen.clear()
    settings = load_settings(home=home, database_url=url, base_url=server.base_url, api_key="gsk_anything")
    began = time.thread_time()
    with Runner(settings, clock=FakeClock(NOW)) as runner:
        opened = time.thread_time()
        with _counted(runner.store) as counts:
            actions = [
                runner.drive(workload.id, until=DriveUntil.ONE_PASS).next() for workload in runner.open_workloads()
            ]
        ended = time.thread_time()
    assert all(isinstance(action, Done) for action in actions), "every wave would be a task run"
    return IdlePass(Counter(server.calls()), counts["statements"], counts["rows"], opened - began, ended - opened)


@contextmanager
def _counted(store: Store) -> Iterator[Counter[str]]:
    """Count statements, and the rows that they write."""
    counts: Counter[str] = Counter()

    def note(_connection, cursor, statement, _parameters, _context, _many) -> None:
        counts["statements"] += 1
        if statement.lstrip().startswith(_WRITES):
            counts["rows"] += max(cursor.rowcount, 0)

    event.listen(store.engine, "after_cursor_execute", note)
    try:
        yield counts
    finally:
        event.remove(store.engine, "after_cursor_execute", note)


def main(
    batches: Annotated[int, typer.Option(help="The number of open batches.")] = 10_000,
    workloads: Annotated[int, typer.Option(help="The number of workloads that share them.")] = 1,
    rounds: Annotated[int, typer.Option(help="The number of passes; the median counts.")] = 3,
) -> None:
    """Measure a pass without work on both databases."""
    console = Console(width=10_000)
    for line in (
        "| open batches | workloads | database | GETs | SQL statements | rows written | opening | the pass |",
        f"|{'---|' * 8}",
    ):
        console.print(line, markup=False, highlight=False)
    for database in DATABASES:
        with ExitStack() as stack:
            place = stack.enter_context(temporary_database(database))
            server = stack.enter_context(status_server())
            open_store(place.url, workloads=workloads, batches=batches // workloads)
            one_idle_pass(place.url, place.folder / "home", server)  # the first pass stores the owner of the key
            passes = [one_idle_pass(place.url, place.folder / "home", server) for _ in range(rounds)]
        last = passes[-1]
        opening = statistics.median(one.open_seconds for one in passes)
        console.print(
            f"| {batches:,} | {workloads:,} | {database} | {last.calls['GET /batches']:,} | {last.statements:,}"
            f" | {last.rows_written:,} | {opening:.2f} s | {statistics.median(one.seconds for one in passes):.2f} s |",
            markup=False,
            highlight=False,
        )


if __name__ == "__main__":
    typer.run(main)
