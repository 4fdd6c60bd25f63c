"""Query plans of reuse beside 15,000 requests of another workload: no statement reads whole tables."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from batchkit.store import reuse, workloads
from batchkit.store.bulk import bulk_for
from batchkit.store.engine import Store
from batchkit.store.reuse import AnsweredBy
from tests.factories import add_shard, lost_attempt
from tests.store.reusing import digest, donor, follow, heir
from tests.store.test_query_plans import BIG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Connection

    from batchkit.models import Shard, Workload

BIG_SHARDS, LINES = 150, 100


@dataclass
class Loaded:
    """A large workload with digests and followers, and a small one, of whose answers another one has reused some."""

    store: Store
    large: Workload
    open_shard: Shard
    small: Workload


@pytest.fixture(scope="module", params=["sqlite", "sqlite analysed", "postgres analysed"])
def loaded(request, tmp_path_factory) -> Iterator[Loaded]:
    """Fill a database once for all plans, which must hold without statistics of SQLite, too."""
    kind, _, analysed = request.param.partition(" ")
    server = None
    if kind == "sqlite":
        path = tmp_path_factory.mktemp("plans") / "batchkit.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        url = f"sqlite:///{path}"
    else:
        server = request.getfixturevalue("postgres_server")
        name = server.create(template=request.getfixturevalue("postgres_template"))
        url = server.url_of(name)
    store = Store(url)
    with store.write() as connection:
        large = donor(connection, "large", shards=BIG_SHARDS, lines=LINES)
        open_shard = add_shard(connection, large, lines=LINES)
        follow(connection, open_shard, 500, first_seq=BIG_SHARDS * LINES + LINES)
        small = donor(connection, "small", shards=2, lines=10)
        heir(connection, "heir", [f"small {seq}" for seq in range(20)])
        heir(connection, "another", [f"large {seq}" for seq in range(2_000)])
        lost = [lost_attempt(open_shard, seq) for seq in range(BIG_SHARDS * LINES)]
        bulk_for(connection).add_attempts(lost)
        # Some answers of workloads that were cleaned.
        gone = donor(connection, "gone", lines=10)
        heir(connection, "heir of it", [f"gone {seq}" for seq in range(10)])
        workloads.remove(connection, gone.id)
        large, small = (workloads.get(connection, workload.id) for workload in (large, small))
    if analysed:
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE" if store.is_sqlite else "VACUUM ANALYZE")
    yield Loaded(store, large, open_shard, small)
    store.close()
    if server is not None:
        server.drop(name)


def plans(loaded: Loaded, call: Callable[[Connection], object]) -> str:
    """Run a call, roll back its changes, and explain each statement that it sent."""
    sent: list[tuple[str, Any]] = []

    def note_it(_connection, _cursor, statement, parameters, _context, _many):
        sent.append((statement, parameters))

    explain = "EXPLAIN QUERY PLAN" if loaded.store.is_sqlite else "EXPLAIN"
    with loaded.store.engine.connect() as connection, connection.begin() as transaction:
        event.listen(loaded.store.engine, "before_cursor_execute", note_it)
        try:
            call(connection)
        finally:
            event.remove(loaded.store.engine, "before_cursor_execute", note_it)
        explained = [
            "\n".join(row[-1] for row in connection.exec_driver_sql(f"{explain} {statement}", parameters))
            for statement, parameters in sent
            if re.match(r"\s*(SELECT|UPDATE|DELETE|WITH|INSERT)\b", statement)
        ]
        transaction.rollback()
    assert explained
    return "\n\n".join(explained)


def scans(plan: str) -> list[str]:
    """Return the lines of a plan that read a whole table of requests, or all requests of a workload in SQLite."""
    big = "|".join(BIG)
    whole = rf"\bSCAN ({big}|mine|own|heir|answered|leader)\b|Seq Scan on ({big})\b"
    return re.findall(rf".*(?:{whole}).*", plan)


CALLS: dict[str, tuple[Callable[[Loaded], Callable[[Connection], object]], str]] = {
    "find_known": (
        lambda _on: lambda c: list(reuse.find_known(c, [digest(f"large {seq}") for seq in range(0, 9_000, 45)])),
        "requests_digest",
    ),
    "add_answered": (
        lambda on: (
            lambda c: reuse.add_answered(
                c,
                on.small.id,
                [
                    AnsweredBy(100 + place, found.workload_id, found.seq, found.result_shard_id)
                    for place, found in enumerate(reuse.find_known(c, [digest(f"large {seq}") for seq in range(300)]))
                    if found.result_shard_id is not None
                ],
            )
        ),
        "results_pkey|answered USING PRIMARY KEY",
    ),
    "kept_answers": (
        lambda _on: (
            lambda c: reuse.kept_answers(c, list(reuse.find_known(c, [digest(f"large {seq}") for seq in range(9)])))
        ),
        "bodies_pkey|sqlite_autoindex_bodies_1",
    ),
    "settle_followers": (
        lambda on: (
            lambda c: reuse.settle_followers(
                c, on.large.id, first_seq=on.open_shard.first_seq, last_seq=on.open_shard.last_seq
            )
        ),
        "requests_followers",
    ),
    "settle_followers of all": (lambda on: lambda c: reuse.settle_followers(c, on.large.id), "requests_followers"),
    "reopen_followers": (lambda on: lambda c: reuse.reopen_followers(c, on.large.id), "requests_"),
    "waiting_followers": (lambda on: lambda c: reuse.waiting_followers(c, on.large.id), "requests_followers"),
    "hand_on": (lambda on: lambda c: reuse.hand_on(c, on.small.id), "results_reused"),
}


@pytest.mark.parametrize("name", CALLS)
def test_no_statement_of_reuse_reads_whole_tables(loaded, name):
    """Beside 15,000 requests of another workload, each of them is found by an index."""
    make, index = CALLS[name]
    plan = plans(loaded, make(loaded))
    assert scans(plan) == [], plan
    assert re.search(index, plan), plan
