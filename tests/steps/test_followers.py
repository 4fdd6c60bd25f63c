"""Requests that ask the same as an earlier one of their workload are never sent: they end as that one does, whatever happens."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from batchkit.engine.waves import DriveUntil
from batchkit.files import compressed, jsonl
from batchkit.models import BatchProblem, BatchStatus, RequestCounts, ReuseMode
from batchkit.steps import cutting, unfinished
from batchkit.steps import reuse as reuse_step
from tests.properties.scripted import Ending
from tests.steps.asking import Asking, answered, question_of
from tests.steps.timed import refused
from tests.workloads import TRANSCRIPTION, audio_line, chat_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.engine.progress import Progress
    from batchkit.models import BatchId
    from batchkit.steps.reuse import SplitReuse

#: Ten questions, each asked three times: twice in a row, and once behind all the others.
THREEFOLD = [*(f"question {number // 2}" for number in range(20)), *(f"question {number}" for number in range(10))]
BAD = "question 3"


@pytest.fixture
def asking(timed, tmp_path) -> Asking:
    """Return workloads of questions on a test clock; runs once per kind of database."""
    return Asking(timed, tmp_path)


def end_batches(asking: Asking, ending_of: Callable[[list[dict[str, Any]]], Ending | None]) -> None:
    """End each batch as a function of its lines says; None leaves it running until it is answered."""
    provider = asking.timed.provider

    def end(call: str) -> None:
        if call in {"list", "get", "scan"}:
            for batch_id in provider.running():
                ending = ending_of(lines_of(asking, batch_id))
                if ending is not None:
                    provider.end(batch_id, ending)

    provider.on_call = end


def answer_all(asking: Asking) -> None:
    """Answer every request from now on."""
    asking.timed.provider.on_call = lambda _call: None
    asking.timed.provider.answer = answered


def lines_of(asking: Asking, batch_id: BatchId) -> list[dict[str, Any]]:
    """Return the lines of a batch."""
    return [jsonl.loads(line) for line in asking.timed.provider.input_of(batch_id).splitlines()]


def states_of(asking: Asking, name: str = "work") -> dict[str, set[str]]:
    """Return the states of the requests of each question."""
    found: dict[str, set[str]] = {question: set() for question in asking.asked[name]}
    workload_id = asking.runner.find(name).id
    query = "SELECT seq, state FROM requests WHERE workload_id = :workload_id"
    for seq, state in asking.rows(query, workload_id=workload_id):
        found[asking.asked[name][seq]].add(state)
    return found


def check_end(asking: Asking, state: str = "failed") -> None:
    """Fail unless the requests of the bad question are in ``state``, all others succeeded, and what is wrong is said of each."""
    expected = {question: {state if question == BAD else "succeeded"} for question in THREEFOLD}
    assert states_of(asking) == expected
    right = [None if question == BAD else f"answer to {question}" for question in THREEFOLD]
    assert asking.texts("work") == right


def check_reopened(asking: Asking) -> None:
    """Fail unless resubmission sends the bad question once, and then all requests have their answers."""
    before = asking.sent()
    answer_all(asking)
    assert asking.runner.reopen("work", failed=True) == 3
    assert asking.finish("work").all_succeeded
    assert asking.sent() - before == {BAD: 1}
    asking.check_answers("work")


def bad_line(line: dict[str, Any]) -> dict[str, Any]:
    """Refuse the bad question, and answer the others."""
    return refused(line, 400, "bad_thing", "No.") if question_of(line) == BAD else answered(line)


def test_followers_fail_with_their_leader(asking):
    """They have its code, message and status, and are not sent before it is asked again."""
    asking.timed.provider.answer = bad_line

    progress = asking.run("work", THREEFOLD)

    assert (progress.counts.succeeded, progress.counts.failed) == (27, 3)
    check_end(asking)
    failures = asking.rows("SELECT error_code, error_message, status_code FROM results WHERE state = 'failed'")
    assert failures == [("bad_thing", "No.", 400)] * 3
    assert asking.sent() == dict.fromkeys(THREEFOLD, 1)
    check_reopened(asking)


def test_followers_wait_while_their_leader_is_tried_again(asking):
    """A leader that was refused for now, or expired, is sent again, and its followers never are."""
    tries = {"question 1": 2, "question 2": 1}

    def answer(line: dict[str, Any]) -> dict[str, Any]:
        left = tries.get(question_of(line), 0)
        tries[question_of(line)] = left - 1
        return refused(line, 503, "busy", "Later.") if left > 0 else answered(line)

    asking.timed.provider.answer = answer

    assert asking.run("work", THREEFOLD).all_succeeded

    asking.check_answers("work")
    assert asking.sent() == {**dict.fromkeys(THREEFOLD, 1), "question 1": 3, "question 2": 2}


def test_followers_of_a_named_line_fail_with_it(asking):
    """A batch fails validation and names a line: that request and its followers fail, the other lines are sent again."""

    def refuse(lines: list[dict[str, Any]]) -> Ending | None:
        places = [place for place, line in enumerate(lines, 1) if question_of(line) == BAD]
        if not places:
            return None
        problem = BatchProblem(code="bad_thing", message="No.", line=places[0])
        return Ending(status=BatchStatus.FAILED, problems=[problem])

    end_batches(asking, refuse)

    progress = asking.run("work", THREEFOLD)

    assert progress.counts.failed == 3
    check_end(asking)
    check_reopened(asking)


def test_followers_fail_with_the_line_that_halving_finds(asking):
    """Batches with a bad line are refused without a name, down to the single request; its followers fail with it."""

    def refuse(lines: list[dict[str, Any]]) -> Ending | None:
        if BAD not in map(question_of, lines):
            return None
        problem = BatchProblem(code="invalid_request_error", message="Something is wrong.", line=None)
        return Ending(status=BatchStatus.FAILED, problems=[problem])

    end_batches(asking, refuse)

    progress = asking.run("work", THREEFOLD)

    assert progress.counts.failed == 3
    check_end(asking)
    check_reopened(asking)


@pytest.mark.parametrize("ending", ["expired", "silent", "gone", "cancelled by the provider", "half"])
def test_followers_wait_for_what_a_batch_did_not_answer(asking, ending):
    """The first batch with the question expires, forgets a line, vanishes or is torn: only leaders without an answer are sent again."""
    met: list[str] = []

    def end(lines: list[dict[str, Any]]) -> Ending | None:
        if met or BAD not in map(question_of, lines):
            return None
        met.append(ending)
        others = [line for line in lines if question_of(line) != BAD]
        output = b"".join(jsonl.dumps(answered(line)) + b"\n" for line in others)
        counts = RequestCounts(len(lines), len(others), 0)
        match ending:
            case "expired":
                return Ending(status=BatchStatus.EXPIRED, output=output, counts=counts)
            case "silent":
                return Ending(output=output, counts=RequestCounts(len(lines), len(lines), 0))
            case "gone":
                return Ending(vanishes=True)
            case "half":
                return Ending(output=output, counts=counts, torn=9, torn_at=len(output) // 2)
            case _:
                return Ending(status=BatchStatus.CANCELLED, output=output, counts=counts)

    end_batches(asking, end)

    progress = asking.run("work", THREEFOLD)

    assert met
    assert progress.all_succeeded
    asking.check_answers("work")
    sent = asking.sent()
    assert sent[BAD] == 2
    # The whole batch is gone, or what stood behind the tear is.
    assert set(sent.values()) <= {1, 2}
    if ending not in {"gone", "half"}:
        assert sum(sent.values()) == 11


def test_followers_are_cancelled_before_anything_is_sent(asking):
    """All requests are cancelled; resubmission sends one for each question."""
    asking.split("work", THREEFOLD)
    asking.runner.request_cancel("work")

    assert asking.finish("work").counts.cancelled == 30
    assert asking.sent() == {}

    assert asking.runner.reopen("work", failed=False) == 30
    assert asking.finish("work").all_succeeded
    asking.check_answers("work")
    assert asking.sent() == dict.fromkeys(THREEFOLD, 1)


def test_followers_are_cancelled_with_what_a_batch_did_not_reach(asking):
    """In the middle of a run, one question was refused for now and one batch stops half way: the answers are kept, the rest is cancelled."""
    asking.timed.provider.answer = lambda line: (
        refused(line, 503, "busy", "Later.") if question_of(line) == "question 1" else answered(line)
    )

    def stop(lines: list[dict[str, Any]]) -> Ending | None:
        if BAD not in map(question_of, lines):
            return None
        others = [line for line in lines if question_of(line) != BAD]
        output = b"".join(jsonl.dumps(asking.timed.provider.answer(line)) + b"\n" for line in others)
        return Ending(status=BatchStatus.CANCELLED, output=output, counts=RequestCounts(len(lines), len(others), 0))

    asking.split("work", THREEFOLD)
    asking.runner.process(asking.runner.find("work").id, until=DriveUntil.SUBMITTED)
    end_batches(asking, stop)
    asking.runner.request_cancel("work")

    counts = asking.finish("work").counts

    assert (counts.succeeded, counts.cancelled) == (24, 6)
    assert states_of(asking)["question 1"] == states_of(asking)[BAD] == {"cancelled"}
    before = asking.sent()
    answer_all(asking)
    assert asking.runner.reopen("work", failed=False) == 6
    assert asking.finish("work").all_succeeded
    asking.check_answers("work")
    assert asking.sent() - before == {BAD: 1, "question 1": 1}


@pytest.mark.parametrize("seed", range(6))
def test_counts_and_answers_hold_in_any_history(asking, seed):
    """Random refusals, expiries, failed batches and cancels: counts add up after every pass, and no request loses its leader."""
    rng = random.Random(seed)  # noqa: S311 - a history, not a secret
    questions = [f"question {rng.randrange(12)}" for _ in range(40)]

    def answer(line: dict[str, Any]) -> dict[str, Any]:
        kind = rng.random()
        if kind < 0.1:
            return refused(line, 400, "bad_thing", "No.")
        return refused(line, 503, "busy", "Later.") if kind < 0.3 else answered(line)

    def end(lines: list[dict[str, Any]]) -> Ending | None:
        kind = rng.random()
        if kind < 0.1:
            problem = BatchProblem(code="bad_thing", message="No.", line=rng.choice([None, 1]))
            return Ending(status=BatchStatus.FAILED, problems=[problem])
        return Ending(status=BatchStatus.EXPIRED, counts=RequestCounts(len(lines), 0, 0)) if kind < 0.2 else None

    def sometimes_cancel(_progress: Progress) -> None:
        if rng.random() < 0.1:
            asking.runner.request_cancel("work")

    asking.timed.provider.answer = answer
    end_batches(asking, end)
    asking.split("work", questions, shard_lines=rng.randrange(1, 6))
    for _ in range(3):
        asking.passes("work", sometimes_cancel)
        assert all(len(states) == 1 for states in states_of(asking).values())
        asking.runner.reopen("work", failed=rng.random() < 0.5)
    answer_all(asking)
    asking.runner.reopen("work", failed=True)

    assert asking.finish("work").all_succeeded
    asking.check_answers("work")
    # Only leaders were sent.
    first = {question: f"work-{questions.index(question)}" for question in questions}
    assert set(asking.timed.provider.executed) <= set(first.values())


@pytest.mark.parametrize("shard_lines", [1, 3])
def test_endpoints_share_nothing(asking, shard_lines):
    """Requests to several endpoints stand in one input, in small shards: each is answered by the first one like it."""
    lines = []
    for number in range(20):
        line = chat_line(f"c-{number}", f"question {number % 4}")
        lines.append(line)
        url = TRANSCRIPTION if number % 2 else "/v1/audio/translations"
        lines.append({**audio_line(f"a-{number}"), "url": url, "body": audio_line(f"x-{number % 3}")["body"]})
    asking.timed.provider.answer = lambda line: {
        **answered(chat_line(line["custom_id"], f"{line['url']} {jsonl.dumps(line['body']).decode()}")),
    }

    workload = asking.split_lines("work", lines, shard_lines=shard_lines, reuse=ReuseMode.URLS)
    assert asking.finish("work").all_succeeded

    expected = [f"answer to {line['url']} {jsonl.dumps(line['body']).decode()}" for line in lines]
    assert asking.texts("work") == expected
    assert len(set(expected)) == 4 + 3 * 2
    assert sum(asking.timed.provider.executed.values()) == 10
    assert asking.runner.find(workload.name).repeated_requests == 30


@pytest.mark.parametrize("most", [1, 5])
def test_a_leader_in_an_open_shard_may_have_any_number_of_followers(asking, monkeypatch, most):
    """When many followers wait, open shards are committed: memory stays small, and a later follower finds its leader there."""
    monkeypatch.setattr(reuse_step, "_MOST_WAITING", most)
    monkeypatch.setattr(compressed, "BLOCK_BYTES", 500)
    held: list[int] = []
    insert = reuse_step.SplitReuse.insert

    def watched(sorter: SplitReuse, *arguments: Any) -> None:
        held.append(len(sorter._followers) + len(sorter._fresh))
        insert(sorter, *arguments)
        assert not sorter._answered
        assert not sorter._placed

    monkeypatch.setattr(reuse_step.SplitReuse, "insert", watched)
    questions = ["the same question", *THREEFOLD, *["the same question"] * 40]

    asking.split("work", questions, shard_lines=1_000)

    assert len(held) > 5
    assert max(held) < 20
    assert asking.finish("work").all_succeeded
    asking.check_answers("work")
    assert asking.sent() == dict.fromkeys(questions, 1)


def test_nothing_is_held_after_a_split(asking, monkeypatch):
    """The lists and the dictionary of a split are empty at its end."""
    made: list[SplitReuse] = []
    begin = reuse_step.SplitReuse.__init__

    def noted(sorter: SplitReuse, *arguments: Any) -> None:
        made.append(sorter)
        begin(sorter, *arguments)

    monkeypatch.setattr(reuse_step.SplitReuse, "__init__", noted)
    asking.run("donor", THREEFOLD)
    asking.split("work", [*THREEFOLD, *(f"new {number % 7}" for number in range(20))])

    for sorter in made:
        assert (sorter._fresh, sorter._answered, sorter._followers, sorter._placed) == ({}, [], [], [])
    assert (made[-1].reused, made[-1].repeated) == (30, 13)


@pytest.mark.parametrize("commits", [0, 1, 3])
def test_a_split_that_is_begun_again_has_every_request_once(asking, monkeypatch, commits):
    """A splitter dies after some commits: the next one removes its rows, and each request has one row and its own answer."""
    monkeypatch.setattr(compressed, "BLOCK_BYTES", 500)
    monkeypatch.setattr(reuse_step, "_MOST_WAITING", 3)
    commit = cutting._FullShards.commit
    done: list[object] = []

    def dying(shards: cutting._FullShards) -> None:
        if len(done) == commits:
            raise KeyboardInterrupt
        commit(shards)
        done.append(shards)

    asking.run("donor", THREEFOLD[:5])
    questions = [*THREEFOLD, *THREEFOLD[::-1]]
    with monkeypatch.context() as patched:
        patched.setattr(cutting._FullShards, "commit", dying)
        patched.setattr(unfinished, "abandon", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            asking.split("work", questions)
    other = asking.beside()
    asking.timed.clock.advance(20_000_000)

    other.run("work", questions)

    other.check_answers("work")
    assert asking.sent() == dict.fromkeys(THREEFOLD, 1)
    assert asking.rows("SELECT count(*) FROM requests") == [(65,)]
