"""send: the requests of a shard one by one, over the ordinary endpoints, from ``planned`` to ``ended``.

The lane of the process sends in its own threads; a call of this step gives it shards, waits a little, and ends those shards whose
requests all have a line in the journal. A shard whose process died is ended with what its journal has: requests that were sent and
have no answer are in doubt, and those that were not sent are pending again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit import formatting
from batchkit.answers.file_answers import file_answer
from batchkit.errors import StateConflict
from batchkit.files.spool import disk_errors, part_of
from batchkit.models import ShardState
from batchkit.sending.journal import IN_DOUBT_CODE, Journal, copy_answers, error_line
from batchkit.sending.lane_shard import LaneShard
from batchkit.sending.media import answer_folder, answers_with_file, body_of_line
from batchkit.steps.answer_files import answers_path
from batchkit.steps.budgeting import reserve
from batchkit.steps.context import StepReport
from batchkit.store import requests, shard_leases, shards, workloads

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from batchkit.models import Shard, ShardId, Workload, WorkloadId
    from batchkit.sending.lane import SyncLane
    from batchkit.steps.context import StepContext

#: How long one call waits for a shard to be over.
_WAIT_SECONDS = 1.0
#: After a refusal of the account, or of a disk, calls under way get this long.
_GRACE_SECONDS = 30.0


def journal_path(context: StepContext, workload: Workload, key: str) -> Path:
    """Return the path of a shard's journal: on this machine, whatever the spool. Raises ``SpoolError``."""
    return context.spool.local(f"{workload.directory}/sent/{key}.jsonl")


def send(context: StepContext, workload_id: WorkloadId, shard_ids: Sequence[ShardId]) -> StepReport:
    """Send claimed shards, as far as this takes about a second, and end those that are over.

    Raises ``AccountRefused``, ``ConfigurationError`` and ``SpoolError``, when the calls under way have ended.
    """
    lane = context.lane()
    with context.store.read() as connection:
        workload = workloads.get(connection, workload_id)
        held = shard_leases.held_until(connection, shard_ids, owner=context.owner)
        found = [shards.get(connection, shard_id) for shard_id in held]
    report = StepReport({})
    is_ending = workload.cancel_requested_at is not None or workload.is_stopped_late(context.clock())
    for shard in found:
        if lane.holds(shard.id):
            lane.extend(shard.id, held[shard.id])
        elif shard.state is ShardState.PLANNED and not is_ending:
            report += _begin(context, lane, workload, shard, held[shard.id])
        elif shard.state is ShardState.SENDING:
            report += _conclude(context, workload, shard)
    mine = lane.of_workload(workload_id)
    lane.halt([shard.id for shard in mine if is_ending or shard.id not in held])
    lane.wait(workload_id, _WAIT_SECONDS, stopping=context.stopping)
    return report + _settle(context, lane, workload)


def _begin(context: StepContext, lane: SyncLane, workload: Workload, shard: Shard, valid_until: float) -> StepReport:
    try:
        held = reserve(context, workload, shard)
    except StateConflict:
        return StepReport({"taken over": 1})
    if held is not None:
        return held
    # The journal is there before the state says so: without it the shard was begun on another machine.
    journal = Journal(journal_path(context, workload, shard.key))
    try:
        with context.spool.reading(shard) as path:
            own = _local_copy(context, workload, shard, path)
            now = context.clock()
            with context.store.write() as connection:
                shards.transition(
                    connection,
                    shard,
                    ShardState.SENDING,
                    at=now,
                    owner=context.owner,
                    keep_lease=True,
                    submitting_since=now,
                )
    except StateConflict:
        journal.close()
        return StepReport({"taken over": 1})
    except BaseException:
        journal.close()
        raise
    folder_name = answer_folder(workload.directory, shard.key)
    folder = context.spool.local(f"{folder_name}/-").parent if answers_with_file(shard.endpoint) else None
    tiers = tuple((workload.tiers or "").split(",")) if workload.tiers else ()
    lane.begin(
        LaneShard(shard.id, workload.id, workload.directory, own, journal, tiers, valid_until, folder_name, folder)
    )
    return StepReport({"begun": 1})


def _local_copy(context: StepContext, workload: Workload, shard: Shard, path: Path) -> Path:
    """Return a path of the shard's file that stays while it is sent."""
    kept = context.spool.inside(shard.path or "")
    if path == kept:
        return path
    own = context.spool.local(f"{workload.directory}/sent/{shard.key}.requests.jsonl")
    with disk_errors("write", own):
        part_of(own).write_bytes(path.read_bytes())
        part_of(own).replace(own)
    return own


def _settle(context: StepContext, lane: SyncLane, workload: Workload) -> StepReport:
    """End the shards that are over, and store how many answers the others have. Raises the error that halted one."""
    report = StepReport({})
    mine = lane.of_workload(workload.id)
    error = next((shard.error for shard in mine if shard.error is not None), None)
    if error is not None:
        lane.halt([shard.id for shard in mine])
        for shard in mine:
            if not shard.is_over:
                lane.wait_over(shard.id, _GRACE_SECONDS)
        mine = [shard for shard in mine if shard.is_over]
    for one in mine:
        if one.is_over:
            report += _end(context, lane, workload, one)
    running = {one.id: one.answered for one in lane.of_workload(workload.id)}
    if running:
        with context.store.write() as connection:
            shards.set_answered(connection, running, owner=context.owner)
    if error is not None:
        raise error
    return report


def pauses(context: StepContext, lane: SyncLane) -> list[str]:
    """Return a sentence for each model that nothing is sent to, with the reason and the end."""
    now = context.clock()
    return [
        f"{model}: {reason}; nothing is sent to it before {formatting.when(until, now)}"
        for model, reason, until in lane.pauses()
    ]


def _end(context: StepContext, lane: SyncLane, workload: Workload, one: LaneShard) -> StepReport:
    lane.release(one.id)
    with context.store.read() as connection:
        shard = shards.get(connection, one.id)
        held = shard_leases.held_until(connection, [one.id], owner=context.owner)
    # Whoever took it over has stored its answers already: nothing of ours may replace them.
    if shard.state is not ShardState.SENDING or held.get(one.id, 0.0) <= context.clock():
        return StepReport({"taken over": 1})
    return _conclude(context, workload, shard)


def _conclude(context: StepContext, workload: Workload, shard: Shard) -> StepReport:
    """Store the answers of a shard's journal, and end it: what was sent without an answer is in doubt."""
    journal = journal_path(context, workload, shard.key)
    answers = context.spool.local(f"{workload.directory}/sent/{shard.key}.answers.jsonl")
    is_here = journal.is_file()
    with disk_errors("write", answers), answers.open("wb") as target:
        result = copy_answers(journal, target)
        doubts = result.in_doubt if is_here else _all_of(context, shard)
        why = (
            "its process ended before an answer was stored"
            if is_here
            else "its machine is gone, and the answers that it had with it"
        )
        for custom_id in doubts:
            target.write(error_line(custom_id, IN_DOUBT_CODE, f"it was sent, and {why}: it may have been paid for"))
    folder_name = answer_folder(workload.directory, shard.key)
    kept = _keep_files(context, folder_name, answers) if answers_with_file(shard.endpoint) else frozenset()
    context.spool.keep(answers, answers_path(workload, shard.key, "output"))
    try:
        with context.store.write() as connection:
            shards.transition(
                connection,
                shard,
                ShardState.ENDED,
                at=context.clock(),
                owner=context.owner,
                answered=result.answered,
                detail=f"{formatting.counted(len(doubts), 'request')} in doubt" if doubts else None,
            )
    except StateConflict:
        return StepReport({"taken over": 1})
    if answers_with_file(shard.endpoint):
        _sweep_files(context, folder_name, kept)
    for path in (journal, answers, answers.with_name(f"{shard.key}.requests.jsonl")):
        with disk_errors("delete", path):
            path.unlink(missing_ok=True)
    notes: tuple[str, ...] = ()
    if doubts:
        what = formatting.counted(len(doubts), "request")
        end = "the command" if is_here else "another machine"
        notes = (
            f"{what} of shard {shard.number} were in flight when {end} stopped: they may have been paid for twice",
        )
    return StepReport({"sent": 1, "in doubt": len(doubts)}, notes)


def _keep_files(context: StepContext, folder_name: str, answers: Path) -> frozenset[str]:
    """Keep the binary answers that output lines name, before the answers themselves; return the names of their files."""
    found: set[str] = set()
    with disk_errors("read", answers), answers.open("rb") as lines:
        for line in lines:
            file = file_answer(body_of_line(line))
            if file is not None and file.path.startswith(f"{folder_name}/"):
                found.add(file.path.rpartition("/")[2])
    for name in found:
        context.spool.keep_local(f"{folder_name}/{name}")
    return frozenset(found)


def _sweep_files(context: StepContext, folder_name: str, kept: frozenset[str]) -> None:
    """Delete the files of answers that no line names: the process died before it could."""
    folder = context.spool.local(f"{folder_name}/-").parent
    with disk_errors("delete the left-overs in", folder):
        for path in folder.iterdir():
            if path.name not in kept:
                path.unlink()


def _all_of(context: StepContext, shard: Shard) -> tuple[str, ...]:
    """Return the custom_ids of a shard as its file has them."""
    with context.store.read() as connection:
        return tuple(requests.shard_requests(connection, shard).custom_ids)
