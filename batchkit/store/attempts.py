"""Reading the attempts of requests that failed or expired."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import func, select

from batchkit.lifecycle import DOUBTFUL
from batchkit.models import Lane, OutcomeKind
from batchkit.store.tables import attempts, shards

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy.engine import Connection

    from batchkit.models import WorkloadId

_ROWS_AT_ONCE = 1_000
_INVALID = attempts.c.kind == OutcomeKind.INVALID.value


class Spent(NamedTuple):
    """Tokens of a request's answers that broke the workload's rules."""

    seq: int
    prompt_tokens: int
    completion_tokens: int


def count_bad_answers(connection: Connection, workload_id: WorkloadId) -> dict[str, int]:
    """Count the answers of a workload that broke its rules by reason (see ``batchkit.answers``), most frequent first."""
    count = func.count()
    query = (
        select(attempts.c.error_code, count)
        .join(shards, shards.c.id == attempts.c.shard_id)
        .where(shards.c.workload_id == workload_id, _INVALID)
        .group_by(attempts.c.error_code)
        .order_by(count.desc(), attempts.c.error_code)
    )
    return {str(code): int(found) for code, found in connection.execute(query)}


def count_doubts(connection: Connection, workload_id: WorkloadId) -> int:
    """Count the attempts that may have been executed and paid for, although there is no answer."""
    query = (
        select(func.count())
        .join_from(attempts, shards, shards.c.id == attempts.c.shard_id)
        .where(
            shards.c.workload_id == workload_id,
            shards.c.lane == Lane.SYNC.value,
            attempts.c.kind.in_([kind.value for kind in DOUBTFUL]),
        )
    )
    return int(connection.execute(query).scalar_one())


def spent_on_bad_answers(connection: Connection, workload_id: WorkloadId) -> Generator[Spent, None, None]:
    """Stream the tokens of answers that broke the workload's rules, summed by request, in input order.

    On Postgres the connection can run no other statement meanwhile.
    """
    query = (
        select(attempts.c.seq, func.sum(attempts.c.prompt_tokens), func.sum(attempts.c.completion_tokens))
        .join(shards, shards.c.id == attempts.c.shard_id)
        .where(shards.c.workload_id == workload_id, _INVALID)
        .group_by(attempts.c.seq)
        .order_by(attempts.c.seq)
    )
    # A caller that stops reading early must not leave a cursor open.
    with connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query) as rows:
        for seq, prompt_tokens, completion_tokens in rows:
            yield Spent(seq, int(prompt_tokens or 0), int(completion_tokens or 0))
