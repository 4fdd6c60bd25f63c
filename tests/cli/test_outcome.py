"""The final message of a command, and its exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchkit.cli.options.common import COMMAND_LINE, Where, same_command, without_password
from batchkit.cli.render import outcome
from batchkit.engine.progress import WorkloadState
from batchkit.models import RequestCountsByState, ShardState
from tests.cli.snapshots import finished, snapshot

WHERE = Where(home=Path("elsewhere"))


def text(lines):
    """Return the lines as plain text."""
    return "\n".join(line.plain for line in lines)


@pytest.mark.parametrize(
    ("progress", "code"),
    [
        (finished(), 0),
        (finished(failed=1), 3),
        (finished(cancelled=1), 3),
        (snapshot(), 4),
        (snapshot(state=WorkloadState.CANCELLING), 4),
        (snapshot(state=WorkloadState.SPLITTING), 4),
    ],
)
def test_the_exit_code_follows_the_state_of_the_workload(progress, code):
    """0: all succeeded; 3: some did not; 4: not finished."""
    assert outcome.exit_code(progress) == code


def test_a_full_success_is_short():
    """It shows the count, the tokens, the time and the file."""
    said = text(outcome.summary(finished(), WHERE, output=Path("out.jsonl")))
    assert said.splitlines() == [
        "nightly: all 10,000 requests succeeded",
        "1,234,567 tokens in, 7,654 out; done in 59 min 00 s",
        "results:   out.jsonl",
    ]


def test_failures_are_shown_with_reasons_and_the_next_command():
    """Failures are counted and explained, and can be sent again with a command that can be copied."""
    said = text(outcome.summary(finished(failed=12, expired_attempts=2), WHERE, output=None))
    assert "nightly: 9,988 of 10,000 requests succeeded, 12 failed" in said
    assert "12  400 invalid_request: max_tokens is too large" in said
    assert "2 attempts expired without an answer; the requests were sent again" in said
    assert "batchkit export nightly nightly.results.jsonl --home elsewhere" in said
    assert "batchkit resubmit nightly --failed --home elsewhere" in said


def test_a_cancelled_workload_can_be_reopened():
    """Without failures the suggested command has no --failed."""
    said = text(outcome.summary(finished(cancelled=5), WHERE, output=None))
    assert "5 cancelled" in said
    assert said.endswith("batchkit resubmit nightly --home elsewhere")


def test_an_unfinished_workload_shows_the_command_that_resumes():
    """The text shows the number of open requests, what the provider continues to process, and the command to resume."""
    said = text(outcome.unfinished(snapshot(), WHERE, again="batchkit run x.jsonl"))
    assert "6,000 requests of 10,000 without a result here" in said
    assert "waiting for 5 batches at the provider" in said
    assert "resume:    batchkit run x.jsonl" in said


def test_an_incomplete_split_was_not_sent():
    """Watching does not help, because the input is needed again."""
    said = text(outcome.unfinished(snapshot(state=WorkloadState.SPLITTING), WHERE, again="batchkit watch nightly"))
    assert "nothing was sent" in said
    assert "batchkit run" in said


def test_an_interrupted_command_reports_what_continues():
    """The batches continue, and three commands resume, show or stop the workload."""
    said = text(outcome.interrupted(snapshot(), WHERE, again="batchkit run x.jsonl --name nightly"))
    assert said.splitlines() == [
        "interrupted: 5 batches keep running at the provider; nothing is lost",
        "resume:    batchkit run x.jsonl --name nightly",
        "status:    batchkit status nightly --home elsewhere",
        "stop it:   batchkit cancel nightly --home elsewhere",
    ]
    assert "1 batch keeps running" in text(outcome.interrupted(snapshot(batches={"in_progress": 1}), WHERE, again=""))
    assert "no batch is running" in text(outcome.interrupted(snapshot(batches={}), WHERE, again=""))
    assert "stop it" not in text(outcome.interrupted(finished(), WHERE, again=""))
    assert "before anything was sent" in text(outcome.interrupted(None, WHERE, again=""))


@pytest.mark.parametrize(
    "tell", [lambda found: outcome.interrupted(found, WHERE, again=""), lambda found: outcome.left(found, WHERE)]
)
def test_a_creation_without_an_answer_may_be_a_batch(tell):
    """It is not known whether a batch runs, so the message does not say that none does."""
    said = text(tell(snapshot(batches={}, shards={ShardState.SUBMITTING: 1})))
    assert "no batch is running" not in said
    assert (
        "1 batch may have been created at the provider: the same command looks for it before it sends anything again"
        in said
    )
    said = text(tell(snapshot(shards={ShardState.SUBMITTED: 5, ShardState.SUBMITTING: 2})))
    assert "5 batches keep running at the provider" in said
    assert "2 more batches may have been created at the provider: the same command looks for them" in said
    assert "may have been created" not in text(tell(snapshot()))


def test_submitted_and_unsent_shards_are_distinguished():
    """Either every shard has its batch, or some are still to be sent."""
    assert outcome.is_submitted(snapshot())
    for state in (ShardState.PLANNED, ShardState.UPLOADED, ShardState.SUBMITTING):
        assert not outcome.is_submitted(snapshot(shards={state: 1}))
    counts = RequestCountsByState(total=5_000, in_flight=5_000)
    said = text(outcome.submitted(snapshot(counts=counts), WHERE))
    assert "nightly: 5 batches with 5,000 requests submitted" in said
    assert "batchkit watch nightly --home elsewhere" in said


def test_commands_can_be_copied_into_a_shell():
    """Blanks and quotes are quoted, and passwords are not repeated."""
    where = Where(home=Path("my data"), database_url="postgresql+psycopg://me:se:cr@et@host/db")
    assert where.command("status", "it's") == (
        "batchkit status 'it'\"'\"'s' --home 'my data' --database-url 'postgresql+psycopg://me:***@host/db'"
    )
    assert without_password("sqlite:///x.db") == "sqlite:///x.db"


def test_the_same_command_is_printed_as_it_was_typed():
    """Only passwords are replaced."""
    token = COMMAND_LINE.set(("run", "my file.jsonl", "--database-url", "postgresql://u:secret@h/d"))
    try:
        assert same_command() == "batchkit run 'my file.jsonl' --database-url 'postgresql://u:***@h/d'"
    finally:
        COMMAND_LINE.reset(token)
