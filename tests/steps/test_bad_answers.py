"""Workloads with answer rules: a bad answer is a failed attempt, is asked for again, and never replaces a good answer."""

from __future__ import annotations

from typing import Any

import pytest

from batchkit.answers.rules import AnswerRules
from batchkit.emulator.faults import answers, lines
from batchkit.errors import WorkloadConflict
from batchkit.files import jsonl
from tests.workloads import chat_line, read_lines

COUNT = 40
HIT = 5
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"label": {"enum": ["good", "bad"]}},
    "required": ["label"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "label", "schema": SCHEMA}}
RULES = AnswerRules(format="json", json_schema=SCHEMA)


def source(harness, **body):
    """Write an input of chat requests that ask for a label."""
    path = harness.home / "input.jsonl"
    path.parent.mkdir(exist_ok=True, parents=True)
    given = {"response_format": FORMAT, **body}
    path.write_bytes(b"".join(jsonl.dumps(chat_line(f"row-{n}", f"text {n}", **given)) + b"\n" for n in range(COUNT)))
    return path


def finish(harness, rules=RULES, shard_lines=20, **body):
    """Run the input under rules until it is finished; return the last snapshot and the exported lines by custom_id."""
    workload = harness.split(source(harness, **body), answer_rules=rules.model_dump_json(), shard_lines=shard_lines)
    progress = harness.runner.process(workload.id)
    target = harness.home / "out.jsonl"
    harness.runner.export("work", target)
    return progress, {line["custom_id"]: line for line in read_lines(target)}


def sent(harness) -> dict[str, list[dict[str, Any]]]:
    """Return the bodies that were sent for each custom_id, oldest attempt first."""
    attempts: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(harness.home.rglob("shards/*.jsonl"), key=lambda path: path.stat().st_mtime_ns):
        for line in read_lines(path):
            attempts.setdefault(line["custom_id"], []).append(line["body"])
    return attempts


BAD = {
    "not what was asked for": (answers.GarbleAnswers, "answer_invalid"),
    "cut off": (answers.CutAnswers, "answer_truncated"),
    "empty": (answers.EmptyAnswers, "answer_empty"),
    "stopped by a filter": (answers.FilterAnswers, "answer_filtered"),
    "a failed generation": (lines.FailGeneration, "generation_failed"),
}


@pytest.mark.parametrize(("fault", "code"), BAD.values(), ids=BAD)
def test_bad_answers_are_asked_for_again_until_they_are_good(open_harness, fault, code):
    """Each bad answer is a failed attempt with its own reason; only those requests are sent again, with a changed body."""
    harness = open_harness(fault(count=HIT, attempts=1))

    progress, found = finish(harness, max_completion_tokens=500)

    assert progress.all_succeeded
    again = {custom_id for custom_id, line in found.items() if line["attempts"] == 2}
    assert len(again) == 2 * HIT
    for line in found.values():
        assert jsonl.loads(line["response"]["body"]["choices"][0]["message"]["content"])["label"] in {"good", "bad"}
    assert sorted(failed_attempts(harness)) == [("invalid", code)] * 2 * HIT
    attempts = sent(harness)
    assert {custom_id for custom_id, bodies in attempts.items() if len(bodies) == 2} == again
    for custom_id in again:
        first, second = attempts[custom_id]
        changed = {name for name in {*first, *second} if first.get(name) != second.get(name)}
        assert changed == ({"max_completion_tokens"} if code == "answer_truncated" else {"seed"})


def failed_attempts(harness) -> list[tuple[str, str]]:
    """Return the kinds and codes of the failed attempts."""
    with harness.runner.store.read() as connection:
        rows = connection.exec_driver_sql("SELECT kind, error_code FROM attempts").all()
    return [(kind, code) for kind, code in rows]


def test_an_answer_that_stays_bad_fails_with_its_reason_and_its_text(open_harness):
    """After the attempts that the rules allow, the request fails; its last answer is kept, and each attempt is counted as paid."""
    harness = open_harness(answers.GarbleAnswers(custom_ids=frozenset({"row-3", "row-30"})))

    progress, found = finish(harness, AnswerRules(format="json", json_schema=SCHEMA, tries=2))

    failed = [line for line in found.values() if line["status"] == "failed"]
    assert (progress.counts.failed, progress.counts.succeeded) == (2, COUNT - 2)
    for line in failed:
        assert line["attempts"] == 2
        assert line["error"]["code"] == "answer_invalid"
        assert line["error"]["message"].startswith("not JSON")
        assert line["response"]["body"]["choices"][0]["message"]["content"].startswith("Well, let me see")
    succeeded = sum(line["response"]["body"]["usage"]["total_tokens"] for line in found.values())
    assert progress.usage.total_tokens > succeeded


def test_a_refused_answer_is_bought_once(open_harness):
    """Another seed would be refused as well: the request fails with the model's text, until the user resubmits it."""
    refused = frozenset({"row-3", "row-30"})
    harness = open_harness(answers.RefuseAnswers(custom_ids=refused, words="Not that.", attempts=1))

    progress, found = finish(harness)

    assert (progress.counts.failed, progress.counts.succeeded) == (2, COUNT - 2)
    for custom_id in refused:
        line = found[custom_id]
        assert (line["attempts"], line["error"]["code"]) == (1, "answer_refused")
        assert line["error"]["message"] == "the model refuses: Not that."

    assert harness.runner.reopen("work", failed=True) == 2
    assert harness.runner.process(harness.runner.find("work").id).all_succeeded
    assert {len(bodies) for custom_id, bodies in sent(harness).items() if custom_id in refused} == {2}


def test_a_bad_answer_never_takes_the_place_of_a_good_one(open_harness):
    """Of two answers to one request the good one is kept, in either order of arrival."""
    harness = open_harness(lines.DuplicateLines(count=HIT, second="other"))

    progress, found = finish(harness)

    assert progress.all_succeeded
    assert {line["attempts"] for line in found.values()} == {1}


def test_without_rules_every_answer_counts(open_harness):
    """Without rules, a workload accepts whatever the model answers."""
    harness = open_harness(answers.GarbleAnswers(count=HIT), answers.CutAnswers(count=HIT))
    workload = harness.split(source(harness), shard_lines=20)
    assert harness.runner.process(workload.id).all_succeeded
    assert failed_attempts(harness) == []


def test_a_name_keeps_its_rules(open_harness):
    """The same name with other rules is refused, because its answers would be read differently."""
    harness = open_harness()
    path = source(harness)
    harness.split(path, answer_rules=RULES.model_dump_json())
    with pytest.raises(WorkloadConflict, match="made in another way"):
        harness.split(path)
    with pytest.raises(WorkloadConflict, match="made in another way"):
        harness.split(path, answer_rules=AnswerRules().model_dump_json())
    harness.split(path, answer_rules=RULES.model_dump_json())


def test_many_bad_answers_among_small_shards_are_each_asked_again_once(open_harness):
    """Attempts run through many shards: a bad answer is traced to the shard it came from, so no other request is changed."""
    harness = open_harness(answers.GarbleAnswers(fraction=0.3, attempts=1), lines.ExpireLines(fraction=0.2, attempts=1))

    progress, _ = finish(harness, shard_lines=4)

    assert progress.all_succeeded
    for bodies in sent(harness).values():
        assert "seed" not in bodies[0]
        assert all(body.get("seed") is None or body != bodies[0] for body in bodies[1:])
