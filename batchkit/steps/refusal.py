"""When the provider turns a shard away whole: wait, cut smaller, or give its requests the provider's words.

Each of these ends: a wait doubles and is counted, a cut halves until one request stands alone, and a workload takes only so
many whole refusals before the rest of them count as final.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit.errors import StateConflict
from batchkit.jsonl import storable_text, storable_word
from batchkit.models import RequestState, ShardState
from batchkit.store import requests, shards
from batchkit.store.bulk import bulk_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from batchkit.models import Shard
    from batchkit.steps.context import StepContext
    from batchkit.store.requests import Rider

#: How often one shard may be turned away for capacity, or for a reason that may pass, before it counts as refused.
MAX_WAITS = 8
#: How many shards of a workload may be refused whole before halving stops.
MAX_REFUSED_SHARDS = 200

_LONGEST_WAIT_SECONDS = 3_600.0


def wait_seconds(context: StepContext, refusals: int) -> float:
    """How long to wait after the ``refusals``-th refusal (starts at 0): doubling, up to an hour."""
    return min(context.timing.capacity_wait_seconds * 2.0 ** min(refusals, 16), _LONGEST_WAIT_SECONDS)


def pause_seconds(context: StepContext, tries: int = 0) -> float:
    """How long to wait for what should be over soon (an outage, a file not visible yet): doubling with ``tries``."""
    return min(context.timing.settle_seconds / 6 * 2.0 ** min(tries, 16), _LONGEST_WAIT_SECONDS)


def postpone(context: StepContext, shard: Shard, seconds: float, *, refused: bool = False) -> None:
    """Leave a shard where it is for some seconds and give it back; ``refused`` counts as one of its waits."""
    with context.store.write() as connection:
        shards.set_values(
            connection,
            shard,
            owner=context.owner,
            not_before=context.clock() + seconds,
            refusals=shard.refusals + 1 if refused else shard.refusals,
            lease_owner=None,
            lease_until=None,
        )


def step_aside(context: StepContext, shard: Shard) -> None:
    """After a conflict: leave the shard to whoever moved it on; if it is still ours, try again a little later."""
    try:
        postpone(context, shard, pause_seconds(context))
    except StateConflict:
        return


def withdraw(
    context: StepContext, shard: Shard, *, code: str, message: str, status_code: int | None, is_too_large: bool = False
) -> None:
    """Give up a shard that the provider will never take: its requests ride again in halves, or one by one fail for good.

    However many shards are too large, that says nothing against their lines.
    """
    with context.store.write() as connection:
        final = shard.line_count == 1 if is_too_large else halving_ends(connection, shard)
        if final:
            fail_all(connection, shard, code=code, message=message, status_code=status_code)
        else:
            requests.move_back(connection, shard, RequestState.PENDING)
        shards.transition(
            connection,
            shard,
            ShardState.WITHDRAWN,
            at=context.clock(),
            owner=context.owner,
            detail=f"{code}: {message}"[:500],
            refusals=0 if is_too_large else 1,
            failed=shard.line_count if final else 0,
            next_lines=max(shard.line_count // 2, 1),
            next_completion_window=shard.window,
            not_before=0,
        )


def halving_ends(connection: Connection, shard: Shard) -> bool:
    """Whether the culprit stands alone, or the workload has been refused so often that no single line can be the cause."""
    return shard.line_count == 1 or shards.refused_count(connection, shard.workload_id) >= MAX_REFUSED_SHARDS


def fail_all(connection: Connection, shard: Shard, *, code: str, message: str, status_code: int | None) -> None:
    """Fail every request of a shard with the provider's words. No ride is counted: nothing ran."""
    fail(connection, shard, [(rider, code, message) for rider in requests.of_shard(connection, shard)], status_code)


def fail(
    connection: Connection, shard: Shard, refused: Sequence[tuple[Rider, str, str]], status_code: int | None = None
) -> None:
    """Fail some requests of a shard, each with its code and message."""
    bulk = bulk_for(connection)
    failed = RequestState.FAILED.value
    bulk.set_states(
        shard.workload_id,
        [(rider.seq, failed, rider.attempts, rider.expiries) for rider, _, _ in refused],
    )
    bulk.add_results(
        shard.workload_id,
        shard.id,
        [
            (
                rider.seq,
                failed,
                rider.attempts,
                status_code,
                None,
                storable_word(code),
                storable_text(message),
                None,
                None,
                None,
                None,
            )
            for rider, code, message in refused
        ],
    )
