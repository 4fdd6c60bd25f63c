"""clean: delete a finished workload's files in the spool and at the provider, and its rows unless they are kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from batchkit.answers.file_answers import AUDIO_FOLDER, FILE_ANSWERS, file_answer
from batchkit.errors import UsageError
from batchkit.models import IMPORTED, ShardState
from batchkit.sending.media import answer_folder, answers_with_file
from batchkit.steps.context import StepReport
from batchkit.store import batches, events, reuse, shards, workloads

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from batchkit.models import FileId, Shard, Workload
    from batchkit.steps.context import StepContext
    from batchkit.store.engine import Store


def is_local(store: Store, workload: Workload, *, with_adopted: bool) -> bool:
    """Return whether nothing is to be deleted at the provider: a workload of adopted batches of which nothing was sent again."""
    if workload.adopted_at is None or with_adopted:
        return False
    with store.read() as connection:
        return all(shard.is_adopted for shard in shards.in_states(connection, workload.id, tuple(ShardState)))


def clean(context: StepContext, workload: Workload, *, keep_results: bool, with_adopted: bool = False) -> StepReport:
    """Delete the workload's remote files, its spool folder, and its rows unless ``keep_results``.

    Binary answers are results: they stay with the rows. Files of adopted batches are not ours: they stay at the provider unless ``with_adopted``. Remote files are deleted first: while their ids are stored, the same command can be run again. Uploads whose ids were lost in
    a crash are found by their names. Raises ``UsageError`` while the workload is not finished, ``SpoolError`` and ``ProviderError``.
    """
    # Checked before anything is deleted.
    context.spool.inside(workload.directory)
    with context.store.read() as connection:
        counts = workloads.count_requests(connection, workload)
        if workload.request_count is not None and (
            counts.unresolved or shards.open_count(connection, workload.id, at_most=1)
        ):
            raise UsageError(
                f"workload {workload.name!r} has {counts.unresolved:,} unresolved requests",
                hint=f"finish it with `batchkit watch {workload.name}`, or `batchkit cancel {workload.name}` first",
            )
        every_shard = shards.in_states(connection, workload.id, tuple(ShardState))
        every_batch = batches.of_workload(connection, workload.id)
    ours = {shard.id for shard in every_shard if with_adopted or not shard.is_adopted}
    known = {shard.input_file_id for shard in every_shard if shard.id in ours}
    for shard_id, batch in every_batch:
        if shard_id in ours and batch.status != IMPORTED:
            known |= {batch.output_file_id, batch.error_file_id}
    file_ids = {file_id for file_id in known if file_id is not None}
    if ours or workload.adopted_at is None:
        file_ids |= _uploads_of(context, workload)
    with ThreadPoolExecutor(context.transfers, thread_name_prefix="batchkit-clean") as pool:
        list(pool.map(context.provider.delete_file, sorted(file_ids)))
    freed = context.spool.remove_tree(workload.directory)
    with context.store.write() as connection:
        if keep_results:
            shards.mark_cleaned(connection, workload.id, at=context.clock())
            events.record(connection, workload.id, "cleaned", at=context.clock(), detail=f"{len(file_ids)} files")
        else:
            freed += _remove(context, connection, workload, every_shard)
    return StepReport({"remote files deleted": len(file_ids), "bytes freed": freed})


def _remove(context: StepContext, connection: Connection, workload: Workload, every_shard: list[Shard]) -> int:
    """Remove a workload's rows and its binary answers; those of a shard stay while another workload has reused one of them.

    Returns the freed bytes. The files go before the rows are committed: while these are there, the same command can be run again.
    """
    folders = {
        shard.id: answer_folder(workload.directory, shard.key)
        for shard in every_shard
        if answers_with_file(shard.endpoint)
    }
    is_whole = bool(folders)
    for shard_id, body in reuse.borrowed(connection, workload.id, like=FILE_ANSWERS).items():
        answer = file_answer(body.encode())
        if answer is not None:
            folders[shard_id] = answer.path.rpartition("/")[0]
    workloads.remove(connection, workload.id)
    kept = reuse.shards_with_answers(connection, folders)
    gone = {folder for shard_id, folder in folders.items() if shard_id not in kept}
    own = f"{AUDIO_FOLDER}/{workload.directory}"
    if is_whole and not any(folders[shard_id].startswith(f"{own}/") for shard_id in kept):
        gone = {own, *(folder for folder in gone if not folder.startswith(f"{own}/"))}
    return sum(map(context.spool.remove_tree, sorted(gone)))


def _uploads_of(context: StepContext, workload: Workload) -> set[FileId]:
    prefix = f"batchkit-{workload.directory}-"
    return {remote.id for remote in context.provider.list_files() if remote.filename.startswith(prefix)}
