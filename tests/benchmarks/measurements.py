"""The measurements of one process, each with its floor: the time for the same bytes without the work of batchkit."""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import psycopg
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from batchkit.api import existing
from batchkit.engine.waves import Wave, WaveKind
from batchkit.models import ShardState
from batchkit.steps import resubmit
from batchkit.store import requests, shards, tables
from tests.benchmarks import benchmark_stores
from tests.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from batchkit.engine.runtime import Runner
    from tests.benchmarks.benchmark_stores import BenchmarkStores
    from tests.benchmarks.timing import MeasurementInput

_ROWS_PER_STATEMENT = 10_000
_RESULT_TYPES = ("int8", "int8", "text", "int8", "int2", "int2", *("text",) * 4, *("int4",) * 3, "int2", "int2", "int8")


@contextmanager
def in_a_folder(source: MeasurementInput) -> Iterator[Path]:
    """Yield a temporary folder on the disk of the other files."""
    with tempfile.TemporaryDirectory(prefix="while-", dir=source.folder) as folder:
        yield Path(folder)


def input_bytes(stores: BenchmarkStores) -> int:
    """Return the size of the input."""
    return stores.source.stat().st_size


def answer_bytes(stores: BenchmarkStores) -> int:
    """Return the size of the answers."""
    return sum(path.stat().st_size for path in _answers(stores))


@dataclass(frozen=True)
class Measurement:
    """One figure: the work on the store that ``ready`` opens, its floor (None for a figure in seconds), and the goals by database.

    ``work`` gets the opened store and the stores, ``floor`` the stores and the result of ``floor_ready``; opening is not measured.
    ``size`` is in bytes, for MB/s; the work covers one line in ``one_in``. All functions are at module level, so that another process
    finds them.
    """

    name: str
    stage: str | None
    work: Callable[[Any, Any], object]
    floor_name: str
    floor: Callable[[Any, Any], object] | None
    goals: dict[str, float] = field(default_factory=dict)
    size: Callable[[Any], int] = input_bytes
    changes_nothing: bool = False
    one_in: int = 1
    floor_ready: Callable[[Any], AbstractContextManager[Any]] = in_a_folder

    def ready(self, stores: Any) -> AbstractContextManager[Any]:
        """Open the store that the work needs."""
        store: AbstractContextManager[Any]
        if self.changes_nothing and self.stage is not None:
            store = stores.template(self.stage)
        else:
            store = stores.fresh("work", copy_of=self.stage)
        return store


def parse(paths: Iterable[Path]) -> None:
    """Parse files of lines and keep nothing."""
    for path in paths:
        with path.open("rb", buffering=1 << 20) as handle:
            for line in handle:
                orjson.loads(line)


def _answers(stores: BenchmarkStores) -> list[Path]:
    return sorted(stores.answers.glob("*.jsonl"))


def _rows(paths: Iterable[Path]) -> Iterator[tuple[str, str]]:
    for path in paths:
        for record, line in _lines(path):
            yield record["custom_id"], line


def _lines(path: Path) -> Iterator[tuple[Any, str]]:
    with path.open("rb", buffering=1 << 20) as handle:
        for line in handle:
            yield orjson.loads(line), line.decode()


def parse_requests(stores: BenchmarkStores, _folder: Path) -> None:
    """Parse the input once."""
    parse([stores.source])


def parse_answers(stores: BenchmarkStores, _folder: Path) -> None:
    """Parse the answers once."""
    parse(_answers(stores))


def digest_answers(stores: BenchmarkStores, _folder: Path) -> None:
    """Digest the answers once."""
    for path in _answers(stores):
        with path.open("rb") as handle:
            hashlib.file_digest(handle, "sha256")


@contextmanager
def bare_database(stores: BenchmarkStores) -> Iterator[str]:
    """Create a database without tables; yield the server's URL, or the path of the SQLite file."""
    if stores.server_url is None:
        with in_a_folder(stores) as folder:
            yield str(folder / "floor.db")
        return
    server = PostgresServer(make_url(stores.server_url))
    name = server.create()
    try:
        yield make_url(server.url_of(name)).set(drivername="postgresql").render_as_string(hide_password=False)
    finally:
        server.drop(name)
        server.close()


def insert_answers(stores: BenchmarkStores, database: str) -> None:
    """Parse the answers and insert the same columns as a merge, see ``insert``."""
    insert(_answers(stores), database)


def insert(paths: Iterable[Path], database: str) -> None:
    """Parse lines and insert them into a new database.

    SQLite gets (id, line) in a table without a key but the rowid; Postgres gets the rows of a merge by binary COPY, in the same
    tables with their keys and checks. No request changes its state, and no row can exist already.
    """
    if database.startswith("postgresql:"):
        _copy(paths, database)
        return
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE lines (id INTEGER PRIMARY KEY, custom_id TEXT, line TEXT)")
    rows: list[Any] = []
    connection.execute("BEGIN")
    for row in _rows(paths):
        rows.append(row)
        if len(rows) == _ROWS_PER_STATEMENT:
            connection.executemany("INSERT INTO lines (custom_id, line) VALUES (?, ?)", rows)
            rows.clear()
    connection.executemany("INSERT INTO lines (custom_id, line) VALUES (?, ?)", rows)
    connection.execute("COMMIT")
    connection.close()


def _copy(paths: Iterable[Path], url: str) -> None:
    kept = (tables.results, tables.bodies)
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    tables.metadata.create_all(engine, tables=kept)
    engine.dispose()
    seqs = count()
    with psycopg.connect(url) as connection:
        for shard, path in enumerate(paths):
            bodies, results = [], []
            for seq, (record, line) in zip(seqs, _lines(path), strict=False):
                bodies.append((shard, seq, line))
                results.append((1, seq, "succeeded", shard, 0, *_facts(record)))
            _copy_into(connection, "bodies", ("int8", "int8", "text"), bodies)
            _copy_into(connection, "results", _RESULT_TYPES, results)


def _copy_into(
    connection: psycopg.Connection[Any], table: str, types: Iterable[str], rows: Iterable[Iterable[Any]]
) -> None:
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN (FORMAT BINARY)".encode()) as copy:
        copy.set_types(tuple(types))
        for row in rows:
            copy.write_row(tuple(row))


def _facts(record: Any) -> tuple[Any, ...]:
    """Return the columns of a result: status code, request id, no error, finish reason, tokens, the ids of the names, no other request."""
    response = record["response"]
    body = response["body"]
    usage = body.get("usage", {})
    tokens = (usage.get(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens"))
    reason = body["choices"][0]["finish_reason"] if "choices" in body else None
    return (response["status_code"], response["request_id"], None, None, reason, *tokens, 1, 2, None)


def merge_again(runner: Runner, _stores: BenchmarkStores) -> None:
    """Merge shards that are merged already, as a runner does that was stopped for longer than its lease."""
    workload = runner.find(benchmark_stores.NAME)
    with runner.store.read() as connection:
        merged = shards.in_states(connection, workload.id, (ShardState.MERGED,))
    runner.run_wave(Wave(WaveKind.MERGE, workload.id, tuple(shard.id for shard in merged)))


def export_jsonl(runner: Runner, stores: BenchmarkStores) -> None:
    """Export everything as JSONL."""
    with in_a_folder(stores) as folder:
        runner.export(benchmark_stores.NAME, folder / "out.jsonl")


def export_parquet(runner: Runner, stores: BenchmarkStores) -> None:
    """Export everything as Parquet."""
    with in_a_folder(stores) as folder:
        runner.export(benchmark_stores.NAME, folder / "out.parquet")


def find_unresolved(runner: Runner, stores: BenchmarkStores) -> None:
    """Find every pending request and the place of its line, as resubmission does."""
    workload = runner.find(benchmark_stores.NAME)
    with runner.store.read() as connection:
        found = sum(
            len(
                requests.pending_after(
                    connection, workload.id, shard_ids=group.shard_ids, after_seq=-1, limit=workload.request_count or 0
                )
            )
            for group in requests.resubmit_groups(connection, workload.id, now=0.0)
        )
    assert found == stores.lines * 15 // 1_000, found


def resubmit_tenth(runner: Runner, stores: BenchmarkStores) -> None:
    """Cut the returned requests, a tenth of all, into new shards."""
    report = resubmit.resubmit(runner._context(), runner.find(benchmark_stores.NAME).id)
    assert report.counts["resubmitted"] == stores.lines // 10, report


@contextmanager
def ready_to_split_a_tenth(stores: BenchmarkStores) -> Iterator[Runner]:
    """Open an empty store, and an input with as many lines as are resubmitted."""
    stores.tenth.write_source()
    with stores.tenth.fresh("floor") as runner:
        yield runner


def split_tenth(stores: BenchmarkStores, runner: Runner) -> None:
    """Split as many lines as are resubmitted."""
    benchmark_stores.split(runner, stores.tenth)


def tenth_bytes(stores: BenchmarkStores) -> int:
    """Return the approximate size of the resubmitted lines."""
    return input_bytes(stores) // 10


def read_status(runner: Runner, _stores: BenchmarkStores) -> None:
    """Read what `batchkit status`, its form with a name, and its history show."""
    (snapshot,) = existing.snapshots(runner.settings, benchmark_stores.NAME)
    existing.snapshots(runner.settings, None)
    existing.history(runner.settings, snapshot, limit=20)


def nothing(_stores: BenchmarkStores) -> int:
    """Return 0: the measurement has no size in bytes."""
    return 0


def _both(goal: float) -> dict[str, float]:
    return {"SQLite": goal, "Postgres": goal}


MEASUREMENTS = (
    Measurement(
        "split",
        None,
        benchmark_stores.split,
        "`orjson.loads` over the input",
        parse_requests,
        {"SQLite": 2.4, "Postgres": 2.1},
    ),
    Measurement(
        "merge",
        "ended",
        benchmark_stores.merge_all,
        "`orjson.loads` and a bare insert (SQLite), binary COPY of the same rows (Postgres)",
        insert_answers,
        _both(1.3),
        answer_bytes,
        floor_ready=bare_database,
    ),
    Measurement("second merge", "merged", merge_again, "sha256 of the files", digest_answers, _both(1.5), answer_bytes),
    Measurement(
        "export to JSONL",
        "merged",
        export_jsonl,
        "`orjson.loads` over the answers",
        parse_answers,
        _both(1.2),
        answer_bytes,
        changes_nothing=True,
    ),
    Measurement(
        "export to Parquet",
        "merged",
        export_parquet,
        "`orjson.loads` over the answers",
        parse_answers,
        _both(2.5),
        answer_bytes,
        changes_nothing=True,
    ),
    Measurement(
        "resubmit a tenth",
        "returned",
        resubmit_tenth,
        "the split of as many lines",
        split_tenth,
        _both(1.2),
        tenth_bytes,
        one_in=10,
        floor_ready=ready_to_split_a_tenth,
    ),
    Measurement(
        "find 1.5 % unresolved",
        "unresolved",
        find_unresolved,
        "",
        None,
        _both(0.05),
        nothing,
        changes_nothing=True,
    ),
    Measurement("status", "merged", read_status, "", None, {}, nothing, changes_nothing=True),
)
