"""Reuse: a question that has a valid answer here is not sent again, within an input and across workloads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from batchkit.emulator import Scenario
from batchkit.emulator.faults import batches, calls, lines
from batchkit.files import jsonl
from batchkit.models import ReuseMode
from tests.workloads import chat_line

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from batchkit.engine.progress import Progress
    from tests.steps.conftest import Harness

ON = {"reuse": ReuseMode.ON, "shard_lines": 10}


def write(path: Path, requests: Iterable[dict[str, Any]]) -> Path:
    """Write requests as lines."""
    path.write_bytes(b"".join(jsonl.dumps(request) + b"\n" for request in requests))
    return path


def asked(harness: Harness, name: str, questions: Iterable[str], **options: Any) -> Progress:
    """Run a workload of questions, each a request whose custom_id is its place."""
    source = write(
        harness.home.parent / f"{name}.jsonl", [chat_line(f"{name}-{n}", text) for n, text in enumerate(questions)]
    )
    workload = harness.split(source, name=name, **{**ON, **options})
    return harness.runner.process(workload.id)


def texts_of(harness: Harness, name: str) -> list[str]:
    """Return the answers of a workload in input order."""
    return [row["response"]["body"]["choices"][0]["message"]["content"] for row in harness.export(name)]


def executed(harness: Harness) -> int:
    """Return how many requests the provider has executed so far."""
    return harness.emulator.ledger(with_executions=False).totals.requests_executed


def rows_of(harness: Harness, query: str) -> list[tuple[Any, ...]]:
    """Run a query on the database."""
    with harness.runner.store.read() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def test_a_repeated_question_is_sent_once_and_answered_everywhere(open_harness):
    """Each request keeps its own custom_id and place; what is paid for is one answer per question."""
    harness = open_harness()
    progress = asked(harness, "work", [f"question {n % 7}" for n in range(60)])
    assert progress.all_succeeded
    assert progress.counts.total == progress.counts.succeeded == 60
    assert executed(harness) == 7
    assert [row["custom_id"] for row in harness.export("work")] == [f"work-{n}" for n in range(60)]
    answers_given = texts_of(harness, "work")
    assert answers_given == answers_given[:7] * 8 + answers_given[:4]
    assert len(set(answers_given)) == 7


def test_a_grown_input_sends_only_what_is_new(open_harness):
    """The answers of the earlier workload are there at once, and only the rest is split into shards."""
    harness = open_harness()
    asked(harness, "pilot", [f"question {n}" for n in range(20)])
    before = texts_of(harness, "pilot")
    progress = asked(harness, "whole", ["new at the front", *(f"question {n}" for n in range(20)), "new at the end"])
    assert progress.all_succeeded
    assert executed(harness) == 22
    assert texts_of(harness, "whole")[1:-1] == before
    assert (progress.workload.reused_requests, progress.workload.repeated_requests) == (20, 0)


def test_an_input_that_is_known_whole_is_finished_when_it_is_split(open_harness):
    """Nothing is uploaded, and the workload has no shard."""
    harness = open_harness()
    asked(harness, "first", ["one", "two", "two"])
    source = write(harness.home.parent / "again.jsonl", [chat_line("a", "two"), chat_line("b", "one")])
    workload = harness.split(source, name="again", **ON)
    progress = harness.runner.progress(workload.id)
    assert progress.is_finished
    assert progress.all_succeeded
    assert texts_of(harness, "again") == [texts_of(harness, "first")[1], texts_of(harness, "first")[0]]
    assert rows_of(harness, "SELECT DISTINCT workload_id FROM shards") == [(harness.runner.find("first").id,)]
    assert harness.runner.process(workload.id).is_finished


@pytest.mark.parametrize("changed", [{"temperature": 0.1}, {"seed": 7}, {"model": "openai/gpt-oss-120b"}])
def test_any_other_byte_of_the_body_is_another_question(open_harness, changed):
    """The same text with another parameter is sent."""
    harness = open_harness()
    asked(harness, "first", ["one"])
    source = write(harness.home.parent / "second.jsonl", [chat_line("a", "one", **changed)])
    harness.runner.process(harness.split(source, name="second", **ON).id)
    assert executed(harness) == 2


def test_without_reuse_nothing_is_shared_or_noted(open_harness):
    """Every line is sent, no digest is stored, and later workloads cannot reuse the answers."""
    harness = open_harness()
    asked(harness, "plain", ["one", "one"], reuse=None)
    assert executed(harness) == 2
    assert rows_of(harness, "SELECT count(*) FROM requests WHERE digest IS NOT NULL") == [(0,)]
    asked(harness, "later", ["one"])
    assert executed(harness) == 3


def test_what_goes_wrong_with_a_leader_is_bought_once_for_all_who_follow_it(open_harness):
    """Requests that expire, go missing or are refused for now, and torn downloads: leaders alone are sent again, nothing twice."""
    harness = open_harness(
        lines.ExpireLines(custom_ids=frozenset({"work-1"}), attempts=1),
        lines.DropLines(custom_ids=frozenset({"work-2"}), attempts=1),
        lines.FailLines(custom_ids=frozenset({"work-3"}), status=503, attempts=1),
        lines.FailLines(custom_ids=frozenset({"work-4"}), code="bad_thing"),
        calls.CutDownloads(times=1, per_object=True, how="close-delimited"),
        batches.ShuffleOutput(),
    )
    progress = asked(harness, "work", [f"question {n % 7}" for n in range(42)])
    assert (progress.counts.succeeded, progress.counts.failed) == (36, 6)
    ledger = harness.emulator.ledger()
    assert ledger.totals.bought_twice == 0
    leaders = {f"work-{number}" for number in range(7)}
    assert dict(ledger.executed) == dict.fromkeys(leaders, 1) | {"work-3": 2}
    assert {row["error"]["code"] for row in harness.export("work") if row["error"]} == {"bad_thing"}
    harness.emulator.set_scenario(Scenario())
    assert harness.runner.reopen("work", failed=True) == 6
    assert harness.runner.process(progress.workload.id).all_succeeded
    assert harness.emulator.ledger().executed == ledger.executed | {"work-4": 2}
