"""merge: fetch the files of an ended batch and decide every request of its shard, in one transaction.

A torn file proves no missing answer: it is fetched again before any request is sent again.
"""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from batchkit import models
from batchkit.answers.rules import check_for
from batchkit.errors import RowsHeld, StateConflict
from batchkit.models import IMPORTED, SENT, BatchStatus, Lane, OutcomeKind, ShardState
from batchkit.sending.journal import IN_DOUBT_CODE, NO_ANSWER_CODE
from batchkit.sharding import smaller_shard
from batchkit.steps import merge_notes
from batchkit.steps.answer_files import ShardFiles, fetch
from batchkit.steps.answers import AnswerReader, ShardAnswers
from batchkit.steps.budgeting import settled
from batchkit.steps.context import StepReport
from batchkit.steps.failed_batch import account_refused, settle_failed_batch
from batchkit.steps.isolation import is_of_one_shard, leave_for_later
from batchkit.steps.named_lines import named_requests
from batchkit.steps.refusal import step_aside
from batchkit.store import batches, placements, requests, reuse, shard_leases, shards, workloads
from batchkit.store.bulk import bulk_for
from batchkit.store.engine import keeps_alive

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from concurrent.futures import Future

    from sqlalchemy.engine import Connection

    from batchkit.lifecycle import LineCodes
    from batchkit.models import Batch, OutputLine, Shard, ShardId, Workload, WorkloadId
    from batchkit.sharding import Windows
    from batchkit.steps.context import StepContext

#: The statuses of answers that no provider is asked for.
_WITHOUT_PROVIDER = (IMPORTED, SENT)
_DOUBTFUL = {IN_DOUBT_CODE: OutcomeKind.IN_DOUBT, NO_ANSWER_CODE: OutcomeKind.NO_ANSWER}
#: How often a file that seems torn is fetched before its content is accepted.
_FETCHES = 3
#: When no file has arrived for this long, the call ends without the files that are still being fetched.
_SLOW_SECONDS = 10.0
#: After so many shards in a row whose rows another session holds, the others are not tried in this call.
_MOST_HELD = 2


class _TornError(Exception):
    """The files hold less than they should; the transaction is rolled back."""


def merge(context: StepContext, workload_id: WorkloadId, shard_ids: Sequence[ShardId]) -> StepReport:
    """Merge claimed shards: fetch files in parallel, and merge each shard when its files are complete.

    A file that takes far longer than the others is not waited for: its transfer continues, and a later call for its shard
    uses it. While another session holds the rows, only a few shards wait for it. Raises ``AccountRefused`` and ``SpoolError``; after other errors the shard is tried again later.
    """
    with context.store.read() as connection:
        workload = workloads.get(connection, workload_id)
    report = StepReport({})
    held = 0
    coming: dict[Future[ShardFiles | StepReport], ShardId] = {
        context.fetches.begin(shard_id, partial(fetch, context, workload, shard_id)): shard_id for shard_id in shard_ids
    }
    while coming and not context.stopping.is_set():
        arrived, _ = wait(coming, timeout=_SLOW_SECONDS, return_when=FIRST_COMPLETED)
        if not arrived:
            count = len(coming)
            noun = "file is" if count == 1 else "files are"
            _keep(context, coming.values())
            return report + StepReport({"still fetching": count}, (f"{count} slow {noun} still on the way",))
        for future in arrived:
            if context.stopping.is_set():
                break
            merged = _merge_fetched(context, workload, coming.pop(future), future)
            held = held + 1 if isinstance(merged.error, RowsHeld) else 0
            report += merged
            if held == _MOST_HELD and coming:
                # Each would wait for the same session: the user hears of it first.
                _keep(context, coming.values())
                return report + StepReport({"postponed": len(coming)})
    return report


def _keep(context: StepContext, shard_ids: Iterable[ShardId]) -> None:
    """Keep the leases of shards whose files may still be on the way; they are due again a little later."""
    with context.store.write() as connection:
        for shard_id in shard_ids:
            shard_leases.delay(connection, context.owner, shard_id, context.clock() + _SLOW_SECONDS)


def _merge_fetched(
    context: StepContext, workload: Workload, shard_id: ShardId, future: Future[ShardFiles | StepReport]
) -> StepReport:
    try:
        fetched = future.result()
        report = fetched if isinstance(fetched, StepReport) else _merge_whole(context, workload, fetched)
    except Exception as error:
        if not is_of_one_shard(error):
            raise
        return leave_for_later(context, shard_id, error, work="merging")
    context.failures.end(shard_id)
    return report


def _merge_whole(context: StepContext, workload: Workload, fetched: ShardFiles) -> StepReport:
    """Merge, and fetch again while the files seem torn."""
    for number in range(_FETCHES):
        try:
            is_last = number == _FETCHES - 1 or fetched.batch.status in _WITHOUT_PROVIDER
            report = _merge_once(context, workload, fetched, accept=is_last)
        except StateConflict:
            step_aside(context, fetched.shard)
            return StepReport({"taken over": 1})
        except _TornError:
            for download in (fetched.output, fetched.error):
                if download is not None:
                    download.path.unlink(missing_ok=True)
        else:
            for download in (fetched.output, fetched.error):
                if download is not None:
                    context.spool.done_with(download.path)
            return report
        again = context.fetches.begin(fetched.shard.id, partial(fetch, context, workload, fetched.shard.id)).result()
        if isinstance(again, StepReport):
            return again
        fetched = again
    raise AssertionError("the last fetch is accepted")


def _merge_once(context: StepContext, workload: Workload, fetched: ShardFiles, *, accept: bool) -> StepReport:
    """Merge one shard in one transaction. Raises ``_TornError``, with nothing written, for torn files unless ``accept``."""
    shard, batch = fetched.shard, fetched.batch
    now = context.clock()
    with context.store.write() as connection:
        if workload.adopted_at is not None:
            workloads.lock(connection, workload.id)
        workload = workloads.get(connection, workload.id)
        if shard.is_adopted:
            placements.take_over(connection, shard)
            shard = shards.get(connection, shard.id)
            fetched = replace(fetched, shard=shard)
        # What was never known cannot be sent again.
        holding = workload.holds or shard.path is None
        answers = None
        never_ran = batch.status == BatchStatus.FAILED and fetched.output is None and fetched.error is None
        if never_ran:
            values, report = settle_failed_batch(connection, context, workload, shard, batch, holding=holding)
        else:
            answers = _read_answers(connection, context, workload, fetched, holding=holding)
            is_torn = _seems_torn(answers, fetched)
            if is_torn and not accept:
                raise _TornError
            windows = context.provider.dialect.windows
            values, report = _store(connection, workload, shard, batch, answers, windows=windows)
            if answers.account_refusal is not None and not holding:
                hints = context.provider.dialect.hints
                refused = account_refused(connection, shard, answers.account_refusal, hints=hints, at=now)
                report += StepReport({}, refused=refused)
            if fetched.lost and answers.unmentioned:
                days = context.provider.dialect.retention.output_days
                note = merge_notes.on_lost(workload, batch, fetched.lost, answers, days=days, holding=holding)
                report += StepReport({}, (note,))
            if is_torn:
                report += StepReport({}, (merge_notes.on_torn(batch, answers, fetches=_FETCHES),))
        if shard.is_adopted:
            values["failed"] -= placements.hand_over(connection, shard)
        shards.transition(
            connection,
            shard,
            ShardState.MERGED,
            at=now,
            owner=context.owner,
            detail=_summary(report),
            merged_at=now,
            **values,
            **settled(workload.provider, shard, answers),
        )
        batches.set_values(
            connection,
            batch.id,
            output_sha256=fetched.output.sha256 if fetched.output else None,
            error_sha256=fetched.error.sha256 if fetched.error else None,
        )
        context.merged(connection, workload.id)
    return report


def _read_answers(
    connection: Connection, context: StepContext, workload: Workload, fetched: ShardFiles, *, holding: bool
) -> ShardAnswers:
    def is_of_the_account(line: OutputLine) -> bool:
        return context.provider.is_account_refusal(
            status=line.status_code, code=line.error_code, message=line.error_message
        )

    batch = fetched.batch
    is_cut_off = workload.drain_since is not None and batch.status == BatchStatus.CANCELLED
    is_cut_off = is_cut_off and workload.cancel_requested_at is None
    reader = AnswerReader(
        requests.shard_requests(connection, fetched.shard),
        shard=fetched.shard,
        bulk=bulk_for(connection),
        policy=workload.policy,
        codes=_codes(context, fetched.shard, is_cut_off=is_cut_off),
        cancelling=workload.cancel_requested_at is not None,
        holding=holding,
        elsewhere=placements.known_ids(connection, fetched.shard) if fetched.shard.is_adopted else (),
        check=None if workload.answer_rules is None else check_for(workload.answer_rules),
        is_of_the_account=is_of_the_account,
        keep_alive=keeps_alive(connection),
    )
    for download in (fetched.output, fetched.error):
        if download is not None:
            reader.read(download.path)
    named = named_requests(connection, context, fetched.shard, fetched.batch)
    return reader.conclude(
        unanswered=OutcomeKind.UNSENT if is_cut_off else _outcome_of_silence(batch),
        vanished=fetched.lost is not None,
        named={place: problem for place, _, problem in named},
    )


def _codes(context: StepContext, shard: Shard, *, is_cut_off: bool) -> LineCodes:
    codes = context.provider.dialect.codes
    if is_cut_off:
        # We cancelled it to keep the deadline: that proves nothing about its requests.
        return replace(codes, own=dict.fromkeys(codes.cancelled, OutcomeKind.UNSENT))
    return codes if shard.lane is Lane.BATCH else replace(codes, own=_DOUBTFUL)


def _outcome_of_silence(batch: Batch) -> OutcomeKind:
    """Return the outcome of a request that the files of its batch do not mention."""
    match batch.status:
        case BatchStatus.EXPIRED:
            return OutcomeKind.EXPIRED
        case BatchStatus.CANCELLED:
            return OutcomeKind.CANCELLED
        case models.SENT:
            return OutcomeKind.UNSENT
        case _:
            return OutcomeKind.MISSING


def _seems_torn(answers: ShardAnswers, fetched: ShardFiles) -> bool:
    """Return whether a file may lack its end: it stops in mid-line, or has fewer lines than the batch counted or the shard expects.

    A batch that ended early may not mention requests that it did not reach; its counts then show how many it did.
    """
    if fetched.output is None and fetched.error is None:
        return False
    counts = fetched.batch.counts
    if fetched.batch.status in _WITHOUT_PROVIDER:
        return answers.ends_torn
    if answers.ends_torn or answers.lines < counts.completed + counts.failed:
        return True
    may_be_silent = _outcome_of_silence(fetched.batch) is not OutcomeKind.MISSING and counts.total > 0
    return answers.unmentioned > 0 and not may_be_silent


def _store(
    connection: Connection,
    workload: Workload,
    shard: Shard,
    batch: Batch,
    answers: ShardAnswers,
    *,
    windows: Windows,
) -> tuple[dict[str, Any], StepReport]:
    bulk = bulk_for(connection)
    bulk.set_states(workload.id, answers.states)
    if requests.mark_succeeded(connection, shard) != answers.succeeded:
        raise StateConflict(f"the requests of shard {shard.number} changed while it was merged")
    bulk.add_successes(workload.id, shard.id, answers.successes)
    bulk.add_results(answers.results)
    bulk.add_attempts(answers.attempts)
    followers = 0
    if workload.repeated_requests:
        followers = reuse.settle_followers(connection, workload.id, first_seq=shard.first_seq, last_seq=shard.last_seq)
    values: dict[str, Any] = {
        "succeeded": answers.succeeded,
        "failed": answers.failed,
        "expired": answers.expired,
        "prompt_tokens": answers.prompt_tokens,
        "completion_tokens": answers.completion_tokens,
        "next_lines": workload.shard_lines,
        "next_completion_window": shard.window,
        "not_before": 0,
        "refusals": 0,
        "waits": 0,
    }
    if answers.expired:
        values["next_lines"] = smaller_shard(min(shard.next_lines, shard.line_count))
        if batch.status == BatchStatus.EXPIRED:
            values["next_completion_window"] = windows.longer(shard.window, workload.max_window)
    counts = {
        "merged": 1,
        "succeeded": answers.succeeded,
        "failed": answers.failed,
        "cancelled": answers.cancelled,
        "expired": answers.expired,
        "to be sent again": answers.again,
        "that asked the same": followers,
    }
    return values, StepReport(counts, tuple(merge_notes.on_oddities(batch, answers)))


def _summary(report: StepReport) -> str:
    return ", ".join(f"{count} {name}" for name, count in report.counts.items() if count and name != "merged")
