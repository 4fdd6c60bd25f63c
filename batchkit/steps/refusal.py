"""When the provider turns a shard away whole: wait, cut smaller, or give its requests the provider's words.

Each of these ends: a wait doubles and is counted, a cut halves until one request stands alone, and a workload takes only so
many whole refusals before the rest of them count as final.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from batchkit.errors import AccountRefused, StateConflict
from batchkit.files.jsonl import storable_text, storable_word
from batchkit.models import RefusalKind, RequestState, ShardState
from batchkit.store import requests, shards
from batchkit.store.bulk import bulk_for
from batchkit.store.rows import ResultRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from batchkit.models import Shard
    from batchkit.steps.context import StepContext
    from batchkit.store.requests import ShardRequest

#: How often one shard may be turned away for capacity, or for a reason that may pass, before it counts as refused.
MAX_WAITS = 8
#: How many shards of a workload may be refused whole before halving stops.
MAX_REFUSED_SHARDS = 200
#: How many shards of a workload of which no file was taken yet may be refused for reasons that are not clear.
MAX_UNPROVEN_REFUSALS = 6
#: How often in a row the same requests may be refused so, while others are under way.
MAX_UNPROVEN_WAITS = 3
#: How often in a row the same requests may find their input file lost before the command ends.
MAX_LOST_FILES = 8

#: No shard waits longer than this before it is tried again.
LONGEST_WAIT_SECONDS = 3_600.0


def asked_wait_seconds(context: StepContext, asked: float | None, refusals: int) -> float:
    """How long to wait when the provider asks to, for ``asked`` seconds or without saying how long (None).

    At least a twelfth of ``capacity_wait_seconds``, doubling with ``refusals``, because a server may ask for nothing or
    keep refusing; at most an hour, after which it is asked again.
    """
    if asked is None or not math.isfinite(asked):
        return wait_seconds(context, refusals)
    floor = context.timing.capacity_wait_seconds / 12 * 2.0 ** min(refusals, 16)
    return min(max(asked, floor), LONGEST_WAIT_SECONDS)


def wait_seconds(context: StepContext, refusals: int) -> float:
    """How long to wait after the ``refusals``-th refusal (starts at 0): doubling, up to an hour."""
    return min(context.timing.capacity_wait_seconds * 2.0 ** min(refusals, 16), LONGEST_WAIT_SECONDS)


def pause_seconds(context: StepContext, tries: int = 0) -> float:
    """How long to wait for what should be over soon (an outage, a file not visible yet): doubling with ``tries``."""
    return min(context.timing.settle_seconds / 6 * 2.0 ** min(tries, 16), LONGEST_WAIT_SECONDS)


def postpone(
    context: StepContext, shard: Shard, seconds: float, *, refused: bool = False, no_room: bool = False
) -> None:
    """Leave a shard where it is for some seconds and give it back.

    ``refused`` counts one more of its refusals, ``no_room`` one more wait for want of room, which is nobody's fault.
    """
    with context.store.write() as connection:
        shards.set_values(
            connection,
            shard,
            owner=context.owner,
            not_before=context.clock() + seconds,
            refusals=shard.refusals + 1 if refused else shard.refusals,
            waits=shard.waits + 1 if no_room else shard.waits,
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
    context: StepContext, shard: Shard, kind: RefusalKind, *, code: str, message: str, status_code: int | None
) -> AccountRefused | None:
    """Give up a shard that the provider will never take: its requests are sent again in halves, or fail one by one.

    Returns an error to end with when the refusal proves nothing against the lines (see ``proves_nothing``).
    """
    with context.store.write() as connection:
        unproven = proves_nothing(connection, shard, kind)
        ends = unproven and unproven_ends(connection, shard)
        final = not unproven and halving_ends(connection, shard)
        if final:
            fail_all(connection, shard, code=code, message=message, status_code=status_code)
        else:
            requests.move_back(connection, shard, RequestState.PENDING)
        _withdraw(
            connection,
            context,
            shard,
            detail=f"{code}: {message}",
            refusals=0 if unproven else 1,
            failed=shard.line_count if final else 0,
            waits=shard.waits + 1 if unproven else shard.waits,
            not_before=context.clock() + wait_seconds(context, shard.waits) if unproven and not ends else 0,
            next_lines=shard.line_count if unproven else max(shard.line_count // 2, 1),
        )
    return everything_is_refused(message) if ends else None


def cut_for_room(context: StepContext, shard: Shard, *, message: str) -> None:
    """Give up a shard for which there was no room again and again: its requests are sent again in halves."""
    with context.store.write() as connection:
        requests.move_back(connection, shard, RequestState.PENDING)
        _withdraw(
            connection,
            context,
            shard,
            detail=f"no room: {message}",
            refusals=0,
            waits=0,
            failed=0,
            not_before=context.clock() + wait_seconds(context, 0),
            next_lines=max(shard.line_count // 2, 1),
        )


def no_room(message: str) -> AccountRefused:
    """Make the error of a request for which there was no room again and again although it stands alone."""
    return AccountRefused(
        f"the provider had no room for a single request in {MAX_WAITS} tries: {message}",
        status=HTTPStatus.TOO_MANY_REQUESTS,
        hint="nothing failed: run the same command again when there is room (limits: console.groq.com/settings/limits)",
    )


def withdraw_too_large(context: StepContext, shard: Shard, *, message: str, status_code: int | None) -> None:
    """Give up a shard that is too large for the provider: its requests are sent again in halves.

    However many shards are too large, that says nothing against their lines; only one that stands alone fails.
    """
    code, final = "file_too_large", shard.line_count == 1
    with context.store.write() as connection:
        if final:
            fail_all(connection, shard, code=code, message=message, status_code=status_code)
        else:
            requests.move_back(connection, shard, RequestState.PENDING)
        _withdraw(
            connection,
            context,
            shard,
            detail=f"{code}: {message}",
            refusals=0,
            failed=int(final),
            not_before=0,
            next_lines=max(shard.line_count // 2, 1),
        )


def _withdraw(connection: Connection, context: StepContext, shard: Shard, *, detail: str, **values: Any) -> None:
    shards.transition(
        connection,
        shard,
        ShardState.WITHDRAWN,
        at=context.clock(),
        owner=context.owner,
        detail=detail[:500],
        next_completion_window=shard.window,
        **values,
    )


def halving_ends(connection: Connection, shard: Shard) -> bool:
    """Whether the culprit stands alone, or the workload has been refused so often that no single line can be the cause."""
    return shard.line_count == 1 or shards.refused_count(connection, shard.workload_id) >= MAX_REFUSED_SHARDS


def proves_nothing(connection: Connection, shard: Shard, kind: RefusalKind) -> bool:
    """Whether a refusal of a whole file says nothing against its lines, so that no request may fail by it.

    So it is when its words say nothing that is known, and no file of the workload was ever taken: after a few such refusals,
    or when halving would fail a request, the reason is not in a line.
    """
    if kind is not RefusalKind.UNCLEAR or shards.any_accepted(connection, shard.workload_id):
        return False
    refused = shards.refused_count(connection, shard.workload_id)
    return shard.line_count == 1 or refused >= MAX_UNPROVEN_REFUSALS


def unproven_ends(connection: Connection, shard: Shard) -> bool:
    """Whether nothing is left that could still be taken and show that a refusal was about its lines."""
    if shards.refused_count(connection, shard.workload_id) >= MAX_UNPROVEN_REFUSALS:
        return True
    is_alone = shards.open_count(connection, shard.workload_id, at_most=2) <= 1
    return is_alone or shard.waits >= MAX_UNPROVEN_WAITS


def everything_is_refused(message: str) -> AccountRefused:
    """Make the error of a workload of which the provider has taken no file."""
    return AccountRefused(
        f"the provider takes no file of this workload, and its words name no line: {message}",
        status=HTTPStatus.BAD_REQUEST,
        hint="nothing failed and nothing more was sent: ask the provider, then run the same command again, or"
        " `batchkit cancel` the workload",
    )


def files_are_lost(message: str) -> AccountRefused:
    """Make the error of a provider that again and again does not find the files that were uploaded to it."""
    return AccountRefused(
        f"the provider did not find the input file of a batch, however often it was uploaded: {message}",
        status=HTTPStatus.NOT_FOUND,
        hint="nothing failed: run the same command again later; if it stays so, ask the provider",
    )


def fail_all(connection: Connection, shard: Shard, *, code: str, message: str, status_code: int | None) -> None:
    """Fail every request of a shard with the provider's words. No attempt is counted: nothing was executed."""
    fail(connection, shard, [(request, code, message) for request in requests.of_shard(connection, shard)], status_code)


def fail(
    connection: Connection,
    shard: Shard,
    refused: Sequence[tuple[ShardRequest, str, str]],
    status_code: int | None = None,
) -> None:
    """Fail some requests of a shard, each with its code and message."""
    bulk = bulk_for(connection)
    failed = RequestState.FAILED.value
    bulk.set_states(
        shard.workload_id,
        [(request.seq, failed, request.attempts, request.expiries) for request, _, _ in refused],
    )
    bulk.add_results(
        [
            ResultRow(
                workload_id=shard.workload_id,
                seq=request.seq,
                state=failed,
                shard_id=shard.id,
                attempt=request.attempts,
                status_code=status_code,
                error_code=storable_word(code),
                error_message=storable_text(message),
            )
            for request, code, message in refused
        ],
    )
