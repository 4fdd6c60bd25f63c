"""The scope of a refusal decides what happens: account, file, capacity, or lines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from batchkit.engine.waves import DriveUntil
from batchkit.errors import (
    AccountRefused,
    BatchIdTaken,
    NotFound,
    ProviderRefused,
    RateLimited,
    Unauthorized,
    WrongAddress,
)
from batchkit.files import jsonl
from batchkit.models import BatchProblem, BatchStatus
from batchkit.store import shards
from tests.properties.scripted import Ending
from tests.steps.timed import refused, succeeded

BLOCKED = AccountRefused("the API access of this organisation is blocked", status=400, code="blocked_api_access")
BILLING = AccountRefused("payment is due", status=402)
REVOKED = Unauthorized("this key was revoked", status=401, code="invalid_api_key")


def fail_from(timed, call, error, *, after=0):
    """Make every call of that name fail from the ``after``-th on, until the returned function is called."""
    state = {"on": True}

    def on_call(name):
        if name == call and state["on"] and timed.provider.calls[name] > after:
            raise error

    timed.provider.on_call = on_call
    return lambda: state.update(on=False)


@pytest.mark.parametrize(
    ("call", "error"),
    [("upload", BLOCKED), ("create", BILLING), ("create", REVOKED)],
    ids=["blocked", "billing", "revoked"],
)
def test_a_refusal_of_the_account_ends_the_command_and_fails_nothing(timed, call, error):
    """Shards are waiting: none of them is tried (exit code 4), and once the account is in order the same command resumes."""
    runner = timed.open(transfers=4)
    timed.split(runner, 14, shard_lines=1)
    mend = fail_from(timed, call, error, after=5)

    with pytest.raises(AccountRefused) as caught:
        timed.process(runner)

    assert caught.value.exit_code == 4
    # Calls that were in flight at the same time cannot be recalled.
    assert timed.provider.calls[call] <= 5 + 4
    counts = runner.progress(runner.find("work").id).counts
    assert (counts.failed, counts.total) == (0, 14)
    mend()
    assert timed.process(runner).all_succeeded
    timed.assert_bought_once()


def test_ended_batches_are_still_merged_when_the_account_is_refused(timed):
    """Paid answers are fetched before the command ends."""
    runner = timed.open(transfers=1)
    timed.split(runner, 40, shard_lines=2)
    fail_from(timed, "create", BLOCKED, after=16)

    with pytest.raises(AccountRefused):
        timed.process(runner)
    timed.clock.advance(3_600)
    with pytest.raises(AccountRefused):
        timed.process(runner)

    assert runner.progress(runner.find("work").id).counts.succeeded == 32


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, "blocked_api_access", "API access is blocked: the spend limit is reached"),
        (429, "insufficient_quota", "You exceeded your current quota, please check your plan and billing details."),
    ],
)
def test_a_refusal_of_the_account_inside_an_output_line_fails_no_request(timed, status, code, message):
    """Half of the lines are refused: the others are merged, nothing more is sent, and the rest is bought later."""
    runner = timed.open()
    timed.split(runner, 20, shard_lines=10, max_attempts=1)

    def answer(line):
        is_even = int(line["custom_id"].rpartition("-")[2]) % 2 == 0
        return succeeded(line) if is_even else refused(line, status, code, message)

    timed.provider.answer = answer
    for _ in range(3):
        before = timed.provider.calls["create"]
        with pytest.raises(AccountRefused, match=code) as caught:
            timed.process(runner)
        assert timed.provider.calls["create"] - before <= 2
    counts = runner.progress(runner.find("work").id).counts
    timed.provider.answer = succeeded

    assert caught.value.exit_code == 4
    assert (counts.succeeded, counts.failed, counts.unresolved) == (10, 0, 10)
    assert timed.process(runner).all_succeeded


def test_a_refusal_that_ended_a_command_is_not_reported_again_by_older_batches(timed):
    """The refused requests of a batch sent before the refusal are sent again, and do not end the next command."""
    runner = timed.open()
    timed.provider.takes_seconds = 3_600
    timed.split(runner, 20, shard_lines=10, max_attempts=1)
    answered = set()

    def answer(line):
        is_first = line["custom_id"] not in answered
        answered.add(line["custom_id"])
        return refused(line, 402, "payment_required", "pay first") if is_first else succeeded(line)

    timed.provider.answer = answer
    timed.process(runner, seconds=30)
    early = timed.provider.running()[0]
    lines = [jsonl.dumps(answer(jsonl.loads(line))) for line in timed.provider.input_of(early).splitlines()]
    timed.provider.end(early, Ending(output=b"\n".join(lines) + b"\n"))
    with pytest.raises(AccountRefused):
        timed.process(runner)

    assert timed.process(runner).all_succeeded


@pytest.mark.parametrize("is_late", [False, True], ids=["sent before the refusal", "sent after it"])
def test_a_batch_that_the_account_failed_ends_a_command_unless_it_was_sent_before_the_last_refusal(timed, is_late):
    """Only a batch that was sent after a refusal that ended a command shows that the account is still refused."""
    runner = timed.open()
    timed.provider.takes_seconds = 3_600
    timed.split(runner, 20, shard_lines=10)
    timed.process(runner, seconds=30)
    early, late = timed.provider.running()
    blocked = Ending(BatchStatus.FAILED, problems=(BatchProblem("the spend limit is reached", "blocked_api_access"),))
    timed.provider.end(early, blocked)
    with pytest.raises(AccountRefused):
        timed.process(runner)
    if is_late:
        timed.process(runner, seconds=90)
        late = timed.provider.running()[-1]
    timed.provider.end(late, blocked)

    if is_late:
        with pytest.raises(AccountRefused):
            timed.process(runner)
    assert timed.process(runner).all_succeeded


def test_a_permission_for_one_model_is_no_refusal_of_the_account(timed):
    """Requests to that model fail with the provider's message; the others get their answers."""
    runner = timed.open()
    timed.split(runner, 4)
    timed.provider.answer = lambda line: (
        refused(line, 403, "model_permission_blocked_project", "this model is blocked at the project level")
        if line["custom_id"] == "work-1"
        else succeeded(line)
    )

    counts = timed.process(runner).counts

    assert (counts.succeeded, counts.failed) == (3, 1)


def test_a_key_that_is_refused_while_batches_run_ends_the_command_at_once(timed):
    """The command ends after one call with exit code 4; with a valid key the batches are found again."""
    runner = timed.open()
    timed.split(runner)
    timed.process(runner, seconds=30)
    mend = fail_from(timed, "list", REVOKED)
    before = timed.provider.calls["list"]

    with pytest.raises(Unauthorized):
        timed.process(runner)

    assert timed.provider.calls["list"] == before + 1
    mend()
    assert timed.process(runner).all_succeeded
    timed.assert_bought_once()


def end_all(timed, *problems):
    """End every running batch as failed in validation, with these problems."""
    for batch_id in timed.provider.running():
        timed.provider.end(batch_id, Ending(BatchStatus.FAILED, problems=problems))


def lose_files(timed, problem, *, times):
    """Make the first batches fail with a problem; return a function that counts them."""
    failed: list[object] = []

    def on_call(name):
        if name in {"list", "get"} and len(failed) < times:
            for batch_id in timed.provider.running():
                if len(failed) < times:
                    failed.append(batch_id)
                    timed.provider.end(batch_id, Ending(BatchStatus.FAILED, problems=(problem,)))

    timed.provider.on_call = on_call
    return failed


@pytest.mark.parametrize(
    ("problem", "count"),
    [
        (BatchProblem("Cannot find file file-abc, or organization does not have access", code="invalid_request"), 1),
        (BatchProblem("The file was not found", param="input_file_id"), 40),
        (BatchProblem("Could not download the input file"), 1),
    ],
    ids=["words", "param", "words alone"],
)
def test_a_lost_input_is_uploaded_again_whatever_the_size_of_its_shard(timed, problem, count):
    """This happens three times in a row: nothing is halved, nothing fails, and everything is bought once."""
    runner = timed.open()
    timed.split(runner, count)
    failed = lose_files(timed, problem, times=3)

    assert timed.process(runner).all_succeeded
    assert len(failed) == 3
    assert len(timed.provider.batches) == 4
    timed.assert_bought_once()


def test_a_provider_that_loses_every_file_ends_the_command_and_fails_nothing(timed):
    """The command ends with exit code 4 after a limited number of uploads; the same command tries as many again."""
    runner = timed.open()
    timed.split(runner, 1)
    lose_files(timed, BatchProblem("Cannot find file"), times=1_000)

    for batches in (8, 16):
        with pytest.raises(ProviderRefused, match="did not find the input file") as caught:
            timed.process(runner)
        assert caught.value.exit_code == 4
        assert len(timed.provider.batches) == batches
    timed.provider.on_call = lambda _call: None
    assert timed.process(runner).all_succeeded


def test_a_file_that_no_create_finds_is_uploaded_again_a_limited_number_of_times(timed):
    """Each upload is retried for a while; then the command ends with exit code 4, and no request has failed."""
    runner = timed.open()
    timed.split(runner, 3)
    fail_from(timed, "create", NotFound("no such file", status=404, param="input_file_id"))

    with pytest.raises(ProviderRefused, match="did not find the input file"):
        timed.process(runner)

    assert timed.provider.calls["upload"] == 8
    assert runner.progress(runner.find("work").id).counts.failed == 0


@pytest.mark.parametrize(
    "problem",
    [
        BatchProblem("Too many enqueued tokens, try again later"),
        BatchProblem("at capacity", code="batch_failed"),
    ],
    ids=["enqueued", "an empty code"],
)
def test_a_lack_of_capacity_is_waited_out_even_if_only_the_message_shows_it(timed, problem):
    """The same requests are sent again after growing waits, none of which counts as an attempt."""
    runner = timed.open()
    timed.split(runner, 8, shard_lines=4)
    began = timed.clock()
    lose_files(timed, problem, times=4)

    progress = timed.process(runner)

    assert progress.all_succeeded
    assert timed.clock() - began > 60
    timed.assert_bought_once()


def test_an_unexplained_refusal_fails_no_request_before_a_file_was_accepted(timed):
    """A thousand lines are not halved down to a thousand failures: a few creations, then exit code 4 and the message."""
    runner = timed.open()
    timed.split(runner, 1_000)
    end = timed.provider.on_call
    timed.provider.on_call = lambda name: (
        end_all(timed, BatchProblem("Something went wrong", code="E1234")) if name in {"list", "get"} else None
    )

    with pytest.raises(ProviderRefused, match="Something went wrong") as caught:
        timed.process(runner)

    assert caught.value.exit_code == 4
    assert len(timed.provider.batches) < 20
    assert runner.progress(runner.find("work").id).counts.failed == 0
    timed.provider.on_call = end
    assert timed.process(runner).all_succeeded


def test_a_creation_refused_without_a_reason_fails_no_request_before_a_file_was_accepted(timed):
    """The same at the create call: a few creations, none of which counts against a line."""
    runner = timed.open()
    timed.split(runner, 500, shard_lines=100)
    mend = fail_from(timed, "create", ProviderRefused("Bad Request", status=400))

    with pytest.raises(ProviderRefused, match="Bad Request"):
        timed.process(runner)

    assert timed.provider.calls["create"] < 100
    assert runner.progress(runner.find("work").id).counts.failed == 0
    mend()
    assert timed.process(runner).all_succeeded


def test_a_line_that_spoils_its_file_is_found_when_other_files_are_accepted(timed):
    """An unexplained refusal then concerns the single line that is left: it fails, and all others succeed."""
    runner = timed.open()
    timed.split(runner, 32)

    def on_call(name):
        if name not in {"list", "get"}:
            return
        for batch_id in timed.provider.running():
            if any(
                jsonl.loads(line)["custom_id"] == "work-13" for line in timed.provider.input_of(batch_id).splitlines()
            ):
                timed.provider.end(
                    batch_id, Ending(BatchStatus.FAILED, problems=(BatchProblem("Something went wrong", code="E1234"),))
                )

    timed.provider.on_call = on_call
    counts = timed.process(runner).counts

    assert (counts.succeeded, counts.failed) == (31, 1)
    timed.assert_bought_once()


@pytest.mark.parametrize("where", ["batch", "create"])
def test_an_unexplained_refusal_is_not_waited_out_forever_beside_a_silent_batch(timed, where):
    """It is retried while another file may still be accepted, at most four times; then the command ends with exit code 4."""
    runner = timed.open(transfers=1)
    timed.provider.takes_seconds = float("inf")
    timed.split(runner, 2, shard_lines=1)
    create = timed.provider.create_batch
    sent: list[str] = []

    def create_unless_first(**call):
        file_id = call["input_file_id"]
        if b"work-1" in timed.provider.files[file_id]:
            made = create(**call)
            timed.provider.batches[made.id] = replace(made, status=BatchStatus.VALIDATING)
            return timed.provider.batches[made.id]
        sent.append(file_id)
        if where == "create":
            raise ProviderRefused("Something went wrong", status=400)
        made = create(**call)
        problems = (BatchProblem("Something went wrong", code="E1234"),)
        timed.provider.end(made.id, Ending(BatchStatus.FAILED, problems=problems))
        return made

    timed.provider.create_batch = create_unless_first

    with pytest.raises(ProviderRefused, match="takes no file of this workload") as caught:
        timed.process(runner, seconds=5_000)

    assert caught.value.exit_code == 4
    assert len(set(sent)) == 4
    assert runner.progress(runner.find("work").id).counts.failed == 0


def test_a_file_that_repeatedly_meets_a_full_queue_is_cut_smaller(timed):
    """The queue takes two requests at a time: after eight waits, which are no attempts, four become two and two; none fails."""
    runner = timed.open(capacity_wait_seconds=1)
    timed.split(runner, 4, max_attempts=1)
    create = timed.provider.create_batch
    tried: list[int] = []

    def create_if_small(**call):
        tried.append(timed.provider.files[call["input_file_id"]].count(b"\n"))
        if tried[-1] > 2:
            raise ProviderRefused("The batch queue is full", status=429, code="token_limit_exceeded")
        return create(**call)

    timed.provider.create_batch = create_if_small

    progress = timed.process(runner)

    assert (progress.counts.succeeded, progress.counts.failed) == (4, 0)
    assert tried == [4] * 9 + [2, 2]
    timed.assert_bought_once()


@pytest.mark.parametrize("asked", [0.0, float("nan")])
def test_a_wait_of_zero_has_a_floor(timed, asked):
    """With ``Retry-After: 0`` for half an hour, there are a few creations for two shards, not thousands."""
    runner = timed.open()
    timed.split(runner, 2, shard_lines=1)
    ends_at = timed.clock() + 1_800

    def on_call(name):
        if name == "create" and timed.clock() < ends_at:
            raise RateLimited("slow down", status=429, retry_after_seconds=asked)

    timed.provider.on_call = on_call

    assert timed.process(runner).all_succeeded
    assert timed.provider.calls["create"] < 2 + 2 * 12


def test_a_wait_of_a_year_is_retried_after_an_hour(timed):
    """The reason for the wait and its end are reported."""
    runner = timed.open()
    timed.split(runner, 1)
    began = timed.clock()

    def on_call(name):
        if name == "create" and timed.clock() < began + 60:
            raise RateLimited("come back next year", status=429, retry_after_seconds=86_400.0 * 365)

    timed.provider.on_call = on_call

    assert timed.process(runner).all_succeeded
    assert 3_600 <= timed.clock() - began < 3_600 + 600


def test_shards_beside_one_that_was_asked_to_wait_wait_as_well(timed):
    """One refusal shows the lack of capacity: the other shards of the wave are not tried meanwhile."""
    runner = timed.open(transfers=1)
    timed.split(runner, 30, shard_lines=1)
    ends_at = timed.clock() + 600

    def on_call(name):
        if name == "create" and timed.clock() < ends_at:
            raise RateLimited("slow down", status=429, retry_after_seconds=600.0)

    timed.provider.on_call = on_call

    assert timed.process(runner).all_succeeded
    assert timed.provider.calls["create"] < 30 + 10


def test_a_wrong_address_ends_the_command_before_anything_is_uploaded(timed):
    """The command ends with exit code 2 after one call."""
    runner = timed.open()
    timed.split(runner)
    mend = fail_from(timed, "check", WrongAddress("http://127.0.0.1/ is no batch API"))

    with pytest.raises(WrongAddress) as caught:
        timed.process(runner)

    assert caught.value.exit_code == 2
    assert set(timed.provider.calls) == {"check"}
    mend()
    assert timed.process(runner).all_succeeded


def test_the_address_is_checked_once_and_only_where_something_is_to_be_sent(timed):
    """A workload with running batches is polled without that check."""
    runner = timed.open()
    timed.split(runner, 6, shard_lines=2)
    timed.process(runner, seconds=20)
    timed.open()
    timed.process(timed.open())

    assert timed.provider.calls["check"] == 1


def test_a_batch_id_that_the_database_already_has_ends_the_command_with_an_error_message(timed):
    """A server that restarts its ids: exit code 4, both times, and neither workload is harmed."""
    runner = timed.open()
    timed.split(runner, 4, name="one")
    assert timed.process(runner, name="one").all_succeeded
    [known] = timed.provider.batches
    timed.split(runner, 4, name="two")
    create = timed.provider.create_batch

    def create_with_a_known_id(**call):
        made = create(**call)
        object.__setattr__(made, "id", known)
        return made

    timed.provider.create_batch = create_with_a_known_id
    for _ in range(2):
        with pytest.raises(BatchIdTaken, match="belongs to shard 1 of workload 'one'") as caught:
            timed.process(runner, name="two")
        assert caught.value.exit_code == 4
        timed.clock.advance(600)
    with runner.store.read() as connection:
        assert shards.batch_ids(connection, runner.find("one").id) == {1: known}
    assert runner.progress(runner.find("one").id).all_succeeded


def test_a_refusal_of_the_account_ends_a_single_pass_as_well(timed):
    """The schedule reports the refusal, at a call or inside an output line, and tries the workload again later."""
    runner = timed.open()
    timed.split(runner, 4)
    mend = fail_from(timed, "create", BLOCKED)
    with pytest.raises(AccountRefused):
        runner.process(runner.find("work").id, until=DriveUntil.ONE_PASS)
    mend()
    timed.clock.advance(600)
    timed.process(runner, seconds=30)
    timed.provider.answer = lambda line: refused(line, 402, "payment_required", "pay first")
    timed.clock.advance(600)

    with pytest.raises(AccountRefused):
        runner.process(runner.find("work").id, until=DriveUntil.ONE_PASS)
