"""What is measured, each beside its floor: what the same bytes cost when nothing of what batchkit does is done to them."""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import psycopg
from sqlalchemy.engine import make_url

from tests.benchmarks import lab as labs
from tests.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from batchkit.runner import Runner
    from tests.benchmarks.lab import Lab

_ROWS_PER_STATEMENT = 10_000


@dataclass(frozen=True)
class Part:
    """One figure: the work of a runner on a store of some stage, its floor, and the goal for their ratio."""

    name: str
    stage: str | None
    work: Callable[[Runner, Lab], object]
    floor_name: str
    floor: Callable[[Lab, Path], object]
    goals: dict[str, float]

    def ready(self, lab: Lab) -> AbstractContextManager[Runner]:
        """Open the store that the work needs."""
        return lab.fresh("work", copy_of=self.stage)


def _parse(paths: Iterator[Path]) -> None:
    for path in paths:
        with path.open("rb", buffering=1 << 20) as handle:
            for line in handle:
                orjson.loads(line)


def _answers(lab: Lab) -> Iterator[Path]:
    return lab.golden("ended").rglob("answers/*.jsonl")


def _answer_rows(lab: Lab) -> Iterator[tuple[str, str]]:
    for path in _answers(lab):
        with path.open("rb", buffering=1 << 20) as handle:
            for line in handle:
                yield orjson.loads(line)["custom_id"], line.decode()


def parse_requests(lab: Lab, _folder: Path) -> None:
    """Parse the input once."""
    _parse(iter([lab.source]))


def parse_answers(lab: Lab, _folder: Path) -> None:
    """Parse the answers once."""
    _parse(_answers(lab))


def digest_answers(lab: Lab, _folder: Path) -> None:
    """Digest the answers once."""
    for path in _answers(lab):
        with path.open("rb") as handle:
            hashlib.file_digest(handle, "sha256")


def insert_answers(lab: Lab, folder: Path) -> None:
    """Parse the answers and insert (id, line) into a bare table; on Postgres by binary COPY."""
    if lab.server_url is not None:
        _copy_answers(lab)
        return
    connection = sqlite3.connect(folder / "floor.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE lines (id INTEGER PRIMARY KEY, custom_id TEXT, line TEXT)")
    rows: list[Any] = []
    connection.execute("BEGIN")
    for row in _answer_rows(lab):
        rows.append(row)
        if len(rows) == _ROWS_PER_STATEMENT:
            connection.executemany("INSERT INTO lines (custom_id, line) VALUES (?, ?)", rows)
            rows.clear()
    connection.executemany("INSERT INTO lines (custom_id, line) VALUES (?, ?)", rows)
    connection.execute("COMMIT")
    connection.close()


def _copy_answers(lab: Lab) -> None:
    server = PostgresServer(make_url(str(lab.server_url)))
    name = server.create()
    url = make_url(server.url_of(name)).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE lines (custom_id text, line text)")
        with connection.cursor() as cursor, cursor.copy("COPY lines FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(("text", "text"))
            for row in _answer_rows(lab):
                copy.write_row(row)
    server.drop(name)
    server.close()


def export_jsonl(runner: Runner, _lab: Lab) -> None:
    """Export everything as JSONL."""
    runner.export(labs.NAME, runner.settings.home / "out.jsonl")


def _merge_all(runner: Runner, _lab: Lab) -> None:
    labs.merge_all(runner)


PARTS = (
    Part(
        "split",
        None,
        labs.split,
        "`orjson.loads` over the input",
        parse_requests,
        {"SQLite": 2.4, "Postgres": 2.1},
    ),
    Part(
        "merge",
        "ended",
        _merge_all,
        "`orjson.loads` and a bare insert (SQLite), binary COPY (Postgres)",
        insert_answers,
        {"SQLite": 1.3, "Postgres": 1.3},
    ),
    Part("second merge", "merged", _merge_all, "sha256 of the files", digest_answers, {"SQLite": 1.5, "Postgres": 1.5}),
    Part(
        "export to JSONL",
        "merged",
        export_jsonl,
        "`orjson.loads` over the answers",
        parse_answers,
        {"SQLite": 1.2, "Postgres": 1.2},
    ),
)
