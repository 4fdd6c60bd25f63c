"""Reading the rides of requests that did not end well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from batchkit.store.tables import attempts, shards

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from batchkit.models import WorkloadId

_INVALID = "invalid"


def count_bad_answers(connection: Connection, workload_id: WorkloadId) -> dict[str, int]:
    """Count the answers of a workload that did not keep to its rules, by their reason (see ``batchkit.answers``), most first."""
    count = func.count()
    query = (
        select(attempts.c.error_code, count)
        .join(shards, shards.c.id == attempts.c.shard_id)
        .where(shards.c.workload_id == workload_id, attempts.c.kind == _INVALID)
        .group_by(attempts.c.error_code)
        .order_by(count.desc(), attempts.c.error_code)
    )
    return {str(code): int(found) for code, found in connection.execute(query)}
