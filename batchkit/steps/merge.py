"""merge: an ended batch's files are fetched and every request of its shard gets its verdict, in one transaction.

A torn file is not a missing answer: it is fetched again before anything missing is sent again.
"""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from batchkit.answers import check_for
from batchkit.errors import AccountRefused, NotFound, ProviderError, StateConflict
from batchkit.models import BatchStatus, Download, FileId, OutcomeKind, RefusalKind, RequestState, ShardState
from batchkit.sharding import longer_window, smaller_shard
from batchkit.spool import sha256_of
from batchkit.steps.answers import AnswerReader, Tally
from batchkit.steps.context import StepReport
from batchkit.steps.isolation import is_of_one_shard, leave_for_later
from batchkit.steps.refusal import (
    MAX_LOST_FILES,
    MAX_WAITS,
    everything_is_refused,
    fail,
    fail_all,
    files_are_lost,
    halving_ends,
    pause_seconds,
    postpone,
    proves_nothing,
    step_aside,
    unproven_ends,
    wait_seconds,
)
from batchkit.store import batches, events, requests, shards, workloads
from batchkit.store.bulk import bulk_for

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from sqlalchemy.engine import Connection

    from batchkit.models import Batch, BatchProblem, OutputLine, Shard, ShardId, Workload, WorkloadId
    from batchkit.steps.context import StepContext
    from batchkit.store.requests import Rider

#: How often a file that looks torn is fetched before what it holds is believed.
_FETCHES = 3
#: How often a file that should exist is looked for, with growing pauses, before it counts as gone. To give it up is to
#: pay for its answers again.
_LOOKS = 5
#: When no file has come for so long, the call ends without those that are still on their way.
_SLOW_SECONDS = 10.0
_ACCOUNT_REFUSED = "account refused"
_SUBMITTED = f"{ShardState.SUBMITTING} -> {ShardState.SUBMITTED}"


@dataclass(frozen=True, slots=True)
class _Fetched:
    """A shard with its batch's files as they lie here; None where the batch has none."""

    shard: Shard
    batch: Batch
    output: Download | None
    error: Download | None


class _TornError(Exception):
    """The files hold less than they should; whatever was written of them is rolled back."""


def merge(context: StepContext, workload_id: WorkloadId, shard_ids: Sequence[ShardId]) -> StepReport:
    """Merge claimed shards: files arrive in parallel, shards are merged one after the other as they are complete.

    A file that takes far longer than the others is not waited for: its transfer continues, and a later call for its shard
    finds it. Raises ``AccountRefused`` and ``SpoolError``; other trouble gives the shard back for later.
    """
    with context.store.read() as connection:
        workload = workloads.get(connection, workload_id)
    report = StepReport({})
    coming: dict[Future[_Fetched | StepReport], ShardId] = {
        context.fetches.begin(shard_id, partial(_fetch, context, workload, shard_id)): shard_id
        for shard_id in shard_ids
    }
    while coming and not context.stopping.is_set():
        arrived, _ = wait(coming, timeout=_SLOW_SECONDS, return_when=FIRST_COMPLETED)
        if not arrived:
            return report + _leave_running(context, list(coming.values()))
        for future in arrived:
            if context.stopping.is_set():
                break
            report += _merge_fetched(context, workload, coming.pop(future), future)
    return report


def _leave_running(context: StepContext, shard_ids: Sequence[ShardId]) -> StepReport:
    """Keep the leases of shards whose files are still on their way, and ask for them again a little later."""
    with context.store.write() as connection:
        for shard_id in shard_ids:
            shards.delay(connection, context.owner, shard_id, context.clock() + _SLOW_SECONDS)
    noun = "file is" if len(shard_ids) == 1 else "files are"
    return StepReport({"still fetching": len(shard_ids)}, (f"{len(shard_ids)} slow {noun} still on the way",))


def _merge_fetched(
    context: StepContext, workload: Workload, shard_id: ShardId, future: Future[_Fetched | StepReport]
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


def _fetch(context: StepContext, workload: Workload, shard_id: ShardId) -> _Fetched | StepReport:
    """Bring the files of a shard's batch here, or say why that has to wait."""
    try:
        return _fetch_now(context, workload, shard_id)
    except StateConflict:
        return StepReport({"taken over": 1})


def _fetch_now(context: StepContext, workload: Workload, shard_id: ShardId) -> _Fetched | StepReport:
    with context.store.read() as connection:
        shard = shards.get(connection, shard_id)
        if shard.state is not ShardState.ENDED or shard.batch_id is None:
            raise StateConflict(f"shard {shard.number} is {shard.state}: there is nothing to merge")
        batch = batches.get(connection, shard.batch_id)
    try:
        if _hides_a_file(batch) and shard.refusals < _LOOKS:
            batch = context.provider.get_batch(batch.id)
            with context.store.write() as connection:
                batches.see(connection, batch, seen_at=context.clock())
            if _hides_a_file(batch):
                postpone(context, shard, pause_seconds(context, shard.refusals), refused=True)
                return StepReport({"postponed": 1}, (f"batch {batch.id} has answers but names no file for them (yet)",))
        return _Fetched(
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
        return StepReport({"postponed": 1}, (f"batch {batch.id} cannot be fetched now: {error}",), outage=str(error))


def _hides_a_file(batch: Batch) -> bool:
    """Whether there are answers for which the provider names no file: file ids may appear later than the end."""
    if batch.status == BatchStatus.COMPLETED and batch.output_file_id is None and batch.error_file_id is None:
        return True
    return bool(
        (batch.counts.completed and batch.output_file_id is None)
        or (batch.counts.failed and batch.error_file_id is None)
    )


def _fetch_file(
    context: StepContext, workload: Workload, shard: Shard, kind: str, file_id: FileId | None
) -> Download | None:
    """Bring one file here, unless it is here already. A file that stays away for several looks is gone: None."""
    if file_id is None:
        return None
    path = context.spool.path(f"{workload.directory}/answers/{shard.key}.{kind}.jsonl")
    if path.is_file():
        return Download(path, path.stat().st_size, sha256_of(path))
    try:
        return context.provider.download_file(file_id, path)
    except NotFound:
        if shard.refusals < _LOOKS:
            raise
        return None


def _merge_whole(context: StepContext, workload: Workload, fetched: _Fetched) -> StepReport:
    """Merge, and fetch again while the files look torn."""
    for fetch in range(_FETCHES):
        try:
            report = _merge_once(context, workload, fetched, believe=fetch == _FETCHES - 1)
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
        again = _fetch(context, workload, fetched.shard.id)
        if isinstance(again, StepReport):
            return again
        fetched = again
    raise AssertionError("the last fetch is believed")


def _merge_once(context: StepContext, workload: Workload, fetched: _Fetched, *, believe: bool) -> StepReport:
    """Merge one shard in one transaction. Raises ``_TornError``, nothing written, for files that are not believed yet."""
    shard, batch = fetched.shard, fetched.batch
    now = context.clock()
    with context.store.write() as connection:
        workload = workloads.get(connection, workload.id)
        never_ran = batch.status == BatchStatus.FAILED and fetched.output is None and fetched.error is None
        if never_ran:
            values, report = _settle_failed_batch(connection, context, workload, shard, batch)
        else:
            tally = _read_answers(connection, context, workload, fetched)
            is_torn = _looks_torn(tally, fetched)
            if is_torn and not believe:
                raise _TornError
            values, report = _store(connection, workload, shard, batch, tally)
            if tally.account_refusal is not None:
                report += StepReport({}, refused=_account_refused(connection, shard, tally.account_refusal, at=now))
            if is_torn:
                report += StepReport({}, (_last_words(batch, tally),))
        shards.transition(
            connection,
            shard,
            ShardState.MERGED,
            at=now,
            owner=context.owner,
            detail=_in_words(report),
            merged_at=now,
            **values,
        )
        batches.set_values(
            connection,
            batch.id,
            output_sha256=fetched.output.sha256 if fetched.output else None,
            error_sha256=fetched.error.sha256 if fetched.error else None,
        )
    return report


def _account_refused(connection: Connection, shard: Shard, words: str, *, at: float) -> AccountRefused | None:
    """Make the error to end with; None when a refusal ended a command after the shard was sent.

    What ran before the account was mended says nothing about the account now.
    """
    is_known = events.happened_since(
        connection, shard.workload_id, _ACCOUNT_REFUSED, shard_id=shard.id, since=_SUBMITTED
    )
    if is_known:
        return None
    events.record(connection, shard.workload_id, _ACCOUNT_REFUSED, at=at, shard_id=shard.id, detail=words)
    return AccountRefused(
        f"the provider refuses what this account sends: {words}",
        status=HTTPStatus.FORBIDDEN,
        hint="the requests that it refused were not executed and are not failed: mend it (billing, spend limit, plan, access:"
        " console.groq.com/settings), then run the same command again",
    )


def _read_answers(connection: Connection, context: StepContext, workload: Workload, fetched: _Fetched) -> Tally:
    def is_of_the_account(line: OutputLine) -> bool:
        kind = context.provider.refusal_kind(status=line.status_code, code=line.error_code, message=line.error_message)
        return kind is RefusalKind.ACCOUNT

    reader = AnswerReader(
        requests.riders(connection, fetched.shard),
        shard_id=fetched.shard.id,
        bulk=bulk_for(connection),
        policy=workload.policy,
        cancelling=workload.cancel_requested_at is not None,
        check=None if workload.answer_rules is None else check_for(workload.answer_rules),
        is_of_the_account=is_of_the_account,
    )
    for download in (fetched.output, fetched.error):
        if download is not None:
            reader.read(download.path)
    return reader.conclude(unanswered=_meaning_of_silence(fetched.batch), named=_named_lines(fetched.batch))


def _meaning_of_silence(batch: Batch) -> OutcomeKind:
    """What it means that a batch says nothing about one of its requests."""
    match batch.status:
        case BatchStatus.EXPIRED:
            return OutcomeKind.EXPIRED
        case BatchStatus.CANCELLED:
            return OutcomeKind.CANCELLED
        case _:
            return OutcomeKind.MISSING


def _named_lines(batch: Batch) -> dict[int, BatchProblem]:
    return {problem.line: problem for problem in batch.problems if problem.line is not None}


def _looks_torn(tally: Tally, fetched: _Fetched) -> bool:
    """Whether a file may lack its end: it stops in mid-line, or has fewer lines than were counted, or than were to come.

    A batch that ended early may say nothing of requests that it did not reach, but then its counts tell how many it did.
    """
    if fetched.output is None and fetched.error is None:
        return False
    counts = fetched.batch.counts
    if tally.ends_torn or tally.lines < counts.completed + counts.failed:
        return True
    may_be_silent = _meaning_of_silence(fetched.batch) is not OutcomeKind.MISSING and counts.total > 0
    return tally.unmentioned > 0 and not may_be_silent


def _last_words(batch: Batch, tally: Tally) -> str:
    """Say what it means that files are believed although they still look torn."""
    what = f"batch {batch.id}: its files look torn, and did so in each of {_FETCHES} downloads; what they hold is kept"
    if not tally.again:
        return what
    again = "1 request is" if tally.again == 1 else f"{tally.again:,} requests are"
    return f"{what}, {again} sent again, and what was answered beyond the tear is paid for twice"


def _store(
    connection: Connection, workload: Workload, shard: Shard, batch: Batch, tally: Tally
) -> tuple[dict[str, Any], StepReport]:
    bulk = bulk_for(connection)
    bulk.set_states(workload.id, tally.states)
    if requests.mark_succeeded(connection, shard) != tally.succeeded:
        raise StateConflict(f"the requests of shard {shard.number} changed while it was merged")
    bulk.add_successes(workload.id, shard.id, tally.successes)
    bulk.add_results(workload.id, shard.id, tally.results)
    bulk.add_attempts(workload.id, shard.id, tally.attempts)
    values: dict[str, Any] = {
        "succeeded": tally.succeeded,
        "failed": tally.failed,
        "expired": tally.expired,
        "prompt_tokens": tally.prompt_tokens,
        "completion_tokens": tally.completion_tokens,
        "next_lines": workload.shard_lines,
        "next_completion_window": shard.window,
        "not_before": 0,
        "refusals": 0,
        "waits": 0,
    }
    if tally.expired:
        values["next_lines"] = smaller_shard(min(shard.next_lines, shard.line_count))
        if batch.status == BatchStatus.EXPIRED:
            values["next_completion_window"] = longer_window(shard.window, workload.max_window)
    counts = {
        "merged": 1,
        "succeeded": tally.succeeded,
        "failed": tally.failed,
        "cancelled": tally.cancelled,
        "expired": tally.expired,
        "to be sent again": tally.again,
    }
    return values, StepReport(counts, tuple(_oddities(batch, tally)))


def _oddities(batch: Batch, tally: Tally) -> list[str]:
    found = (
        (tally.malformed, "lines that are not JSON"),
        (tally.unknown, "lines for requests that were not in it"),
        (tally.duplicate, "repeated answers"),
    )
    return [f"batch {batch.id}: {count} {what}" for count, what in found if count]


def _settle_failed_batch(
    connection: Connection, context: StepContext, workload: Workload, shard: Shard, batch: Batch
) -> tuple[dict[str, Any], StepReport]:
    """A batch that failed validation never ran, so no attempt is counted.

    Lines that it names fail with the provider's words and the rest go again. Otherwise the kind of the refusal decides: the
    account's ends the command, a lost file is uploaded again, a want of capacity waits for our own batches or shrinks when
    there are none; and for any other reason halves find the culprit.
    """
    problem = next((problem for problem in batch.problems if problem.line is None), None) or next(
        iter(batch.problems), None
    )
    code = (problem.code if problem else None) or "batch_failed"
    message = problem.message if problem else "the provider refused the batch without a reason"
    named = _named_riders(connection, shard, batch)
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
    else:
        kind = _kind(context, problem)
        if kind is RefusalKind.ACCOUNT:
            refused = _account_refused(connection, shard, f"{code}: {message}", at=context.clock())
        elif kind is RefusalKind.LOST_FILE:
            refused = _upload_again(context, shard, message, values)
        elif kind is RefusalKind.NO_ROOM and not (shard.waits >= MAX_WAITS and _is_alone(connection, workload)):
            _wait_for_room(connection, context, workload, shard, values)
        elif proves_nothing(connection, shard, kind):
            values["waits"] = shard.waits + 1
            values["next_lines"] = shard.line_count
            if unproven_ends(connection, shard):
                refused = everything_is_refused(message)
            else:
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


def _kind(context: StepContext, problem: BatchProblem | None) -> RefusalKind:
    if problem is None:
        return RefusalKind.UNCLEAR
    return context.provider.refusal_kind(status=None, code=problem.code, message=problem.message, param=problem.param)


def _upload_again(context: StepContext, shard: Shard, message: str, values: dict[str, Any]) -> AccountRefused | None:
    """Send the same lines again with a new upload: the first time at once, then after growing pauses."""
    values["waits"] = shard.waits + 1
    if shard.waits:
        values["not_before"] = context.clock() + pause_seconds(context, shard.waits - 1)
    return files_are_lost(message) if shard.waits + 1 >= MAX_LOST_FILES else None


def _wait_for_room(
    connection: Connection, context: StepContext, workload: Workload, shard: Shard, values: dict[str, Any]
) -> None:
    values["not_before"] = context.clock() + wait_seconds(context, shard.waits)
    values["waits"] = shard.waits + 1
    if _is_alone(connection, workload):
        values["next_lines"] = max(shard.line_count // 2, 1)


def _is_alone(connection: Connection, workload: Workload) -> bool:
    return shards.open_count(connection, workload.id, at_most=2) <= 1


def _named_riders(connection: Connection, shard: Shard, batch: Batch) -> list[tuple[Rider, str, str]]:
    """Find the requests whose lines the batch's errors name, with the provider's words."""
    named = _named_lines(batch)
    if not named:
        return []
    riders = requests.of_shard(connection, shard)
    return [
        (riders[line - 1], problem.code or "invalid_line", problem.message)
        for line, problem in sorted(named.items())
        if 0 < line <= len(riders)
    ]


def _in_words(report: StepReport) -> str:
    return ", ".join(f"{count} {name}" for name, count in report.counts.items() if count and name != "merged")
