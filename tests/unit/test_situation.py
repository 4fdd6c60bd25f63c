"""The text for every state of a workload: what is waited for, since when, until when, and which runner works on it."""

from __future__ import annotations

import pytest

from batchkit import formatting
from batchkit.engine import situation
from batchkit.engine.progress import WorkloadState
from batchkit.engine.situation import WaitKind
from batchkit.models import RequestCountsByState, ShardState, Trouble
from batchkit.store.runners import RunnerRow
from batchkit.store.shards import Resubmitted
from batchkit.store.waits import Refusal
from tests.cli.snapshots import NOW, finished, open_shards, snapshot, workload

OWNER = "host|boot/1|42|7|abc"
SINCE, UNTIL = NOW - 3_600, NOW + 82_800


def at(moment: float) -> str:
    """Return a time in the format of the lines."""
    return formatting.when(moment, NOW)


def waiting(**fields):
    """Return a snapshot without any work in progress except for ``fields``."""
    values = {
        "counts": RequestCountsByState(total=20_000, in_flight=20_000),
        "open_work": {},
        "batches": {},
        "remote_done": 0,
        "resubmit_at": None,
    }
    return snapshot(**(values | fields))


CASES = {
    "splitting": (
        waiting(
            state=WorkloadState.SPLITTING, workload=workload(lease_owner=OWNER, request_count=None, created_at=SINCE)
        ),
        WaitKind.SPLITTING,
        f"the input is being split by host (process 42), since {at(SINCE)}",
    ),
    "interrupted": (
        waiting(state=WorkloadState.INTERRUPTED, workload=workload(request_count=None, created_at=SINCE)),
        WaitKind.INTERRUPTED,
        f"nobody: the split of the input was interrupted, nothing was sent, since {at(SINCE)}",
    ),
    "stopping": (
        waiting(
            state=WorkloadState.CANCELLING,
            workload=workload(cancel_requested_at=NOW - 60),
            open_work={ShardState.SUBMITTED: open_shards(shards=3)},
        ),
        WaitKind.STOPPING,
        f"3 batches asked to stop, since {at(NOW - 60)}, at the latest until {at(UNTIL)}",
    ),
    "batches": (
        waiting(
            open_work={ShardState.SUBMITTED: open_shards(shards=12, missing=2)},
            batches={"in_progress": 9, "finalizing": 3},
        ),
        WaitKind.BATCHES,
        (
            "12 batches at the provider (3 finalizing, 9 in_progress); 2 not known there now,"
            f" since {at(SINCE)}, at the latest until {at(UNTIL)}"
        ),
    ),
    "overdue": (
        waiting(open_work={ShardState.SUBMITTED: open_shards(shards=1, expires_at=NOW - 5)}),
        WaitKind.BATCHES,
        f"1 batch at the provider, since {at(SINCE)}, overdue since {at(NOW - 5)}",
    ),
    "refused": (
        waiting(
            open_work={
                ShardState.UPLOADED: open_shards(
                    5,
                    5_000,
                    done=0,
                    since=None,
                    expires_at=None,
                    refused=5,
                    refused_requests=5_000,
                    refused_until=NOW + 900,
                )
            },
            refusal=Refusal("429 queue_full: no room\nnow", NOW - 600, 4),
        ),
        WaitKind.REFUSED,
        (
            "5,000 requests to be sent; the provider refused 4 times: 429 queue_full: no room now,"
            f" since {at(NOW - 600)}, not before {at(NOW + 900)}"
        ),
    ),
    "not sent": (
        waiting(open_work={ShardState.PLANNED: open_shards(5, 5_000, done=0, since=None, expires_at=None)}),
        WaitKind.NOT_SENT,
        "5,000 requests to be sent",
    ),
    "being created": (
        waiting(open_work={ShardState.SUBMITTING: open_shards(2, since=NOW - 60, expires_at=None)}),
        WaitKind.SUBMITTING,
        f"2 batches being created, since {at(NOW - 60)}",
    ),
    "looked for": (
        waiting(open_work={ShardState.SUBMITTING: open_shards(1, since=NOW - 61, expires_at=None)}),
        WaitKind.SUBMITTING,
        f"1 batch whose creation got no answer, being looked for, since {at(NOW - 61)}",
    ),
    "download": (
        waiting(open_work={ShardState.ENDED: open_shards(3, done=2_990, since=NOW - 30)}),
        WaitKind.DOWNLOAD,
        f"3 ended batches to be downloaded (2,990 answers), since {at(NOW - 30)}",
    ),
    "again": (
        waiting(counts=RequestCountsByState(total=200, pending=120, succeeded=80), resubmit_at=NOW + 300),
        WaitKind.AGAIN,
        f"120 requests to be sent again, not before {at(NOW + 300)}",
    ),
    "again now": (
        waiting(counts=RequestCountsByState(total=200, pending=1, succeeded=199), resubmit_at=NOW),
        WaitKind.AGAIN,
        "1 request to be sent again, due now",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_state_has_its_text(name):
    """The text has what is waited for, since when, and the latest end or the earliest start."""
    progress, kind, line = CASES[name]
    (wait,) = situation.waits(progress)
    assert (wait.kind, wait.line(NOW)) == (kind, line)


def test_an_outage_comes_first_and_shows_when_the_command_gives_up():
    """The outage is known from this process, or from the record of another one."""
    trouble = Trouble("the provider cannot be reached: connection refused", NOW - 120, 5, NOW + 780)
    line = (
        f"the provider cannot be reached: connection refused; tried 5 times, since {at(NOW - 120)},"
        f" gives up at {at(NOW + 780)}"
    )
    first, *rest = situation.waits(snapshot(), trouble)
    assert (first.kind, first.line(NOW), len(rest)) == (WaitKind.OUTAGE, line, 2)
    assert (first.sentence(NOW), rest[0].sentence(NOW)) == (line, f"waiting for {rest[0].line(NOW)}")
    row = RunnerRow(OWNER, "watch", "host", None, NOW, first.text, first.since, first.until)
    told, *_ = situation.waits(snapshot(runners=(row,)))
    assert told == first
    assert situation.outage(Trouble("away", NOW, 1)).line(NOW) == f"away; tried 1 time, since {at(NOW)}"


def test_the_tries_of_another_process_are_shown_with_their_age():
    """The other process records them every half minute."""
    words_ = "the provider cannot be reached; tried 5 times"
    for seen_at, told in ((NOW - 4, words_), (NOW - 28, f"{words_}, as of 28 s ago")):
        row = RunnerRow(OWNER, "run", "host", None, seen_at, words_, NOW - 60, NOW + 840)
        first, *_ = situation.waits(snapshot(runners=(row,)))
        assert (first.kind, first.text) == (WaitKind.OUTAGE, told)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"workload": workload(stopped_at=NOW - 1)}, "that may have been created, to be looked for"),
        ({"lost_runner": RunnerRow(OWNER, "run", "host", None, NOW)}, "that may have been created, to be looked for"),
        ({"workload": workload(stopped_at=NOW - 9)}, "being created"),
        (
            {"workload": workload(stopped_at=NOW - 1), "runners": (RunnerRow(OWNER, "run", "host", None, NOW),)},
            "being created",
        ),
    ],
)
def test_a_command_that_has_ended_creates_nothing(fields, what):
    """Its batch may exist; the next command searches for it."""
    work = {ShardState.SUBMITTING: open_shards(1, since=NOW - 5, expires_at=None)}
    (wait,) = [one for one in situation.waits(waiting(open_work=work, **fields)) if one.kind is WaitKind.SUBMITTING]
    assert wait.text == f"1 batch {what}"


def test_the_wait_of_a_runner_is_shown_once():
    """An ordinary wait that a runner recorded is already known from the store."""
    row = RunnerRow(OWNER, "watch", "host", None, NOW, "5 batches at the provider", NOW, UNTIL)
    assert situation.waits(snapshot(runners=(row,))) == situation.waits(snapshot())


def test_a_finished_workload_waits_for_nothing():
    """No runner is needed for it."""
    assert situation.waits(finished()) == []
    assert situation.workers(finished(), NOW) == ""


@pytest.mark.parametrize(
    ("fields", "words_"),
    [
        ({"runners": (RunnerRow(OWNER, "watch", "host", None, NOW),)}, "watch on host (process 42)"),
        (
            {"runners": (RunnerRow(OWNER, "run", "host", None, NOW),) * 2},
            "run on host (process 42) and 1 other process",
        ),
        (
            {"workload": workload(stopped_at=NOW - 240, stopped_reason="the provider could not be reached for 900 s")},
            "nobody: stopped 4 min 00 s ago: the provider could not be reached for 900 s",
        ),
        (
            {"lost_runner": RunnerRow(OWNER, "run", "host", None, NOW - 300)},
            "nobody: run on host (process 42) ended without a word, last seen 5 min 00 s ago",
        ),
        ({"state": WorkloadState.SPLITTING, "workload": workload(lease_owner=OWNER)}, "host (process 42)"),
        ({}, "nobody, unless a command is just starting"),
    ],
)
def test_the_runner_or_the_stop_reason_is_shown(fields, words_):
    """The runner has verb, host and process; otherwise the text has the time and reason of the stop."""
    assert situation.workers(snapshot(**fields), NOW) == words_


def test_answered_is_not_downloaded():
    """The figures belong to a run whose answers are all still at the provider."""
    progress = waiting(
        open_work={ShardState.SUBMITTED: open_shards(20, 20_000)}, remote_done=18_055, batches={"in_progress": 20}
    )
    assert situation.answered_line(progress) == "18,055 of 20,000 answered (90.3 %), 0 downloaded"
    assert situation.answered_percent(progress) == 90.3
    assert (progress.answered, progress.fetched, progress.not_fetched) == (18_055, 0, 18_055)


def test_batches_that_ended_count_as_answered_before_the_download():
    """Their answers keep counting between the end of a batch and its merge."""
    progress = waiting(open_work={ShardState.ENDED: open_shards(20, 20_000, done=19_990)})
    assert situation.answered_line(progress) == "19,990 of 20,000 answered (100.0 %), 0 downloaded".replace(
        "100.0", "99.9"
    )


def test_requests_that_were_never_sent_are_not_in_flight():
    """Planned and uploaded shards are not sent; a batch that is being created may be."""
    unsent = open_shards(5, 5_000, done=0, since=None, expires_at=None)
    progress = waiting(
        open_work={
            ShardState.PLANNED: unsent,
            ShardState.UPLOADED: unsent,
            ShardState.SUBMITTING: open_shards(1, 1_000, done=0, expires_at=None),
            ShardState.SUBMITTED: open_shards(9, 9_000),
        },
        remote_done=500,
    )
    assert progress.not_sent == 10_000
    assert situation.rest_parts(progress) == ["9,500 in flight", "10,000 not sent"]


def test_figures_of_an_outage_are_as_old_as_the_last_news():
    """Their time is that of the last news, neither that at which the command gave up, nor now while it still tries."""
    work = {
        ShardState.SUBMITTED: open_shards(5, news_at=NOW - 940),
        ShardState.ENDED: open_shards(1, news_at=NOW - 930),
        ShardState.MERGED: open_shards(1, news_at=NOW),
    }
    outage = RunnerRow(OWNER, "run", "host", None, NOW, "the provider cannot be reached; tried 5 times", NOW - 900, NOW)
    lost = RunnerRow(OWNER, "run", "host", None, NOW - 300)
    for fields in (
        {"workload": workload(stopped_at=NOW - 20, stopped_reason="the provider could not be reached for 900 s")},
        {"runners": (outage,)},
        {"lost_runner": lost},
    ):
        progress = waiting(open_work=work, **fields)
        assert situation.known_at(progress) == NOW - 930
        assert situation.news_text(progress) == f"last news from the provider at {at(NOW - 930)}"
    works = RunnerRow(OWNER, "run", "host", None, NOW, "5 batches at the provider", NOW - 900, NOW)
    assert situation.known_at(waiting(open_work=work, runners=(works,))) is None
    assert situation.news_text(waiting(open_work={ShardState.ENDED: open_shards(1, news_at=NOW)})) == ""


EXPIRED = "1,974 attempts expired without an answer; the requests "


@pytest.mark.parametrize(
    ("pending", "unsent", "sent", "words_"),
    [
        (0, 0, 1_974, "were sent again"),
        (1_974, 0, 0, "wait to be sent again"),
        (0, 1_974, 0, "wait to be sent again"),
        (74, 900, 1_000, "were sent again, except for at most 974 that wait for it"),
    ],
)
def test_expired_requests_are_shown_as_resent_only_after_it(pending, unsent, sent, words_):
    """Some wait to be cut into shards, some are in shards without a batch, and some were sent."""
    work = {ShardState.UPLOADED: open_shards(4, unsent, done=0, since=None, expires_at=None)} if unsent else {}
    if sent:
        work[ShardState.SUBMITTED] = open_shards(4, sent, done=0)
    progress = waiting(
        counts=RequestCountsByState(total=20_000, pending=pending, in_flight=unsent + sent, succeeded=18_026),
        open_work=work,
        expired_attempts=1_974,
        resubmitted=Resubmitted(unsent, sent),
    )
    assert situation.expired_text(progress) == EXPIRED + words_
    parts = [(sent, "in flight"), (pending + unsent, "to send again")]
    assert situation.rest_parts(progress) == [f"{count:,} {word}" for count, word in parts if count]


def test_resent_requests_are_distinguished_from_unsent_ones():
    """The figures and the waits distinguish them."""
    work = {ShardState.PLANNED: open_shards(5, 5_000, done=0, since=None, expires_at=None)}
    counts = RequestCountsByState(total=20_000, in_flight=5_000, succeeded=15_000)
    for again, line in (
        (0, "5,000 requests to be sent"),
        (1_000, "5,000 requests to be sent, 1,000 of them again"),
        (5_000, "5,000 requests to be sent again"),
    ):
        progress = waiting(counts=counts, open_work=work, resubmitted=Resubmitted(again, 0))
        (wait,) = situation.waits(progress)
        assert (wait.kind, wait.line(NOW)) == (WaitKind.NOT_SENT, line)
        assert (progress.never_sent, progress.to_send_again) == (5_000 - again, again)


def test_no_request_of_an_ended_batch_is_in_flight():
    """Until the merge, the state of its requests without an answer is unknown."""
    progress = waiting(
        counts=RequestCountsByState(total=20_000, pending=1_473, in_flight=5_000, succeeded=13_527),
        open_work={ShardState.ENDED: open_shards(5, 5_000, done=4_499)},
    )
    assert situation.rest_parts(progress) == ["501 unanswered in ended batches", "1,473 to send again"]
    assert (progress.in_flight, progress.unanswered, progress.not_fetched) == (0, 501, 4_499)


def test_no_more_answers_than_requests_are_counted():
    """A provider that counts wrong cannot raise the share above 100 %."""
    progress = waiting(open_work={ShardState.SUBMITTED: open_shards(20, 20_000)}, remote_done=99_999)
    assert progress.answered == 20_000
    assert situation.answered_percent(progress) == 99.9


def test_a_finished_workload_is_completely_done():
    """This includes a workload with cancelled requests."""
    assert situation.answered_percent(finished(cancelled=50)) == 100.0
    assert situation.rest_parts(finished(failed=3, cancelled=50)) == ["3 failed", "50 cancelled"]
