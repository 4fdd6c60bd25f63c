"""The rows of reports are read back as written."""

from __future__ import annotations

from sqlalchemy import update

from batchkit.models import ShardState
from batchkit.store import report_rows
from batchkit.store.tables import shards as shard_rows
from tests.factories import NOW, add_shard, add_workload


def test_shards_are_read_with_their_counts_and_their_batches(store):
    """Each field has the value of its column; a shard without a batch has no batch fields."""
    with store.write() as connection:
        workload = add_workload(connection)
        merged = add_shard(connection, workload, state=ShardState.MERGED, lines=7)
        planned = add_shard(connection, workload, lines=3)
        counts = {"succeeded": 4, "failed": 2, "expired": 1, "merged_at": NOW + 5}
        connection.execute(update(shard_rows).where(shard_rows.c.id == merged.id).values(counts))
        first, second = report_rows.shard_rows(connection, workload.id)

    assert (first.number, first.state, first.endpoint, first.window) == (1, "merged", merged.endpoint, merged.window)
    assert (first.lines, first.succeeded, first.failed, first.expired) == (7, 4, 2, 1)
    assert (first.merged_at, first.batch_status) == (NOW + 5, "completed")
    assert first.batch_raw is not None
    assert (second.number, second.lines) == (2, planned.line_count)
    assert (second.batch_status, second.batch_raw, second.merged_at) == (None, None, None)
