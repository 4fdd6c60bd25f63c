"""Refusals of whole shards: wait, cut the requests into smaller shards, or fail them with the provider's message.

Each of these ends: waits double and are counted, halving ends at single requests, and after a limited number of whole-file
refusals of a workload further ones are final.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from batchkit.errors import AccountRefused, StateConflict
from batchkit.files.jsonl import storable_text, storable_word
from batchkit.models import RefusalKind, RequestState, ShardState
from batchkit.store import requests, reuse, shards
from batchkit.store.bulk import bulk_for
from batchkit.store.rows import ResultRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from batchkit.models import Shard
    from batchkit.provider.dialect import Hints
    from batchkit.steps.context import StepContext
    from batchkit.store.requests import ShardRequest

#: How often one shard may be refused for lack of room, or for another passing reason, before it counts as refused.
MAX_WAITS = 8
#: How many shards of a workload may be refused as a whole before halving stops.
MAX_REFUSED_SHARDS = 200
#: How many shards may be refused for unclear reasons while no file of the workload was accepted.
MAX_UNPROVEN_REFUSALS = 6
#: How often in a row the same requests may be refused like that while other shards are open.
MAX_UNPROVEN_WAITS = 3
#: How often in a row the same requests may find their input file lost before the command ends.
MAX_LOST_FILES = 8

#: No shard waits longer than this before it is tried again.
LONGEST_WAIT_SECONDS = 3_600.0


def asked_wait_seconds(context: StepContext, asked: float | None, refusals: int) -> float:
    """Return the wait in seconds when the provider asks to wait: for ``asked`` seconds, or None if it names no time.

    At least a twelfth of ``capacity_wait_seconds``, doubling with ``refusals``, because a server may ask for 0 seconds or
    keep refusing; at most an hour.
    """
    if asked is None or not math.isfinite(asked):
        return wait_seconds(context, refusals)
    floor = context.timing.capacity_wait_seconds / 12 * 2.0 ** min(refusals, 16)
    return min(max(asked, floor), LONGEST_WAIT_SECONDS)


def wait_seconds(context: StepContext, refusals: int) -> float:
    """Return the wait in seconds after the ``refusals``-th refusal (from 0): doubling, up to an hour."""
    return min(context.timing.capacity_wait_seconds * 2.0 ** min(refusals, 16), LONGEST_WAIT_SECONDS)


def pause_seconds(context: StepContext, tries: int = 0) -> float:
    """Return the wait in seconds for a short problem (an outage, a file that is not visible yet): doubling with ``tries``."""
    return min(context.timing.settle_seconds / 6 * 2.0 ** min(tries, 16), LONGEST_WAIT_SECONDS)


def postpone(
    context: StepContext, shard: Shard, seconds: float, *, refused: bool = False, no_room: bool = False
) -> None:
    """Give a shard back in its state, not to be claimed for some seconds.

    ``refused`` adds one to its refusals, ``no_room`` one to its waits for room.
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
    """After a conflict: leave the shard to the runner that moved it; if it is still ours, try again a little later."""
    try:
        postpone(context, shard, pause_seconds(context))
    except StateConflict:
        return


def withdraw(
    context: StepContext, shard: Shard, kind: RefusalKind, *, code: str, message: str, status_code: int | None
) -> AccountRefused | None:
    """Give up a shard that the provider will never accept: its requests are sent again in halves, or a single one fails.

    Returns an error that ends the command when the refusal proves nothing against the lines (see ``proves_nothing``).
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
    """Give up a shard that found no room in ``MAX_WAITS`` tries: its requests are sent again in halves."""
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


def no_room(message: str, hints: Hints) -> AccountRefused:
    """Return the error of a single request that found no room in ``MAX_WAITS`` tries."""
    limits = f" (limits: {hints.limits_page})" if hints.limits_page else ""
    return AccountRefused(
        f"the provider had no room for a single request in {MAX_WAITS} tries: {message}",
        status=HTTPStatus.TOO_MANY_REQUESTS,
        hint=f"nothing failed: run the same command again when there is room{limits}",
    )


def withdraw_too_large(context: StepContext, shard: Shard, *, message: str, status_code: int | None) -> None:
    """Give up a shard that is too large for the provider: its requests are sent again in halves.

    That proves nothing against its lines, however many shards are too large; only a single request fails.
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
    """Return whether the shard has a single line, or so many refusals of the workload that no single line can be the cause."""
    return shard.line_count == 1 or shards.refused_count(connection, shard.workload_id) >= MAX_REFUSED_SHARDS


def proves_nothing(connection: Connection, shard: Shard, kind: RefusalKind) -> bool:
    """Return whether a refusal of a whole file proves nothing against its lines, so that no request may fail because of it.

    That is the case when its reason is unclear and no file of the workload was ever accepted: after a few such refusals, or
    when halving would fail a request, the reason is not in a line.
    """
    if kind is not RefusalKind.UNCLEAR or shards.any_accepted(connection, shard.workload_id):
        return False
    refused = shards.refused_count(connection, shard.workload_id)
    return shard.line_count == 1 or refused >= MAX_UNPROVEN_REFUSALS


def unproven_ends(connection: Connection, shard: Shard) -> bool:
    """Return whether no other file can still be accepted, which would prove that the refusal was about the lines."""
    if shards.refused_count(connection, shard.workload_id) >= MAX_UNPROVEN_REFUSALS:
        return True
    is_alone = shards.open_count(connection, shard.workload_id, at_most=2) <= 1
    return is_alone or shard.waits >= MAX_UNPROVEN_WAITS


def everything_is_refused(message: str) -> AccountRefused:
    """Return the error of a workload of which the provider accepted no file."""
    return AccountRefused(
        f"the provider takes no file of this workload, and its words name no line: {message}",
        status=HTTPStatus.BAD_REQUEST,
        hint="nothing failed and nothing more was sent: ask the provider, then run the same command again, or"
        " `batchkit cancel` the workload",
    )


def files_are_lost(message: str) -> AccountRefused:
    """Return the error of a provider that does not find uploaded files in ``MAX_LOST_FILES`` tries."""
    return AccountRefused(
        f"the provider did not find the input file of a batch, however often it was uploaded: {message}",
        status=HTTPStatus.NOT_FOUND,
        hint="nothing failed: run the same command again later; if it stays so, ask the provider",
    )


def fail_all(connection: Connection, shard: Shard, *, code: str, message: str, status_code: int | None) -> None:
    """Fail every request of a shard with the provider's message. No attempt is counted: nothing was executed."""
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
    reuse.settle_followers(connection, shard.workload_id, first_seq=shard.first_seq, last_seq=shard.last_seq)
