"""Sentences and figures about a workload's state, for terminals, logs, JSON, reports and Prefect. Pure functions.

The waits of a workload, in the order in which they are shown; the first one is the main wait:

==============  =================================================================  ====================  =====================
state           text                                                               since                 until
==============  =================================================================  ====================  =====================
outage          the provider cannot be reached: ...; tried 5 times                 first failed try      gives up at
splitting       the input is being split by run on HOST (process 42)               created               unknown
interrupted     nobody: the split of the input was interrupted, nothing was sent   created               unknown
stopping        3 batches asked to stop                                            the user's wish       end of the last window
batches         12 batches at the provider (9 in_progress, 3 finalizing)           oldest creation       end of the last window
refused         5,000 requests to be sent; the provider refused 4 times: ...       first refusal         next try: not before
not sent        5,000 requests to be sent                                          unknown               unknown
sending         900 requests being sent one by one (300 of them answered)          oldest shard's begin  unknown
submitting      2 batches being created; after a minute: whose creation got no     oldest intent         unknown
                answer, being looked for; after their command ended: that may have
                been created, to be looked for
download        3 ended batches to be downloaded (2,990 answers)                   first seen ended      unknown
again           120 requests to be sent again                                      unknown               not before
budget          stopped by the budget: $24.71 spent, $0.00 in flight; 500 requests  unknown               unknown
                wait; raise --max-cost to continue; while something is in flight:
                held back by the budget
vanishing       the results of 2 batches vanish at the provider (`batchkit watch   unknown               deleted from then on
                NAME` fetches them first)
==============  =================================================================  ====================  =====================

*Answered* requests have an answer or an error, here or at the provider; *downloaded* ones have it here. *Not sent* requests were
never sent; requests *to send again* were sent and are in no batch now. *Unanswered in ended batches* are requests without an answer
by the provider's counts, in a batch that has ended and is not merged yet. A cancelled request is none of these.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from batchkit import formatting
from batchkit.engine.budget_texts import budget_text
from batchkit.engine.progress import UNSENT_STATES, WorkloadState
from batchkit.models import Lane, ShardState
from batchkit.owners import described

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.engine.progress import Progress
    from batchkit.models import Trouble
    from batchkit.store.runners import RunnerRow

#: A creation takes seconds; after this many without an answer the batch is searched for in the list.
_CREATION_SECONDS = 60.0
_REFUSAL_CHARS = 200
#: What another process stored is shown with its age when it is older than this.
_FRESH_SECONDS = 5.0
_TROUBLE = re.compile(r"; tried [\d,]+ times?$")


class WaitKind(StrEnum):
    """What a workload waits for; see the table of this module."""

    OUTAGE = "outage"
    SPLITTING = "splitting"
    INTERRUPTED = "interrupted"
    STOPPING = "stopping"
    BATCHES = "batches"
    REFUSED = "refused"
    NOT_SENT = "not_sent"
    SENDING = "sending"
    SUBMITTING = "submitting"
    DOWNLOAD = "download"
    AGAIN = "again"
    VANISHING = "vanishing"
    BUDGET = "budget"


_AT_THE_PROVIDER = (ShardState.SUBMITTED, ShardState.ENDED)
_STAND_ALONE = frozenset({WaitKind.OUTAGE, WaitKind.SPLITTING, WaitKind.VANISHING, WaitKind.BUDGET})


@dataclass(frozen=True, slots=True)
class Waiting:
    """One wait: a phrase without a full stop, and two times in Unix seconds, None when unknown.

    ``until`` is the latest end, or the earliest one if ``is_not_before``. ``count`` counts the requests or batches that the phrase
    names.
    """

    kind: WaitKind
    text: str
    since: float | None = None
    until: float | None = None
    count: int | None = None

    @property
    def is_not_before(self) -> bool:
        """Return whether ``until`` is the earliest end and not the latest."""
        return self.kind in {WaitKind.REFUSED, WaitKind.AGAIN}

    @property
    def is_warning(self) -> bool:
        """Return whether this is no ordinary wait but something that a person must know."""
        return self.kind in {WaitKind.OUTAGE, WaitKind.VANISHING, WaitKind.BUDGET}

    def line(self, now: float, *, utc: bool = False) -> str:
        """Return the phrase with its times: ``12 batches at the provider, since 13:05, at the latest until Tue 13:05``."""
        parts = [self.text]
        if self.since is not None:
            parts.append(f"since {formatting.when(self.since, now, utc=utc)}")
        if self.until is not None:
            parts.append(self._end(now, utc=utc))
        return ", ".join(parts)

    def sentence(self, now: float, *, utc: bool = False) -> str:
        """Return the line as a full clause: ``waiting for 12 batches at the provider, since 13:05``."""
        line = self.line(now, utc=utc)
        return line if self.kind in _STAND_ALONE else f"waiting for {line}"

    def _end(self, now: float, *, utc: bool) -> str:
        at = formatting.when(self.until or 0.0, now, utc=utc)
        if self.kind is WaitKind.OUTAGE:
            return f"gives up at {at}"
        if self.kind is WaitKind.VANISHING:
            return f"the first ones at {at}" if (self.until or 0.0) > now else f"the first ones may be gone since {at}"
        if self.is_not_before:
            return f"not before {at}" if (self.until or 0.0) > now else "due now"
        return f"at the latest until {at}" if (self.until or 0.0) > now else f"overdue since {at}"


def answered_line(progress: Progress) -> str:
    """Return how many requests have an answer, and how many of these are downloaded."""
    counts = progress.counts
    if not progress.is_split:
        return f"{formatting.counted(counts.in_flight, 'request')} split so far, 0 sent"
    share = formatting.percent(progress.answered, counts.total)
    here = "stored" if progress.workload.lane is Lane.SYNC else "downloaded"
    parts = [f"{progress.answered:,} of {counts.total:,} answered ({share})", f"{progress.fetched:,} {here}"]
    return ", ".join(parts)


#: What requests wait for that are not sent, because another one asks the same.
FOLLOWING = "waiting for the same answer"


def rest_parts(progress: Progress) -> list[str]:
    """Return the counts that ``answered_line`` leaves out, except zeros."""
    counts = progress.counts
    if not progress.is_split:
        return []
    found = (
        (counts.failed, "failed"),
        (counts.cancelled, "cancelled"),
        (progress.in_flight, "in flight"),
        (progress.unanswered, "unanswered in ended batches"),
        (progress.never_sent, "not sent"),
        (progress.to_send_again, "to send again"),
        (counts.following, FOLLOWING),
    )
    return [f"{count:,} {word}" for count, word in found if count]


def expired_text(progress: Progress) -> str:
    """Return how many attempts expired without an answer, and what became of their requests."""
    expired = f"{formatting.counted(progress.expired_attempts, 'attempt')} expired without an answer"
    if progress.workload.cancel_requested_at is not None or progress.workload.adopted_at is not None:
        # Of adopted batches only what the user resubmitted was sent again.
        return expired
    waiting = min(progress.to_send_again, progress.expired_attempts)
    if not waiting:
        return f"{expired}; the requests were sent again"
    if not progress.resubmitted.sent:
        return f"{expired}; the requests wait to be sent again"
    # A waiting request may wait for another reason than its expiry.
    return f"{expired}; the requests were sent again, except for at most {waiting:,} that wait for it"


def doubt_text(progress: Progress) -> str:
    """Return how many single calls may have been paid for twice, and about how many tokens that is."""
    calls = formatting.counted(progress.doubts, "request")
    tokens = f" (about {progress.doubt_tokens:,} tokens)" if progress.doubt_tokens else ""
    was = "was" if progress.doubts == 1 else "were"
    again = "may have been paid for twice" if progress.workload.policy.resends_doubts else "may have been paid for"
    return f"{calls} {was} in flight when a command stopped, or got no answer in time: they {again}{tokens}"


def reuse_text(total: int, reused: int, repeated: int) -> str:
    """Return the text that says how many of ``total`` requests are not sent, and why."""
    parts = []
    if reused:
        parts.append(f"{reused:,} {'has' if reused == 1 else 'have'} an answer in this database")
    if repeated:
        parts.append(f"{repeated:,} {'asks' if repeated == 1 else 'ask'} the same as another")
    sent = total - reused - repeated
    return f"{', '.join(parts)}: {sent:,} of {formatting.counted(total, 'request')} {'is' if sent == 1 else 'are'} sent"


def unsent_text(progress: Progress) -> str:
    """Return the text that says how many requests of a workload are not sent, because another answer serves them."""
    workload = progress.workload
    return reuse_text(progress.counts.total, workload.reused_requests, workload.repeated_requests)


def answered_percent(progress: Progress) -> float:
    """Return the percentage of requests with an answer, 0 to 100; below 100 until the workload is finished."""
    if progress.is_finished:
        return 100.0
    total = progress.counts.total
    return min(round(100.0 * progress.answered / total, 1), 99.9) if total else 0.0


def trouble_text(trouble: Trouble) -> str:
    """Return what is unreachable and how often it was tried."""
    return f"{trouble.what}; tried {formatting.counted(trouble.tries, 'time')}"


def outage(trouble: Trouble) -> Waiting:
    """Return the wait for the end of an outage."""
    return Waiting(WaitKind.OUTAGE, trouble_text(trouble), trouble.since, trouble.gives_up_at)


def waits(progress: Progress, trouble: Trouble | None = None) -> list[Waiting]:
    """Return the waits of a workload, the main one first; none for a finished one.

    ``trouble`` is the outage that this process knows; without it, outages that other processes stored are used.
    """
    if progress.is_finished:
        return []
    found = [outage(trouble)] if trouble is not None else _troubles_of_runners(progress)
    if not progress.is_split:
        return [*found, _split(progress)]
    held = budget_text(progress)
    if progress.state is WorkloadState.STOPPED_BY_BUDGET:
        return [*found, Waiting(WaitKind.BUDGET, held, count=progress.not_sent + progress.counts.pending)]
    if held:
        waiting = progress.not_sent + progress.counts.pending
        return [
            *found,
            *_at_the_provider(progress),
            *_under_way(progress, is_held=True),
            Waiting(WaitKind.BUDGET, held, count=waiting),
            *_vanishing(progress),
        ]
    return [
        *found,
        *_at_the_provider(progress),
        *_unsent(progress),
        *_under_way(progress),
        *_vanishing(progress),
    ]


def workers(progress: Progress, now: float) -> str:
    """Return who works on a workload, or since when and why no process does; empty for a finished one."""
    workload = progress.workload
    if progress.is_finished:
        return ""
    if progress.runners:
        others = len(progress.runners) - 1
        more = f" and {formatting.counted(others, 'other process', 'other processes')}" if others else ""
        return f"{runner_name(progress.runners[0])}{more}"
    lost = progress.lost_runner
    if lost is not None:
        return (
            f"nobody: {runner_name(lost)} ended without a word, last seen {formatting.duration(now - lost.seen_at)} ago"
        )
    if workload.stopped_at is not None:
        reason = formatting.printable(workload.stopped_reason or "no reason was written down")
        return f"nobody: stopped {formatting.duration(now - workload.stopped_at)} ago: {reason}"
    if progress.state is WorkloadState.SPLITTING and workload.lease_owner is not None:
        return formatting.printable(described(workload.lease_owner))
    # Between the split and the first pass no row shows a command.
    return "nobody, unless a command is just starting"


def known_at(progress: Progress) -> float | None:
    """Return when the batches of a workload last changed as far as known, in Unix seconds, if no process polls them now.

    None while a process works on it and reaches the provider, and when nothing is at the provider: the figures are then current.
    """
    is_asked = bool(progress.runners) and not _troubles_of_runners(progress)
    if progress.is_finished or is_asked or ShardState.SUBMITTED not in progress.open_work:
        return None
    news = (progress.open_work[state].news_at for state in _AT_THE_PROVIDER if state in progress.open_work)
    return max((at for at in news if at is not None), default=None)


def news_text(progress: Progress, *, utc: bool = False) -> str:
    """Return how old the figures are if they are not current, else an empty text."""
    at = known_at(progress)
    return "" if at is None else f"last news from the provider at {formatting.when(at, progress.read_at, utc=utc)}"


def runner_name(row: RunnerRow) -> str:
    """Return the name of a row's process: ``watch on HOST (process 42)``."""
    pid = "" if row.pid is None else f" (process {row.pid})"
    return formatting.printable(f"{row.verb} on {row.host}{pid}")


def _troubles_of_runners(progress: Progress) -> list[Waiting]:
    for row in progress.runners:
        if row.waiting_for is not None and _TROUBLE.search(row.waiting_for):
            age = progress.read_at - row.seen_at
            told = f", as of {formatting.duration(age)} ago" if age >= _FRESH_SECONDS else ""
            return [Waiting(WaitKind.OUTAGE, f"{formatting.printable(row.waiting_for)}{told}", row.since, row.until)]
    return []


def _split(progress: Progress) -> Waiting:
    workload = progress.workload
    if progress.state is WorkloadState.INTERRUPTED:
        return Waiting(
            WaitKind.INTERRUPTED,
            "nobody: the split of the input was interrupted, nothing was sent",
            workload.created_at,
        )
    by = "" if workload.lease_owner is None else f" by {formatting.printable(described(workload.lease_owner))}"
    return Waiting(WaitKind.SPLITTING, f"the input is being split{by}", workload.created_at)


def _vanishing(progress: Progress) -> Iterator[Waiting]:
    if progress.vanishing is None:
        return
    batches = formatting.counted(progress.vanishing.batches, "batch", "batches")
    name = formatting.printable(progress.workload.name)
    text = f"the results of {batches} vanish at the provider (`batchkit watch {name}` fetches them first)"
    yield Waiting(WaitKind.VANISHING, text, until=progress.vanishing.first_at, count=progress.vanishing.batches)


def _at_the_provider(progress: Progress) -> Iterator[Waiting]:
    sending = progress.open_work.get(ShardState.SENDING)
    if sending is not None:
        requests = formatting.counted(sending.requests, "request")
        text = f"{requests} being sent one by one ({sending.done:,} of them answered)"
        yield Waiting(WaitKind.SENDING, text, sending.since, count=sending.requests)
    running = progress.open_work.get(ShardState.SUBMITTED)
    if running is None:
        return
    batches = formatting.counted(running.shards, "batch", "batches")
    missing = f"; {running.missing:,} not known there now" if running.missing else ""
    wish = progress.workload.cancel_requested_at
    if wish is not None:
        yield Waiting(
            WaitKind.STOPPING, f"{batches} asked to stop{missing}", wish, running.expires_at, count=running.shards
        )
        return
    statuses = ", ".join(
        f"{count:,} {formatting.printable(status)}" for status, count in sorted(progress.batches.items())
    )
    of_status = f" ({statuses})" if statuses else ""
    text = f"{batches} at the provider{of_status}{missing}"
    yield Waiting(WaitKind.BATCHES, text, running.since, running.expires_at, count=running.shards)


def _unsent(progress: Progress) -> Iterator[Waiting]:
    open_ = [progress.open_work[state] for state in UNSENT_STATES if state in progress.open_work]
    refused = sum(of_state.refused_requests for of_state in open_)
    if refused:
        again = min(of_state.refused_until for of_state in open_ if of_state.refused_until is not None)
        why, since, times = "", None, 1
        if progress.refusal is not None:
            since, times = progress.refusal.since, progress.refusal.times
            why = (
                f": {formatting.printable(progress.refusal.message, _REFUSAL_CHARS)}"
                if progress.refusal.message
                else ""
            )
        refusals = f"the provider refused {formatting.counted(times, 'time')}{why}"
        yield Waiting(
            WaitKind.REFUSED,
            f"{formatting.counted(refused, 'request')} to be sent; {refusals}",
            since,
            again,
            count=refused,
        )
    rest = progress.not_sent - refused
    if rest > 0:
        again = min(progress.not_sent - progress.never_sent, rest)
        of_them = "" if again in {0, rest} else f", {again:,} of them again"
        to_send = "to be sent again" if again == rest else f"to be sent{of_them}"
        yield Waiting(WaitKind.NOT_SENT, f"{formatting.counted(rest, 'request')} {to_send}", count=rest)


def _under_way(progress: Progress, *, is_held: bool = False) -> Iterator[Waiting]:
    creating = progress.open_work.get(ShardState.SUBMITTING)
    if creating is not None:
        batches = formatting.counted(creating.shards, "batch", "batches")
        is_late = creating.since is not None and progress.read_at - creating.since > _CREATION_SECONDS
        what = "whose creation got no answer, being looked for" if is_late else "being created"
        stopped_at = progress.workload.stopped_at
        if not progress.runners and (
            progress.lost_runner is not None or (stopped_at is not None and (creating.since or 0.0) <= stopped_at)
        ):
            what = "that may have been created, to be looked for"
        yield Waiting(WaitKind.SUBMITTING, f"{batches} {what}", creating.since, count=creating.shards)
    ended = progress.open_work.get(ShardState.ENDED)
    if ended is not None:
        answers = formatting.counted(ended.done, "answer")
        if progress.workload.lane is Lane.SYNC:
            yield Waiting(WaitKind.DOWNLOAD, f"{answers} to be stored", ended.since, count=ended.shards)
            ended = None
    if ended is not None:
        batches = formatting.counted(ended.shards, "ended batch", "ended batches")
        yield Waiting(WaitKind.DOWNLOAD, f"{batches} to be downloaded ({answers})", ended.since, count=ended.shards)
    if progress.counts.pending and not is_held:
        again = formatting.counted(progress.counts.pending, "request")
        yield Waiting(
            WaitKind.AGAIN, f"{again} to be sent again", until=progress.resubmit_at, count=progress.counts.pending
        )
