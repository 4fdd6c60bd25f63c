"""submit: planned shards are uploaded, uploaded ones become batches. A batch is created at most once per shard.

Before the one call that buys anything, the intent is committed; what is not known afterwards is left to ``settle``.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from batchkit.errors import (
    AccountRefused,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    ProviderRefused,
    ProviderUnreachable,
    RateLimited,
    SpoolError,
    StateConflict,
    TooLarge,
)
from batchkit.lifecycle import is_capacity_refusal
from batchkit.models import ShardState
from batchkit.steps.adopt import adopt
from batchkit.steps.context import StepReport
from batchkit.steps.refusal import MAX_WAITS, pause_seconds, postpone, step_aside, wait_seconds, withdraw
from batchkit.store import shards, workloads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.models import Shard, ShardId, Workload, WorkloadId
    from batchkit.steps.context import StepContext

#: After this many refusals for a missing input file, the file is uploaded again.
_MISSING_FILE_PATIENCE = 4
#: How often a batch is looked for within the time that it may stay out of the list.
LOOKS_PER_SETTLE = 6


def metadata_of(workload: Workload, shard: Shard) -> dict[str, str]:
    """What travels with a batch so that it can be found again: no secret, and ``key`` is ours alone."""
    return {"batchkit_workload": workload.name[:64], "batchkit_shard": str(shard.number), "batchkit_key": shard.key}


def remote_filename(workload: Workload, shard: Shard) -> str:
    """Name the uploaded file so that a person and ``clean`` can tell whose it is."""
    return f"batchkit-{workload.directory}-{shard.number:06d}.jsonl"


def submit(context: StepContext, workload_id: WorkloadId, shard_ids: Sequence[ShardId]) -> StepReport:
    """Bring claimed shards as far as they go; what cannot go now is given back with a time to try again.

    Raises ``AccountRefused`` (after the transfers under way have ended), which concern every shard.
    """
    with context.store.read() as connection:
        workload = workloads.get(connection, workload_id)
    stop = threading.Event()

    def one(shard_id: ShardId) -> StepReport:
        if stop.is_set() or context.stopping.is_set():
            _give_back(context, shard_id)
            return StepReport({})
        try:
            return _submit_one(context, workload, shard_id)
        except StateConflict:
            with context.store.read() as connection:
                shard = shards.get(connection, shard_id)
            step_aside(context, shard)
            return StepReport({"taken over": 1})
        except (AccountRefused, SpoolError):
            stop.set()
            _give_back(context, shard_id)
            raise

    with ThreadPoolExecutor(context.transfers, thread_name_prefix="batchkit-submit") as pool:
        futures = [pool.submit(one, shard_id) for shard_id in shard_ids]
        try:
            return sum((future.result() for future in futures), StepReport({}))
        except BaseException:
            stop.set()
            raise


def _give_back(context: StepContext, shard_id: ShardId) -> None:
    with context.store.write() as connection:
        shards.release(connection, context.owner, [shard_id])


def _submit_one(context: StepContext, workload: Workload, shard_id: ShardId) -> StepReport:
    with context.store.read() as connection:
        shard = shards.get(connection, shard_id)
    report = StepReport({})
    if shard.state is ShardState.PLANNED:
        report += _upload(context, workload, shard)
        with context.store.read() as connection:
            shard = shards.get(connection, shard_id)
    if shard.state is ShardState.UPLOADED and not report.outage:
        report += _create(context, workload, shard)
    return report


def _upload(context: StepContext, workload: Workload, shard: Shard) -> StepReport:
    try:
        with context.spool.reading(shard) as path:
            remote = context.provider.upload_file(path, remote_filename(workload, shard))
    except AccountRefused:
        raise
    except RateLimited as error:
        return _wait_for_room(context, shard, error.retry_after_seconds, error)
    except TooLarge as error:
        withdraw(context, shard, code="file_too_large", message=str(error), status_code=error.status, is_too_large=True)
        return StepReport({"cut smaller": 1}, (f"shard {shard.number}: the provider takes no file that large",))
    except ProviderRefused as error:
        return _refused(context, shard, error)
    except ProviderError as error:
        postpone(context, shard, pause_seconds(context))
        return StepReport({"postponed": 1}, outage=str(error))
    with context.store.write() as connection:
        shards.transition(
            connection,
            shard,
            ShardState.UPLOADED,
            at=context.clock(),
            owner=context.owner,
            detail=remote.id,
            keep_lease=True,
            input_file_id=remote.id,
            refusals=0,
        )
    return StepReport({"uploaded": 1})


def _create(context: StepContext, workload: Workload, shard: Shard) -> StepReport:
    file_id = shard.input_file_id
    if file_id is None:
        raise StateConflict(f"shard {shard.number} has no input file")
    with context.store.write() as connection:
        since = context.clock()
        shards.transition(
            connection,
            shard,
            ShardState.SUBMITTING,
            at=since,
            owner=context.owner,
            detail=file_id,
            keep_lease=True,
            submitting_since=since,
            looks=0,
            not_before=since + context.timing.settle_seconds / LOOKS_PER_SETTLE,
        )
        shard = shards.get(connection, shard.id)
    try:
        batch = context.provider.create_batch(
            input_file_id=file_id,
            endpoint=shard.endpoint,
            window=shard.window,
            metadata=metadata_of(workload, shard),
            before_sending=lambda: _refuse_when_late(context, shard, since),
        )
    except OutcomeUnknown as error:
        _leave_to_settle(context, shard)
        note = f"shard {shard.number}: no answer to the creation of its batch, it will be looked for ({error})"
        return StepReport({"to be settled": 1}, (note,))
    except ProviderError as error:
        return _not_created(context, workload, shard, error)
    return adopt(context, shard, batch, detail=batch.id, count="submitted")


def _refuse_when_late(context: StepContext, shard: Shard, since: float) -> None:
    """Raise ``StateConflict`` when this process was stopped since it said that it would send.

    By then another one may have settled that no batch exists.
    """
    if not 0 <= context.clock() - since <= context.timing.settle_seconds / 2:
        raise StateConflict(f"shard {shard.number} was left for too long before it was sent")


def _leave_to_settle(context: StepContext, shard: Shard) -> None:
    """Start the grace period now: the provider may have been at work on the request until its answer was given up."""
    now = context.clock()
    with context.store.write() as connection:
        shards.set_values(
            connection,
            shard,
            owner=context.owner,
            submitting_since=now,
            looks=0,
            not_before=now + context.timing.settle_seconds / LOOKS_PER_SETTLE,
            lease_owner=None,
            lease_until=None,
        )


def _not_created(context: StepContext, workload: Workload, shard: Shard, error: ProviderError) -> StepReport:
    """The provider certainly has no batch: go back to ``uploaded`` first, then decide what the refusal asks for."""
    with context.store.write() as connection:
        shards.transition(
            connection,
            shard,
            ShardState.UPLOADED,
            at=context.clock(),
            owner=context.owner,
            detail=str(error)[:500],
            keep_lease=True,
        )
        shard = shards.get(connection, shard.id)
    if isinstance(error, AccountRefused):
        raise error
    if isinstance(error, ProviderUnreachable):
        postpone(context, shard, pause_seconds(context))
        return StepReport({"postponed": 1}, outage=str(error))
    if isinstance(error, RateLimited):
        return _wait_for_room(context, shard, error.retry_after_seconds, error)
    if not isinstance(error, ProviderRefused):
        raise error
    if isinstance(error, NotFound) or error.param == "input_file_id":
        return _file_not_visible(context, shard, error)
    if error.param == "completion_window" and shard.window != workload.window:
        with context.store.write() as connection:
            shards.set_values(connection, shard, owner=context.owner, completion_window=workload.window)
        postpone(context, shard, 0)
        return StepReport(
            {}, (f"shard {shard.number}: a window of {shard.window} was refused, back to {workload.window}",)
        )
    return _refused(context, shard, error)


def _file_not_visible(context: StepContext, shard: Shard, error: ProviderRefused) -> StepReport:
    """A fresh upload may take a moment to be seen; one that stays unseen is uploaded again."""
    if shard.refusals < _MISSING_FILE_PATIENCE:
        postpone(context, shard, pause_seconds(context, shard.refusals), refused=True)
        return StepReport({"postponed": 1})
    with context.store.write() as connection:
        shards.transition(
            connection,
            shard,
            ShardState.PLANNED,
            at=context.clock(),
            owner=context.owner,
            detail=str(error)[:500],
            input_file_id=None,
            not_before=context.clock() + pause_seconds(context),
        )
    return StepReport(
        {"postponed": 1}, (f"shard {shard.number}: its file is gone at the provider, it is uploaded again",)
    )


def _wait_for_room(context: StepContext, shard: Shard, seconds: float | None, error: ProviderError) -> StepReport:
    """Asked to wait: that is not an attempt."""
    postpone(context, shard, wait_seconds(context, shard.refusals) if seconds is None else seconds, refused=True)
    return StepReport({"postponed": 1}, (f"the provider asks to wait: {error}",))


def _refused(context: StepContext, shard: Shard, error: ProviderRefused) -> StepReport:
    """A refusal of this shard: for want of room it waits, for any other reason it is tried a few times, then withdrawn."""
    patient = is_capacity_refusal(error.code, str(error))
    if shard.refusals < (MAX_WAITS if patient else 2):
        postpone(context, shard, wait_seconds(context, shard.refusals), refused=True)
        return StepReport({"postponed": 1}, (f"shard {shard.number} was refused: {error}",))
    withdraw(context, shard, code=error.code or f"http_{error.status}", message=str(error), status_code=error.status)
    return StepReport({"refused": 1}, (f"shard {shard.number} was refused for good: {error}",))
