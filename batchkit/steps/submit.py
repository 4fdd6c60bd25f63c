"""submit: upload planned shards and create batches of uploaded ones. A batch is created at most once per shard.

The intent is committed before the one call that buys anything; an unknown outcome is left to ``settle``.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING

from batchkit import formatting
from batchkit.errors import (
    AccountRefused,
    BatchIdTaken,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    ProviderRefused,
    ProviderUnreachable,
    RateLimited,
    StateConflict,
    TooLarge,
)
from batchkit.models import RefusalKind, ShardState
from batchkit.steps.attach import attach
from batchkit.steps.budgeting import reserve
from batchkit.steps.context import StepReport
from batchkit.steps.isolation import is_of_one_shard, leave_for_later
from batchkit.steps.refusal import (
    MAX_LOST_FILES,
    MAX_WAITS,
    asked_wait_seconds,
    cut_for_room,
    files_are_lost,
    no_room,
    pause_seconds,
    postpone,
    step_aside,
    wait_seconds,
    withdraw,
    withdraw_too_large,
)
from batchkit.store import shard_leases, shards, workloads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.models import Shard, ShardId, Workload, WorkloadId
    from batchkit.steps.context import StepContext

#: The code of a server without a batch API (OpenAI's code, which others use as well).
_NO_SUCH_ADDRESS = frozenset({"unknown_url"})
#: After this many refusals for a missing input file, the file is uploaded again.
_MISSING_FILE_RETRIES = 4
#: How often a shard that is refused because of its content is tried again before its requests are sent in halves.
_MOST_TRIES = 2
#: How many times the list is scanned for a batch within ``settle_seconds``, in which the list may lack it.
SCANS_PER_SETTLE = 6
_STILL_UPLOADING = "still uploading"
#: An upload that takes longer is left running, so that it does not hold up the wave and what comes after it.
_SLOW_SECONDS = 10.0


def metadata_of(workload: Workload, shard: Shard) -> dict[str, str]:
    """Return the metadata by which a batch can be found again: it holds no secret, and the key is unique."""
    return {"batchkit_workload": workload.name[:64], "batchkit_shard": str(shard.number), "batchkit_key": shard.key}


def remote_filename(workload: Workload, shard: Shard) -> str:
    """Return the name of the uploaded file; it shows people and ``clean`` whose file it is."""
    return f"batchkit-{workload.directory}-{shard.number:06d}.jsonl"


def submit(context: StepContext, workload_id: WorkloadId, shard_ids: Sequence[ShardId]) -> StepReport:
    """Upload claimed shards and create their batches; shards that have to wait are given back with a time for the next try.

    An upload that takes long is not waited for: it continues, and a later call for its shard creates the batch. Raises ``AccountRefused`` (after the running transfers have ended): it concerns every shard. Once the provider asks to
    wait, the shards of this call that were not sent yet wait as well.
    """
    with context.store.read() as connection:
        workload = workloads.get(connection, workload_id)
    stop = threading.Event()
    rest_waits_until: list[float] = []

    def one(shard_id: ShardId) -> StepReport:
        if stop.is_set() or context.stopping.is_set():
            _give_back(context, shard_id)
            return StepReport({})
        if rest_waits_until:
            _give_back(context, shard_id, not_before=rest_waits_until[0])
            return StepReport({"postponed": 1})
        try:
            report = _submit_one(context, workload, shard_id, stop)
        except StateConflict:
            with context.store.read() as connection:
                shard = shards.get(connection, shard_id)
            step_aside(context, shard)
            return StepReport({"taken over": 1})
        except BatchIdTaken as error:
            stop.set()
            _give_back(context, shard_id)
            return StepReport({}, refused=error)
        except Exception as error:
            if is_of_one_shard(error):
                return leave_for_later(context, shard_id, error, work="submitting")
            stop.set()
            _give_back(context, shard_id)
            raise
        if report.refused is not None:
            stop.set()
        if report.waits_until is not None:
            rest_waits_until.append(report.waits_until)
        context.failures.end(shard_id)
        return report

    with ThreadPoolExecutor(context.transfers, thread_name_prefix="batchkit-submit") as pool:
        futures = [pool.submit(one, shard_id) for shard_id in shard_ids]
        try:
            report = sum((future.result() for future in futures), StepReport({}))
        except BaseException:
            stop.set()
            raise
    if count := report.counts.get(_STILL_UPLOADING):
        report += StepReport({}, (f"{formatting.counted(count, 'slow upload')} still on the way",))
    return report


def _give_back(context: StepContext, shard_id: ShardId, *, not_before: float = 0.0) -> None:
    with context.store.write() as connection:
        # A creation may have been answered without the answer being stored: the grace period of the list starts again.
        shard_leases.leave_submitting(connection, context.owner, now=context.clock(), shard_ids=[shard_id])
        if not_before:
            shard_leases.delay(connection, context.owner, shard_id, not_before)
        shard_leases.release(connection, context.owner, [shard_id])


def _submit_one(context: StepContext, workload: Workload, shard_id: ShardId, stop: threading.Event) -> StepReport:
    with context.store.read() as connection:
        shard = shards.get(connection, shard_id)
    report = StepReport({})
    if shard.state is ShardState.PLANNED:
        held = reserve(context, workload, shard)
        if held is not None:
            return held
        uploading = context.uploads.begin(shard_id, partial(_upload, context, workload, shard))
        if not wait([uploading], timeout=_SLOW_SECONDS).done:
            return _leave_running(context, shard_id)
        report += uploading.result()
        with context.store.read() as connection:
            shard = shards.get(connection, shard_id)
    if shard.state is ShardState.UPLOADED and not report.outage:
        if stop.is_set():
            _give_back(context, shard_id)
            return report
        report += _create(context, workload, shard)
    return report


def _leave_running(context: StepContext, shard_id: ShardId) -> StepReport:
    """Keep the lease of a shard whose file is still being sent; it is due again a little later."""
    with context.store.write() as connection:
        shard_leases.delay(connection, context.owner, shard_id, context.clock() + _SLOW_SECONDS)
    return StepReport({_STILL_UPLOADING: 1})


def _upload(context: StepContext, workload: Workload, shard: Shard) -> StepReport:
    try:
        with context.spool.reading(shard) as path:
            remote = context.provider.upload_file(path, remote_filename(workload, shard))
    except AccountRefused:
        raise
    except RateLimited as error:
        return _wait_for_room(context, shard, error.retry_after_seconds, error)
    except TooLarge as error:
        withdraw_too_large(context, shard, message=str(error), status_code=error.status)
        return StepReport({"cut smaller": 1}, (f"shard {shard.number}: the provider takes no file that large",))
    except ProviderRefused as error:
        return _refused(context, shard, error)
    except ProviderError as error:
        postpone(context, shard, pause_seconds(context))
        return context.outage(error, counts={"postponed": 1})
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
            not_before=since + context.timing.settle_seconds / SCANS_PER_SETTLE,
        )
        shard = shards.get(connection, shard.id)
    try:
        batch = context.provider.create_batch(
            input_file_id=file_id,
            endpoint=shard.endpoint,
            window=shard.window,
            model=shard.model,
            metadata=metadata_of(workload, shard),
            before_sending=lambda: _refuse_when_late(context, shard, since),
        )
    except OutcomeUnknown as error:
        _leave_to_settle(context, shard)
        note = f"shard {shard.number}: no answer to the creation of its batch, it will be looked for ({error})"
        return StepReport({"to be settled": 1}, (note,))
    except ProviderError as error:
        return _not_created(context, workload, shard, error)
    return attach(context, shard, batch, detail=batch.id, count="submitted")


def _refuse_when_late(context: StepContext, shard: Shard, since: float) -> None:
    """Raise ``StateConflict`` when this process was stopped after it stored the intent to send.

    By then another process may have settled that no batch exists.
    """
    if not 0 <= context.clock() - since <= context.timing.settle_seconds / 2:
        raise StateConflict(f"shard {shard.number} was left for too long before it was sent")


def _leave_to_settle(context: StepContext, shard: Shard) -> None:
    """Start the grace period now: the provider may have worked on the request until we stopped waiting for its answer."""
    now = context.clock()
    with context.store.write() as connection:
        shards.set_values(
            connection,
            shard,
            owner=context.owner,
            submitting_since=now,
            looks=0,
            not_before=now + context.timing.settle_seconds / SCANS_PER_SETTLE,
            lease_owner=None,
            lease_until=None,
        )


def _not_created(context: StepContext, workload: Workload, shard: Shard, error: ProviderError) -> StepReport:
    """Handle a creation that certainly made no batch: go back to ``uploaded`` first, then act on the refusal."""
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
    if isinstance(error, AccountRefused) or (isinstance(error, ProviderRefused) and error.code in _NO_SUCH_ADDRESS):
        raise error
    if isinstance(error, ProviderUnreachable):
        postpone(context, shard, pause_seconds(context))
        return context.outage(error, counts={"postponed": 1})
    if isinstance(error, RateLimited):
        return _wait_for_room(context, shard, error.retry_after_seconds, error)
    if not isinstance(error, ProviderRefused):
        raise error
    if isinstance(error, NotFound) or _kind(context, error) is RefusalKind.LOST_FILE:
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
    """Wait for a new upload to become visible; after some tries upload again, ``MAX_LOST_FILES`` times in a row.

    After that the command ends: a lost file proves nothing against the lines.
    """
    if shard.refusals < _MISSING_FILE_RETRIES:
        postpone(context, shard, pause_seconds(context, shard.refusals), refused=True)
        return StepReport({"postponed": 1})
    is_last = shard.waits + 1 >= MAX_LOST_FILES
    with context.store.write() as connection:
        shards.transition(
            connection,
            shard,
            ShardState.PLANNED,
            at=context.clock(),
            owner=context.owner,
            detail=str(error)[:500],
            input_file_id=None,
            # The next command counts from zero.
            waits=0 if is_last else shard.waits + 1,
            not_before=0.0 if is_last else context.clock() + pause_seconds(context),
        )
    if is_last:
        return StepReport({"postponed": 1}, refused=files_are_lost(str(error)))
    return StepReport(
        {"postponed": 1}, (f"shard {shard.number}: its file is gone at the provider, it is uploaded again",)
    )


def _wait_for_room(context: StepContext, shard: Shard, seconds: float | None, error: ProviderError) -> StepReport:
    """Postpone a shard because the provider asks to wait; that is not an attempt."""
    wait = asked_wait_seconds(context, seconds, shard.waits)
    postpone(context, shard, wait, no_room=True)
    note = f"the provider asks to wait, the next try is in {wait:.0f} s: {error}"
    return StepReport({"postponed": 1}, (note,), waits_until=context.clock() + wait)


def _refused(context: StepContext, shard: Shard, error: ProviderRefused) -> StepReport:
    """Handle a refusal of this shard: without room it waits; for any other reason it is tried a few times, then withdrawn."""
    kind = _kind(context, error)
    if kind is RefusalKind.NO_ROOM:
        return _no_room(context, shard, error)
    if shard.refusals < _MOST_TRIES:
        postpone(context, shard, wait_seconds(context, shard.refusals), refused=True)
        return StepReport({"postponed": 1}, (f"shard {shard.number} was refused: {error}",))
    code = error.code or f"http_{error.status}"
    refused = withdraw(context, shard, kind, code=code, message=str(error), status_code=error.status)
    note = f"shard {shard.number} was refused permanently: {error}"
    return StepReport({"refused": 1}, (note,), refused=refused)


def _no_room(context: StepContext, shard: Shard, error: ProviderRefused) -> StepReport:
    """Handle a lack of room, which proves nothing against the lines: wait, then cut smaller; a single request ends the command."""
    if shard.waits < MAX_WAITS:
        postpone(context, shard, wait_seconds(context, shard.waits), no_room=True)
        return StepReport({"postponed": 1}, (f"shard {shard.number} was refused for want of room: {error}",))
    if shard.line_count > 1:
        cut_for_room(context, shard, message=str(error))
        return StepReport({"cut smaller": 1}, (f"shard {shard.number} finds no room; it is cut smaller",))
    postpone(context, shard, 0)
    return StepReport({"postponed": 1}, refused=no_room(str(error), context.provider.dialect.hints))


def _kind(context: StepContext, error: ProviderRefused) -> RefusalKind:
    return context.provider.refusal_kind(status=error.status, code=error.code, message=error.message, param=error.param)
