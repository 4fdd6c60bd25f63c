"""Answers outlive the workload that bought them for as long as another workload has reused them."""

from __future__ import annotations

from itertools import count

import pytest

from batchkit.files import compressed
from batchkit.steps import cutting
from batchkit.steps import reuse as reuse_step
from tests.steps.asking import Asking

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
