"""Answers outlive the workload that bought them for as long as another workload has reused them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count, permutations

import pytest

from batchkit.answers.rules import AnswerRules
from batchkit.files import compressed
from batchkit.steps import cutting, unfinished
from batchkit.steps import reuse as reuse_step
from batchkit.store import reuse
from tests.locks import wait_for_a_lock
from tests.steps.asking import Asking, answered
from tests.steps.timed import TimedRun, refused

QUESTIONS = [f"question {number}" for number in range(6)]


@pytest.fixture
def asking(timed, tmp_path) -> Asking:
    """Return workloads of questions on a test clock; runs once per kind of database."""
    return Asking(timed, tmp_path)


@pytest.fixture
def many_commits(monkeypatch):
    """Commit a split after every few lines."""
    monkeypatch.setattr(compressed, "BLOCK_BYTES", 500)
    monkeypatch.setattr(reuse_step, "_MOST_WAITING", 1)


def around_commits(monkeypatch, *, before=lambda _number: None, after=lambda _number: None) -> None:
    """Call functions with the number of each commit of a split, from 1, before and after it."""
    commit = cutting._FullShards.commit
    numbers = count(1)

    def watched(shards) -> None:
        number = next(numbers)
        before(number)
        commit(shards)
        after(number)

    monkeypatch.setattr(cutting._FullShards, "commit", watched)


@pytest.mark.usefixtures("many_commits")
def test_an_answer_handed_on_during_a_split_is_reused_by_the_rest_of_it(asking, monkeypatch):
    """The donor is cleaned between two commits of a split: later lines get the answers that earlier ones of it hold now."""
    asking.run("donor", QUESTIONS)
    around_commits(monkeypatch, after=lambda number: asking.clean("donor") if number == 4 else None)

    progress = asking.run("work", QUESTIONS * 5)

    assert progress.all_succeeded
    asking.check_answers("work")
    assert asking.sent() == dict.fromkeys(QUESTIONS, 1)


@pytest.mark.parametrize("order", list(permutations(("first", "second", "third"))), ids="-".join)
def test_answers_stay_until_the_last_workload_that_has_them_is_cleaned(asking, order):
    """In whatever order three workloads are cleaned, the others keep their answers, a new one finds them, and nothing is left."""
    asking.run("first", QUESTIONS[:4])
    asking.run("second", [*QUESTIONS[2:], QUESTIONS[2]])
    asking.run("third", [*QUESTIONS, QUESTIONS[0]])
    exports = {name: asking.export(name) for name in order}
    left = list(order)
    for name in order:
        asking.clean(name)
        left.remove(name)
        for other in left:
            asking.check_answers(other)
            assert asking.export(other) == exports[other]
        if left:
            known = asking.asked[left[-1]]
            assert asking.run("probe", known).all_succeeded
            asking.check_answers("probe")
            asking.clean("probe")

    assert asking.sent() == dict.fromkeys(QUESTIONS, 1)
    assert asking.left() == {}


def test_answers_are_found_in_a_workload_without_files(asking):
    """Cleaning that keeps the results deletes the files only."""
    asking.run("first", QUESTIONS)
    asking.clean("first", keep_results=True)

    asking.run("second", QUESTIONS[::-1])

    asking.check_answers("second")
    asking.clean("first")
    asking.check_answers("second")
    assert asking.sent() == dict.fromkeys(QUESTIONS, 1)


def test_only_answers_that_others_have_are_kept(asking):
    """Of six answers one was reused: its body and the shard that it came from remain, and nothing else of the workload."""
    asking.run("first", QUESTIONS)
    asking.run("second", [QUESTIONS[5]])

    asking.clean("first")

    assert asking.left() == {"workloads": 1, "requests": 1, "results": 1, "bodies": 1, "cleaned_answers": 1}
    assert asking.rows("SELECT workload, answered_at IS NOT NULL FROM cleaned_answers") in (
        [("first", 1)],
        [("first", True)],
    )


def test_an_answer_that_many_requests_reused_is_found_once(asking):
    """One of them takes over what was asked, so that the next split does not read all of them."""
    asking.run("first", QUESTIONS[:1])
    asking.run("second", QUESTIONS[:1] * 20)
    asking.run("third", QUESTIONS[:1] * 20)

    asking.clean("first")

    workload = asking.runner.find("second")
    assert asking.rows("SELECT workload_id, seq FROM requests WHERE digest IS NOT NULL") == [(workload.id, 0)]
    asking.run("fourth", QUESTIONS[:1] * 3)
    asking.check_answers("fourth")
    assert asking.sent() == {QUESTIONS[0]: 1}


@pytest.mark.usefixtures("many_commits")
def test_a_split_that_was_cut_short_finds_the_answers_again(asking, monkeypatch):
    """Its rows go when it is begun again, and the answers that it had reused of a workload that was cleaned meanwhile stay."""
    asking.run("first", QUESTIONS)
    asking.run("second", QUESTIONS)
    with monkeypatch.context() as patched:
        around_commits(patched, after=lambda number: stop() if number == 4 else None)
        patched.setattr(unfinished, "abandon", lambda *_: None)  # as after a kill
        with pytest.raises(KeyboardInterrupt):
            asking.split("work", QUESTIONS * 4)
    asking.clean("first")

    progress = asking.run("work", QUESTIONS * 4)

    asking.check_answers("work")
    assert (progress.workload.reused_requests, progress.workload.repeated_requests) == (24, 0)
    assert asking.sent() == dict.fromkeys(QUESTIONS, 1)
    asking.clean("second")
    asking.check_answers("work")
    asking.clean("work")
    assert asking.left() == {}


def stop() -> None:
    """Interrupt the split."""
    raise KeyboardInterrupt


@pytest.mark.usefixtures("many_commits")
@pytest.mark.parametrize("number", [1, 3])
def test_an_answer_that_is_cleaned_before_it_is_given_is_bought(asking, monkeypatch, number):
    """The donor is cleaned after its answers were found and before they are committed: the split begins again and sends."""
    asking.run("donor", QUESTIONS)
    around_commits(monkeypatch, before=lambda now: asking.clean("donor") if now == number else None)

    progress = asking.run("work", QUESTIONS * 2)

    assert progress.all_succeeded
    asking.check_answers("work")
    assert asking.sent() == dict.fromkeys(QUESTIONS, 2)
    asking.clean("work")
    assert asking.left() == {}


def test_a_result_of_another_attempt_is_not_given(asking, monkeypatch):
    """The donor's rejected answer was found, but before the commit its request got another result: the split begins again."""
    donor_rules = AnswerRules(format="choice", choices=("yes", "no"), tries=1).model_dump_json()
    asking.run("donor", QUESTIONS[:1], answer_rules=donor_rules)

    other = asking.beside()

    def ask_again(now: int) -> None:
        if now == 1:
            asking.timed.provider.answer = lambda line: refused(line, 400, "bad_thing", "No.")
            other.runner.reopen("donor", failed=True)
            other.finish("donor")
            asking.timed.provider.answer = answered

    around_commits(monkeypatch, before=ask_again)
    asking.run("work", QUESTIONS[:1])

    asking.check_answers("work")


def test_answers_of_an_earlier_attempt_are_handed_on(asking):
    """A rejected answer was reused, then its request was asked again: when it is cleaned, the reused answer stays to be found."""
    rules = AnswerRules(format="choice", choices=("yes", "no"), tries=1).model_dump_json()
    asking.run("donor", QUESTIONS[:1], answer_rules=rules)
    asking.run("work", QUESTIONS[:1])
    asking.runner.reopen("donor", failed=True)
    asking.finish("donor")
    assert asking.sent() == {QUESTIONS[0]: 2}

    asking.clean("donor")
    asking.run("later", QUESTIONS[:1] * 2)

    asking.check_answers("work")
    asking.check_answers("later")
    assert asking.sent() == {QUESTIONS[0]: 2}


def test_a_clean_waits_for_a_split_that_reuses_its_answers(postgres_url, tmp_path, monkeypatch):
    """The clean comes between the answers and the commit: it waits, and then keeps what the split has reused."""
    add_answered = reuse.add_answered
    with ExitStack() as stack:
        asking = Asking(TimedRun(stack, postgres_url, tmp_path), tmp_path)
        asking.run("donor", QUESTIONS)
        other = asking.beside()
        pool = stack.enter_context(ThreadPoolExecutor(1))
        cleaned = []

        def clean_meanwhile(*given):
            answered_now = add_answered(*given)
            cleaned.append(pool.submit(other.clean, "donor"))
            wait_for_a_lock(asking.runner.store)
            return answered_now

        monkeypatch.setattr(reuse, "add_answered", clean_meanwhile)

        asking.run("work", QUESTIONS * 2)

        cleaned[0].result()
        asking.check_answers("work")
        assert len(cleaned) == 1
        assert asking.sent() == dict.fromkeys(QUESTIONS, 1)
