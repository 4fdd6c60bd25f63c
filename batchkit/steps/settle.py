"""settle: find out whether a batch exists whose creation was never answered, by scanning the list, never by sending again.

A provider that filters its list by input files is asked for those of the lost creations only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit import formatting
from batchkit.errors import (
    AccountRefused,
    BatchIdTaken,
    ListingIncomplete,
    ProviderError,
    ProviderRefused,
    StateConflict,
    Unauthorized,
)
from batchkit.models import ShardState
from batchkit.steps.attach import attach, cancel_surplus
from batchkit.steps.context import StepReport
from batchkit.steps.isolation import is_of_one_shard, leave_for_later
from batchkit.steps.refusal import step_aside
from batchkit.steps.submit import SCANS_PER_SETTLE
from batchkit.store import events, shard_leases, shards

if TYPE_CHECKING:
    from batchkit.models import Batch, Shard, WorkloadId
    from batchkit.steps.context import StepContext

#: How many complete scans of the list must lack a batch, however much time has passed (a laptop may have slept).
LEAST_LIST_SCANS = 4

_SHARDS_PER_SCAN = 10_000
_TAKEN_OVER = "taken over"


def settle(context: StepContext, workload_id: WorkloadId) -> StepReport:
    """Search for the batches of all due shards in ``submitting`` with one scan of the list.

    A batch with our key in its metadata, or with our input file, is adopted. When ``LEAST_LIST_SCANS`` complete scans lack it,
    the last one begun after the grace period, no batch exists, and the shard goes back to ``uploaded``. Otherwise the shard waits
    for the next scan.
    """
    lost = _claim_due(context, workload_id)
    if not lost:
        return StepReport({})
    try:
        report, without_batch = _scan_list(context, lost)
        if without_batch:
            report += _go_back(context, without_batch)
    except AccountRefused:
        with context.store.write() as connection:
            shard_leases.release(connection, context.owner, [shard.id for shard in lost])
        raise
    except ProviderError as error:
        for shard in lost:
            step_aside(context, shard)
        creations = formatting.counted(len(lost), "batch creation")
        was = "was" if len(lost) == 1 else "were"
        what = f"{creations} {was} not answered, and the list of batches cannot be read"
        return context.outage(error, what=what, counts={"unsettled": len(lost)})
    return report


def _claim_due(context: StepContext, workload_id: WorkloadId) -> list[Shard]:
    """Claim the due shards. If the last holder did not record how its request ended, the grace period starts again.

    That holder may be a process that was stopped just before it sent, and may continue at any time.
    """
    now = context.clock()
    with context.store.write() as connection:
        for shard_id, holder in shard_leases.take_over_submitting(
            connection, workload_id, owner=context.owner, now=now
        ):
            if holder != context.owner:
                events.record(connection, workload_id, _TAKEN_OVER, at=now, shard_id=shard_id, detail="submitting")
        return shard_leases.claim(
            connection,
            workload_id,
            ShardState.SUBMITTING,
            owner=context.owner,
            now=now,
            lease_seconds=context.timing.lease_seconds,
            limit=_SHARDS_PER_SCAN,
        )


def _scan_list(context: StepContext, lost: list[Shard], *, by_file: bool = True) -> tuple[StepReport, list[Shard]]:
    """Scan the list, ``by_file`` where the provider has such a filter, and attach the batches that are found; return a report, and the shards that certainly have no batch."""
    began = context.clock()
    found = _batches_of(context, lost, by_file=by_file)
    report = StepReport({})
    without_batch: list[Shard] = []
    for shard in lost:
        own = [batch for batch in found.get(shard.key, ()) if batch.input_file_id in {None, shard.input_file_id}]
        surplus = [batch for batch in found.get(shard.key, ()) if batch not in own[:1]]
        grace_ends = (shard.submitting_since or 0.0) + context.timing.settle_seconds
        try:
            if own:
                adopted = attach(context, shard, own[0], detail=f"{own[0].id}, found in the list", count="adopted")
                note = f"shard {shard.number}: its batch {own[0].id} exists and was adopted"
                report += adopted + StepReport({}, (note,) if adopted.counts.get("adopted") else ())
            elif began < grace_ends or shard.list_scans + 1 < LEAST_LIST_SCANS:
                _scan_again(context, shard, grace_ends)
                report += StepReport({"unsettled": 1})
            else:
                without_batch.append(shard)
        except StateConflict:
            continue
        except BatchIdTaken as error:
            step_aside(context, shard)
            report += StepReport({}, refused=error)
            continue
        except Exception as error:
            if not is_of_one_shard(error):
                raise
            report += leave_for_later(context, shard.id, error, work="settling")
            continue
        for batch in surplus:
            if batch.metadata.get("batchkit_key") == shard.key and not batch.is_terminal:
                report += cancel_surplus(context, shard, batch)
    return report, without_batch


def _scan_again(context: StepContext, shard: Shard, grace_ends: float) -> None:
    """Count a scan without the batch, and give the shard back until the next scan."""
    now = context.clock()
    pause = context.timing.settle_seconds / SCANS_PER_SETTLE
    with context.store.write() as connection:
        shards.set_values(
            connection,
            shard,
            owner=context.owner,
            looks=shard.list_scans + 1,
            not_before=now + (min(pause, grace_ends - now) if now < grace_ends else pause),
            lease_owner=None,
            lease_until=None,
        )


def _batches_of(context: StepContext, lost: list[Shard], *, by_file: bool) -> dict[str, list[Batch]]:
    """Scan the list, or what the provider has of the shards' input files; return the batches by the keys of their lost shards, oldest first."""
    by_key = {shard.key for shard in lost}
    key_of_file = {shard.input_file_id: shard.key for shard in lost if shard.input_file_id is not None}
    found: dict[str, list[Batch]] = {}
    for batch in context.provider.list_batches(of_files=list(key_of_file) if by_file else ()):
        if context.stopping.is_set():
            raise ListingIncomplete("the list of batches was not read to its end: the command is stopping")
        key = batch.metadata.get("batchkit_key")
        if key not in by_key:
            key = key_of_file.get(batch.input_file_id) if batch.input_file_id is not None else None
        if key is not None:
            found.setdefault(key, []).append(batch)
    for several in found.values():
        several.sort(key=lambda batch: batch.created_at or 0)
    return found


def _go_back(context: StepContext, without_batch: list[Shard]) -> StepReport:
    """Make shards without a batch ready to be submitted again.

    If the last holder may be stopped just before it sends, the input file is deleted first: a late request with a deleted file
    buys nothing. Then the list is scanned once more.
    """
    with context.store.read() as connection:
        fenced = [
            shard for shard in without_batch if events.exists(connection, shard.workload_id, shard.id, _TAKEN_OVER)
        ]
    report = StepReport({})
    if fenced:
        for shard in fenced:
            _delete_input(context, shard)
        # A filter by files that are deleted need not find their batches.
        report, still_without_batch = _scan_list(context, fenced, by_file=False)
        without_batch = [shard for shard in without_batch if shard not in fenced or shard in still_without_batch]
    for shard in without_batch:
        try:
            _reopen(context, shard, upload_again=shard in fenced)
        except StateConflict:
            continue
        report += StepReport({"not created": 1}, (f"shard {shard.number}: no batch was created, it will be submitted",))
    return report


def _delete_input(context: StepContext, shard: Shard) -> None:
    if shard.input_file_id is None:
        return
    try:
        context.provider.delete_file(shard.input_file_id)
    except Unauthorized:
        raise
    except ProviderRefused:
        # When the provider keeps the file, the check just before sending and the cancellation of surplus batches remain.
        return


def _reopen(context: StepContext, shard: Shard, *, upload_again: bool) -> None:
    now = context.clock()
    with context.store.write() as connection:
        shards.transition(
            connection,
            shard,
            ShardState.UPLOADED,
            at=now,
            owner=context.owner,
            detail="no batch exists",
            not_before=0,
        )
        if upload_again:
            shard = shards.get(connection, shard.id)
            detail = "its file was deleted, so that no request that is still on its way becomes a batch"
            shards.transition(connection, shard, ShardState.PLANNED, at=now, detail=detail, input_file_id=None)
