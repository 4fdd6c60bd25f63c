"""Query plans at 20,000 requests: the queries of every pass must not read every request."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from batchkit.engine.progress import read_progress
from batchkit.models import RequestState, ShardState
from batchkit.store import batches, events, report_rows, requests, results, shard_leases, workloads
from batchkit.store.bulk import bulk_for
from tests.factories import NOW, add_shard, add_workload, lost_attempt
from tests.planned import BIG, KINDS, filled_store, plans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Connection

    from batchkit.models import Shard, Workload
    from batchkit.store.engine import Store

SHARDS = 200
LINES = 100


@dataclass
class Loaded:
    """A filled store: most requests answered, a few failed and pending, two shards under way."""

    store: Store
    workload: Workload
    open_shard: Shard
    pending_shard: Shard


@pytest.fixture(scope="module", params=KINDS)
def loaded(request, tmp_path_factory) -> Iterator[Loaded]:
    """Fill a database once for all plans."""
    with filled_store(request, tmp_path_factory, _fill) as (_, filled):
        yield filled


def _fill(store: Store) -> Loaded:
    with store.write() as connection:
        workload = add_workload(connection)
        for _ in range(SHARDS):
            merged = add_shard(connection, workload, lines=LINES, state=ShardState.MERGED)
            lost = [lost_attempt(merged, seq) for seq in range(merged.first_seq, merged.last_seq + 1)]
            bulk_for(connection).add_attempts(lost)
        add_shard(connection, workload, lines=10, state=ShardState.MERGED, request_state=RequestState.FAILED)
        pending_shard = add_shard(
            connection, workload, lines=10, state=ShardState.MERGED, request_state=RequestState.PENDING
        )
        open_shard = add_shard(connection, workload, lines=LINES, state=ShardState.ENDED)
        add_shard(connection, workload, lines=LINES, state=ShardState.SUBMITTED)
        workload = workloads.get(connection, workload.id)
    return Loaded(store, workload, open_shard, pending_shard)


def reads_everything(plan: str) -> bool:
    """Return whether a plan reads all rows of a large table, or all of a workload."""
    big = "|".join(BIG)
    whole_table = rf"\bSCAN ({big})\b(?! USING (COVERING )?INDEX {PARTIAL})|Seq Scan on ({big})\b"
    whole_workload = rf"SEARCH ({big}) USING PRIMARY KEY \(workload_id=\?\)$"
    return re.search(whole_table, plan) is not None or re.search(whole_workload, plan, re.MULTILINE) is not None


PARTIAL = "(requests_unfinished|results_failed)"

CALLS: dict[str, tuple[Callable[[Loaded], Callable[[Connection], object]], str | None]] = {
    "count_requests": (lambda on: lambda c: workloads.count_requests(c, on.workload), "requests_unfinished"),
    "failure_reasons": (lambda on: lambda c: workloads.failure_reasons(c, on.workload.id), "results_failed"),
    "open_workloads": (lambda _: workloads.open_workloads, "requests_unfinished"),
    "resubmit_groups": (
        lambda on: lambda c: requests.resubmit_groups(c, on.workload.id, now=NOW),
        "requests_unfinished",
    ),
    "next_resubmit_due": (lambda on: lambda c: requests.next_resubmit_due(c, on.workload.id), "requests_unfinished"),
    "pending_count": (
        lambda on: lambda c: requests.pending_count(c, on.workload.id, at_most=99),
        "requests_unfinished",
    ),
    "pending_after": (
        lambda on: (
            lambda c: requests.pending_after(c, on.workload.id, shard_ids=(on.pending_shard.id,), after_seq=-1, limit=5)
        ),
        "requests_unfinished",
    ),
    "cancel_pending": (lambda on: lambda c: requests.cancel_pending(c, on.workload.id), "requests_unfinished"),
    "of_shard": (lambda on: lambda c: requests.of_shard(c, on.open_shard), None),
    "shard_requests": (lambda on: lambda c: requests.shard_requests(c, on.open_shard), None),
    "mark_succeeded": (lambda on: lambda c: requests.mark_succeeded(c, on.open_shard), None),
    "move_back": (lambda on: lambda c: requests.move_back(c, on.open_shard, RequestState.PENDING), None),
    "claim": (
        lambda on: (
            lambda c: shard_leases.claim(
                c, on.workload.id, ShardState.ENDED, owner="a", now=NOW, lease_seconds=9, limit=5
            )
        ),
        None,
    ),
    "open batches": (lambda on: lambda c: batches.open_of_workload(c, on.workload.id), None),
    # The queries of `batchkit status`: for one workload, for all, and the history of one.
    "status": (lambda on: lambda c: read_progress(c, on.workload, now=NOW), "requests_unfinished"),
    "status of all": (
        lambda _: lambda c: [read_progress(c, workload, now=NOW) for workload in workloads.every(c)],
        "requests_unfinished",
    ),
    "status with history": (lambda on: lambda c: events.newest(c, on.workload.id, limit=20), None),
    # The queries of a report.
    "shards of a report": (lambda on: lambda c: list(report_rows.shard_rows(c, on.workload.id)), None),
    "attempts of a report": (
        lambda on: lambda c: report_rows.attempt_reasons(c, on.workload.id, limit=9, most=200),
        None,
    ),
    "worst requests": (
        lambda on: lambda c: report_rows.worst_seqs(c, on.workload.id, limit=50, most_attempts=200),
        "results_failed",
    ),
    "rows of a report": (lambda on: lambda c: list(report_rows.report_rows(c, on.workload.id, [1, 5, 9_000])), None),
    "sample of answers": (
        lambda on: lambda c: list(report_rows.answer_sample(c, on.workload.id, 20_000, size=16)),
        None,
    ),
    "sample of attempts": (
        lambda on: lambda c: report_rows.attempts_histogram(c, on.workload.id, 20_000, whole_below=1_000),
        None,
    ),
    "the view progress": (lambda _: lambda c: c.execute(text("SELECT * FROM progress")).all(), "requests_unfinished"),
    "the view failed": (lambda _: lambda c: c.execute(text("SELECT * FROM failed")).all(), "results_failed"),
}


@pytest.mark.parametrize("name", CALLS)
def test_no_pass_reads_every_request(loaded, name):
    """Unfinished and failed requests are found by their partial indexes, and the requests of a shard by the primary key."""
    make, index = CALLS[name]
    explained = plans(loaded.store, make(loaded))
    assert not [plan for plan in explained if reads_everything(plan)]
    if index is not None:
        assert any(index in plan for plan in explained)


def test_requests_of_a_shard_are_found_by_their_range(loaded):
    """The primary key is searched between the shard's first and last seq, and no further in either direction."""
    (plan,) = plans(loaded.store, lambda connection: requests.shard_requests(connection, loaded.open_shard))
    if loaded.store.is_sqlite:
        assert "SEARCH requests USING PRIMARY KEY (workload_id=? AND seq>? AND seq<?)" in plan
    else:
        assert "requests_pkey" in plan
        assert f"seq >= '{loaded.open_shard.first_seq}'" in plan
        assert f"seq <= '{loaded.open_shard.last_seq}'" in plan


def test_pending_requests_are_read_from_their_index_alone(loaded):
    """Resubmission reads only the small index: no request is looked up in the table, and none is sorted."""

    def pending_after(connection: Connection) -> None:
        if not loaded.store.is_sqlite:
            # For ten rows, a bitmap scan with a sort costs the same as reading the index in order.
            connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        requests.pending_after(
            connection, loaded.workload.id, shard_ids=(loaded.pending_shard.id,), after_seq=-1, limit=5
        )

    (plan,) = plans(loaded.store, pending_after)
    if loaded.store.is_sqlite:
        assert re.search(
            r"SEARCH requests USING COVERING INDEX requests_unfinished \(workload_id=\? AND state=\? AND seq>\?", plan
        )
    else:
        assert "using requests_unfinished on requests" in plan
        assert "Sort" not in plan


def test_moved_requests_are_found_one_by_one(loaded):
    """Each row of a statement finds its request by seq; any other join order would read all requests."""
    seqs = range(loaded.pending_shard.first_seq, loaded.pending_shard.last_seq + 1)
    rows = [(seq, 100 * place, 99) for place, seq in enumerate(seqs)]

    def move(connection: Connection) -> None:
        bulk = bulk_for(connection)
        bulk.move_to_shard(loaded.workload.id, loaded.open_shard.id, rows)
        if not loaded.store.is_sqlite:
            bulk.set_states(loaded.workload.id, [(seq, "failed", 1, 0) for seq in seqs])

    explained = plans(loaded.store, move)

    for plan in explained:
        if loaded.store.is_sqlite:
            *_, scan, search = plan.split("\n")
            assert scan == "SCAN moves"
            assert re.search(r"SEARCH requests USING .*\(workload_id=\? AND .*seq=\?\)", search)
        else:
            assert not reads_everything(plan)


@pytest.mark.parametrize(
    "query", ["SELECT * FROM requests WHERE attempts > 1", "SELECT count(attempt) FROM results WHERE attempt > 1"]
)
def test_a_full_scan_would_be_noticed(loaded, query):
    """The check itself distinguishes a scan from a search."""
    (plan,) = plans(loaded.store, lambda connection: connection.execute(text(query)))
    assert reads_everything(plan)


def test_exports_go_along_the_primary_keys(loaded):
    """Rows come in input order without a sort, and without reading all bodies first, so memory stays constant."""
    with loaded.store.read() as connection:
        assert len(list(results.stream(connection, loaded.workload.id))) == SHARDS * LINES + 220
        explain = "EXPLAIN QUERY PLAN" if loaded.store.is_sqlite else "EXPLAIN"
        found = connection.exec_driver_sql(f"{explain} {results.statement(connection)}", (loaded.workload.id,))
        plan = "\n".join(row[-1] for row in found)
    if loaded.store.is_sqlite:
        assert "TEMP B-TREE" not in plan
        assert "SEARCH requests USING PRIMARY KEY (workload_id=?)" in plan
        assert "SEARCH results USING PRIMARY KEY (workload_id=? AND seq=?)" in plan
        assert "SEARCH bodies USING INDEX sqlite_autoindex_bodies_1 (shard_id=? AND seq=?)" in plan
    else:
        # The last subplans name the origins of reused answers, from small tables, and run for those only.
        assert re.search("Sort|Hash|Gather|Bitmap|Seq Scan", plan.partition("SubPlan")[0]) is None, plan
        assert [name for name in ("requests_pkey", "results_pkey", "bodies_pkey") if name not in plan] == []
