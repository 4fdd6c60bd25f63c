"""Results, read back: the stream that an export is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import and_, select

from batchkit.store.tables import bodies, requests, results

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

    from batchkit.models import ShardId, WorkloadId

_ROWS_PER_FETCH = 1_000


class ExportRow(NamedTuple):
    """One request with its result, if it has one; ``body`` is the answer as JSON text."""

    seq: int
    custom_id: str
    state: str
    attempts: int
    shard_id: ShardId
    result_shard_id: ShardId | None
    status_code: int | None
    request_id: str | None
    error_code: str | None
    error_message: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    body: str | None


def stream(connection: Connection, workload_id: WorkloadId) -> Iterator[ExportRow]:
    """Stream every request of a workload in input order, in constant memory."""
    query = (
        select(
            requests.c.seq,
            requests.c.custom_id,
            requests.c.state,
            requests.c.attempts,
            requests.c.shard_id,
            results.c.shard_id,
            results.c.status_code,
            results.c.request_id,
            results.c.error_code,
            results.c.error_message,
            results.c.finish_reason,
            results.c.prompt_tokens,
            results.c.completion_tokens,
            results.c.total_tokens,
            bodies.c.body,
        )
        .outerjoin(results, and_(results.c.workload_id == requests.c.workload_id, results.c.seq == requests.c.seq))
        .outerjoin(bodies, and_(bodies.c.shard_id == results.c.shard_id, bodies.c.seq == results.c.seq))
        .where(requests.c.workload_id == workload_id)
        .order_by(requests.c.seq)
        .execution_options(stream_results=True, yield_per=_ROWS_PER_FETCH)
    )
    # Whoever stops reading in the middle must not leave a cursor open.
    with connection.execute(query) as found:
        for part in found.partitions():
            for row in part:
                yield ExportRow._make(row)
