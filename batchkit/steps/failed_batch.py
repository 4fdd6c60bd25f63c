"""The merge of a batch that failed validation: it never ran, and the kind of its refusal decides what happens."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from batchkit.errors import AccountRefused
from batchkit.files.jsonl import storable_text, storable_word
from batchkit.models import OutcomeKind, RefusalKind, RequestState, ShardState
from batchkit.steps.context import StepReport
from batchkit.steps.named_lines import named_requests
from batchkit.steps.refusal import (
    MAX_LOST_FILES,
    MAX_WAITS,
    everything_is_refused,
    fail,
    fail_all,
    files_are_lost,
    halving_ends,
    no_room,
    pause_seconds,
    proves_nothing,
    unproven_ends,
    wait_seconds,
)
from batchkit.store import events, requests, shards
from batchkit.store.bulk import bulk_for
from batchkit.store.rows import AttemptRow

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from batchkit.models import Batch, BatchProblem, Shard, Workload
    from batchkit.provider.dialect import Hints
    from batchkit.steps.context import StepContext

#: How often a single line is sent again after a refusal without a clear reason.
_MOST_UNCLEAR = 2
_ACCOUNT_REFUSED = "account refused"
_SUBMITTED = f"{ShardState.SUBMITTING} -> {ShardState.SUBMITTED}"


def settle_failed_batch(
    connection: Connection, context: StepContext, workload: Workload, shard: Shard, batch: Batch, *, holding: bool
) -> tuple[dict[str, Any], StepReport]:
    """Decide the requests of a batch that failed validation; return the shard's columns and a report. No attempt is counted.

    Lines that the batch names fail with the provider's message, and the others are sent again. Otherwise the kind of the refusal
    decides: a refusal of the account ends the command; a lost file is uploaded again; without room the requests wait for our own
    batches, or are cut smaller when there are none; for any other reason halves of the shard are sent to find the bad line. While the
    workload is ``holding``, all fail.
    """
    problem = next((problem for problem in batch.problems if problem.line is None), None) or next(
        iter(batch.problems), None
    )
    code = (problem.code if problem else None) or "batch_failed"
    message = problem.message if problem else "the provider refused the batch without a reason"
    named = [
        (request, problem.code or "invalid_line", problem.message)
        for _, request, problem in named_requests(connection, context, shard, batch)
    ]
    values: dict[str, Any] = {
        "next_lines": shard.next_lines,
        "next_completion_window": shard.window,
        "not_before": 0,
        "refusals": 0,
        "waits": shard.waits,
    }
    failed, refused = len(named), None
    if named:
        fail(connection, shard, named)
    kind = _kind(context, problem)
    if holding:
        is_about_lines = not named and kind in {RefusalKind.CONTENT, RefusalKind.UNCLEAR}
        failed += _fail_rest(connection, shard, code=code, message=message, is_about_lines=is_about_lines)
    elif not named:
        if kind is RefusalKind.ACCOUNT:
            refused = account_refused(
                connection, shard, f"{code}: {message}", hints=context.provider.dialect.hints, at=context.clock()
            )
        elif kind is RefusalKind.LOST_FILE:
            refused = _upload_again(context, shard, message, values)
        elif kind is RefusalKind.NO_ROOM:
            refused = _wait_for_room(connection, context, shard, message, values)
        elif proves_nothing(connection, shard, kind):
            values["waits"] = shard.waits + 1
            values["next_lines"] = shard.line_count
            if unproven_ends(connection, shard):
                refused = everything_is_refused(message)
            else:
                values["not_before"] = context.clock() + wait_seconds(context, shard.waits)
        elif kind is RefusalKind.UNCLEAR and shard.line_count == 1 and shard.waits < _MOST_UNCLEAR:
            # The refusal may pass: a line fails only after several of them.
            values["waits"] = shard.waits + 1
            values["not_before"] = context.clock() + wait_seconds(context, shard.waits)
        else:
            values["refusals"] = 1
            values["next_lines"] = max(shard.line_count // 2, 1)
            if halving_ends(connection, shard):
                failed = shard.line_count
                fail_all(connection, shard, code=code, message=message, status_code=None)
    cancelling = workload.cancel_requested_at is not None
    moved = requests.move_back(connection, shard, RequestState.CANCELLED if cancelling else RequestState.PENDING)
    values["failed"] = failed
    name = "cancelled" if cancelling else "to be sent again"
    note = f"batch {batch.id} was refused: {code}: {message}"
    return values, StepReport({"merged": 1, "failed": failed, name: moved}, (note,), refused=refused)


def _fail_rest(connection: Connection, shard: Shard, *, code: str, message: str, is_about_lines: bool) -> int:
    """Fail the requests of a shard that are in flight; return how many. Unless the refusal ``is_about_lines``, they were not executed."""
    rest = requests.of_shard(connection, shard)
    fail(connection, shard, [(request, code, message) for request in rest])
    if not is_about_lines:
        bulk_for(connection).add_attempts(
            [
                AttemptRow(
                    shard_id=shard.id,
                    seq=request.seq,
                    workload_id=shard.workload_id,
                    attempt=request.attempts,
                    kind=OutcomeKind.MISSING.value,
                    error_code=storable_word(code),
                    error_message=storable_text(message),
                )
                for request in rest
            ]
        )
    return len(rest)


def _kind(context: StepContext, problem: BatchProblem | None) -> RefusalKind:
    if problem is None:
        return RefusalKind.UNCLEAR
    return context.provider.refusal_kind(status=None, code=problem.code, message=problem.message, param=problem.param)


def _upload_again(context: StepContext, shard: Shard, message: str, values: dict[str, Any]) -> AccountRefused | None:
    """Upload the same lines again: the first time at once, then after growing pauses."""
    if shard.waits + 1 >= MAX_LOST_FILES:
        # The next command counts from zero.
        values["waits"] = 0
        return files_are_lost(message)
    values["waits"] = shard.waits + 1
    if shard.waits:
        values["not_before"] = context.clock() + pause_seconds(context, shard.waits - 1)
    return None


def _wait_for_room(
    connection: Connection,
    context: StepContext,
    shard: Shard,
    message: str,
    values: dict[str, Any],
) -> AccountRefused | None:
    """Wait for our own batches to end, or cut smaller without any; a single request ends the command after ``MAX_WAITS``."""
    is_alone = shards.open_count(connection, shard.workload_id, at_most=2) <= 1
    if is_alone and shard.line_count == 1 and shard.waits >= MAX_WAITS:
        return no_room(message, context.provider.dialect.hints)
    values["not_before"] = context.clock() + wait_seconds(context, shard.waits)
    values["waits"] = shard.waits + 1
    if is_alone:
        values["next_lines"] = max(shard.line_count // 2, 1)
    return None


def account_refused(
    connection: Connection, shard: Shard, message: str, *, hints: Hints, at: float
) -> AccountRefused | None:
    """Return the error that ends the command after a refusal of the account in an output line or at the end of a batch.

    None when such a refusal already ended a command after the shard was sent: a batch that ran before the account was fixed
    proves nothing about the account now.
    """
    is_known = events.happened_since(
        connection, shard.workload_id, _ACCOUNT_REFUSED, shard_id=shard.id, since=_SUBMITTED
    )
    if is_known:
        return None
    events.record(connection, shard.workload_id, _ACCOUNT_REFUSED, at=at, shard_id=shard.id, detail=message)
    return AccountRefused(
        f"the provider refuses what this account sends: {message}",
        status=HTTPStatus.FORBIDDEN,
        hint=f"the requests that it refused were not executed and are not failed; {hints.account}",
    )
