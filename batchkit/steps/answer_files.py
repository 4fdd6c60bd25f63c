"""The files with the answers of an ended batch: fetched from the provider, or kept in the spool when the user gave them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchkit.errors import AccountRefused, NotFound, ProviderError, StateConflict
from batchkit.files.spool import sha256_of
from batchkit.models import IMPORTED, BatchStatus, Download, FileId, ShardState
from batchkit.steps.context import StepReport
from batchkit.steps.refusal import pause_seconds, postpone
from batchkit.store import batches, shards

if TYPE_CHECKING:
    from batchkit.models import Batch, Shard, ShardId, Workload
    from batchkit.steps.context import StepContext

#: How often a file that should exist is probed, with growing pauses, before it counts as gone. Giving it up means paying for
#: its answers again.
_MOST_PROBES = 5


@dataclass(frozen=True, slots=True)
class ShardFiles:
    """A shard with the downloaded files of its batch; None where the batch has none."""

    shard: Shard
    batch: Batch
    output: Download | None
    error: Download | None


def fetch(context: StepContext, workload: Workload, shard_id: ShardId) -> ShardFiles | StepReport:
    """Return the files of a shard's batch, or a report of why they have to wait."""
    try:
        return _fetch_now(context, workload, shard_id)
    except StateConflict:
        return StepReport({"taken over": 1})


def _fetch_now(context: StepContext, workload: Workload, shard_id: ShardId) -> ShardFiles | StepReport:
    with context.store.read() as connection:
        shard = shards.get(connection, shard_id)
        if shard.state is not ShardState.ENDED or shard.batch_id is None:
            raise StateConflict(f"shard {shard.number} is {shard.state}: there is nothing to merge")
        batch = batches.get(connection, shard.batch_id)
    if batch.status == IMPORTED:
        return ShardFiles(
            shard,
            batch,
            _imported(context, workload, shard, "output", batch.output_file_id),
            _imported(context, workload, shard, "error", batch.error_file_id),
        )
    try:
        if hides_a_file(batch) and shard.refusals < _MOST_PROBES:
            batch = context.provider.get_batch(batch.id)
            with context.store.write() as connection:
                batches.see(connection, batch, seen_at=context.clock())
            if hides_a_file(batch):
                postpone(context, shard, pause_seconds(context, shard.refusals), refused=True)
                return StepReport({"postponed": 1}, (f"batch {batch.id} has answers but names no file for them (yet)",))
        return ShardFiles(
            shard,
            batch,
            _fetch_file(context, workload, shard, "output", batch.output_file_id),
            _fetch_file(context, workload, shard, "error", batch.error_file_id),
        )
    except AccountRefused:
        raise
    except NotFound as error:
        postpone(context, shard, pause_seconds(context, shard.refusals), refused=True)
        return StepReport({"postponed": 1}, (f"a file of batch {batch.id} is not there (yet): {error}",))
    except ProviderError as error:
        postpone(context, shard, pause_seconds(context))
        note = f"batch {batch.id} cannot be fetched now: {error}"
        return context.outage(error, counts={"postponed": 1}, notes=(note,))


def hides_a_file(batch: Batch) -> bool:
    """Return whether there are answers but no file id for them: file ids may appear later than the end of the batch."""
    if batch.status == BatchStatus.COMPLETED and batch.output_file_id is None and batch.error_file_id is None:
        return True
    return bool(
        (batch.counts.completed and batch.output_file_id is None)
        or (batch.counts.failed and batch.error_file_id is None)
    )


def _fetch_file(
    context: StepContext, workload: Workload, shard: Shard, kind: str, file_id: FileId | None
) -> Download | None:
    """Return one file, downloaded unless it is here already. After ``_MOST_PROBES`` without it the file is gone: None."""
    if file_id is None:
        return None
    path = context.spool.path(answers_path(workload, shard.key, kind))
    if path.is_file():
        return Download(path, path.stat().st_size, sha256_of(path))
    try:
        with context.fetches.transferring():
            return context.provider.download_file(file_id, path)
    except NotFound:
        if shard.refusals < _MOST_PROBES:
            raise
        return None


def answers_path(workload: Workload, key: str, kind: str) -> str:
    """Return the path in the spool of a shard's downloaded ``output`` or ``error`` file."""
    return f"{workload.directory}/answers/{key}.{kind}.jsonl"


def _imported(
    context: StepContext, workload: Workload, shard: Shard, kind: str, file_id: FileId | None
) -> Download | None:
    """Return a file of answers that the user gave. Raises ``SpoolError`` when it is lost."""
    if file_id is None:
        return None
    path = context.spool.kept(answers_path(workload, shard.key, kind))
    return Download(path, path.stat().st_size, sha256_of(path))
