"""Quirks of the lines in result files, and what happens to their requests. See ``test_quirks`` for the table."""

from __future__ import annotations

import csv

import pytest

from batchkit.emulator.faults import answers, batches, calls, lines
from batchkit.errors import InputInvalid
from tests.steps.seen import COUNT, run, taking_turns
from tests.workloads import audio_line, chat_line

#: The ``count`` of a fault applies per batch, and the smaller of the two batches has two lines.
HIT = 2
BOTH = 2 * HIT


@taking_turns("executed", {"never run": False, "run and withheld": True})
def test_quirk_02_missing_lines_are_fetched_again_then_sent_again(open_harness, executed):
    """Files that lack lines are fetched three times; then only the missing requests are sent again.

    A note says so. A request that was executed and withheld is paid for twice: the provider does not show that it was executed.
    """
    harness = open_harness(lines.DropLines(count=1, attempts=1, executed=executed))

    seen = run(harness)

    seen.check_all_succeeded(bought_twice=2 if executed else 0)
    assert seen.noted("its files look torn, and did so in each of 3 downloads")
    assert seen.noted("1 request is sent again")
    assert [line["attempts"] for line in seen.lines].count(2) == 2
    assert seen.ledger.calls["files.content"] == 3 + 3 + 2


def test_quirk_02_missing_lines_are_noticed_without_counts(open_harness):
    """Counts prove nothing: without them the same lines are found missing, and fetched again as often."""
    harness = open_harness(lines.DropLines(count=1, attempts=1), batches.LyingCounts(say="null"))

    seen = run(harness)

    seen.check_all_succeeded()
    assert seen.ledger.calls["files.content"] == 3 + 3 + 2


@taking_turns("second", {"the same": "same", "another answer": "other", "an error": "error"})
def test_quirk_03_the_first_success_counts(open_harness, second):
    """Of two lines for one request the first success is kept, whatever the other line is; a note counts such lines."""
    seen = run(open_harness(lines.DuplicateLines(count=HIT, second=second)))

    seen.check_all_succeeded()
    assert seen.noted(f"{HIT} repeated answers")
    assert seen.ledger.totals.requests_executed == COUNT


def test_quirk_03_repeated_ids_are_refused_before_anything_is_sent(open_harness):
    """An input that repeats a custom_id is bad input (exit code 2), even if the provider would run both lines."""
    harness = open_harness(batches.AllowDuplicateIds())

    with pytest.raises(InputInvalid) as caught:
        run(harness, [chat_line("one"), chat_line("two"), chat_line("one")])

    assert caught.value.exit_code == 2
    assert [(problem.line, "one" in problem.reason) for problem in caught.value.problems] == [(3, True)]
    assert harness.emulator.ledger().calls == {}


def test_quirk_04_an_answer_with_an_unknown_id_is_counted_and_ignored(open_harness):
    """A line with an unknown custom_id is stored on no row; a note counts such lines."""
    seen = run(open_harness(lines.UnknownLines(count=HIT)))

    seen.check_all_succeeded()
    assert seen.noted(f"{HIT} lines for requests that were not in it")
    assert len(seen.lines) == COUNT


@taking_turns("how", {"cut": "cut", "a raw control character": "unescaped", "not UTF-8": "not-utf8"})
def test_quirk_05_an_invalid_json_line_affects_only_its_request(open_harness, how):
    """Other lines keep their answers; the request without a usable answer is sent again, and a note says so."""
    seen = run(open_harness(lines.BreakLines(count=HIT, attempts=1, how=how)))

    seen.check_all_succeeded()
    assert seen.noted(f"{HIT} lines that are not JSON")
    assert seen.ledger.totals.requests_executed == COUNT + BOTH


def test_quirk_09_failures_are_found_although_the_counts_deny_them(open_harness):
    """The error file is read whatever the counts say: its requests fail with the provider's message (exit code 3)."""
    seen = run(
        open_harness(
            lines.FailLines(count=HIT, code="bad_thing", message="This cannot be."),
            batches.LyingCounts(say="none-failed"),
        )
    )

    seen.check_failed(BOTH, "bad_thing")
    assert seen.progress.failures[0].sample == "This cannot be."
    assert seen.ledger.totals.requests_executed == COUNT


def test_quirk_10_completed_does_not_mean_success(open_harness):
    """A completed batch without an output file answered all its requests with errors: they failed, and are final."""
    seen = run(open_harness(lines.FailLines(code="bad_thing")))

    seen.check_failed(COUNT, "bad_thing")
    assert {line["response"]["status_code"] for line in seen.lines} == {400}
    assert {line["attempts"] for line in seen.lines} == {1}
    assert {batch.output_file_id for batch in seen.ledger.batches} == {None}
    assert seen.ledger.totals.requests_executed == COUNT


@taking_turns("say", {"true counts": None, "no failures": "none-failed", "zeros": "zeros", "no counts": "null"})
def test_quirk_12_13_what_an_expired_batch_answered_is_kept(open_harness, say):
    """The answers of an expired batch count; the other requests are sent again with a longer window; nothing is executed twice."""
    lies = [] if say is None else [batches.LyingCounts(say=say)]

    seen = run(open_harness(lines.ExpireLines(count=5, attempts=1), *lies))

    seen.check_all_succeeded()
    assert seen.ledger.totals.requests_executed == COUNT
    assert {batch.status for batch in seen.progress.attention} == {"expired"}
    assert {batch.window for batch in seen.ledger.batches if batch.status == "completed"} == {"48h"}
    assert seen.progress.expired_attempts == 5 + HIT


def test_quirk_28_a_lack_of_capacity_in_a_line_passes(open_harness):
    """A line with status 498 does not refuse the request: it is sent again and succeeds."""
    fault = lines.FailLines(count=HIT, attempts=1, status=498, type="capacity_exceeded", code="capacity_exceeded")

    seen = run(open_harness(fault))

    seen.check_all_succeeded()
    assert [line["attempts"] for line in seen.lines].count(2) == BOTH


@taking_turns(
    "code,written",
    {
        "no JSON, nothing written": ("json_validate_failed", ""),
        "no tool call, half written": ("tool_use_failed", '{"a": '),
    },
)
def test_quirk_30_a_failed_generation_is_final_and_kept(open_harness, code, written):
    """The request fails with the provider's code (exit code 3), and its result line holds what the model had written."""
    seen = run(open_harness(lines.FailGeneration(count=HIT, code=code, failed_generation=written)))

    seen.check_failed(BOTH, code)
    errors = [line["response"]["body"]["error"] for line in seen.with_status("failed")]
    assert {error["failed_generation"] for error in errors} == {written}
    assert seen.ledger.totals.requests_executed == COUNT


def test_quirk_31_undocumented_fields_are_kept(open_harness):
    """Undocumented fields of a body are in the result line unchanged."""
    seen = run(open_harness(lines.ExtraLineFields(fields={"later": {"a": [1, None]}})))

    seen.check_all_succeeded()
    assert [line["response"]["body"]["later"] for line in seen.lines] == [{"a": [1, None]}] * COUNT


def test_quirk_32_raw_line_separators_tear_nothing(open_harness):
    """U+2028, U+2029 and U+0085 inside an answer do not end a line, and are in the result unchanged."""
    seen = run(open_harness(answers.RawSeparators()))

    seen.check_all_succeeded()
    bodies = [line["response"]["body"] for line in seen.lines]
    contents = [body["choices"][0]["message"]["content"] for body in bodies if "choices" in body]
    assert len(contents) == COUNT - HIT
    assert all(content.endswith("\u2028\u2029\u0085end") for content in contents)


def test_quirk_33_a_model_that_is_retired_in_mid_batch(open_harness):
    """Requests to the model fail with 404 and the provider's message (exit code 3); the others of the batch succeed."""
    model = "meta-llama/llama-4-scout-17b-16e-instruct"
    seen = run(open_harness(lines.RetireModels(models=frozenset({model}))))

    seen.check_failed(2, "model_not_found")
    assert {line["response"]["status_code"] for line in seen.with_status("failed")} == {404}
    assert {line["custom_id"].partition("-")[0] for line in seen.with_status("failed")} == {"picture"}
    assert len(seen.ledger.batches) == 2


def test_quirk_35_answers_are_kept_as_they_came(open_harness):
    """Truncated, empty, refused, filtered and malformed answers are answers: paid for, kept unchanged, with their finish reason."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"type": "integer"}}}}}
    ids = ("cut", "empty", "refused", "filtered")
    requests = [*map(chat_line, ids), chat_line("tool", tools=[tool], tool_choice="required")]
    harness = open_harness(
        answers.CutAnswers(custom_ids=frozenset({"cut"})),
        answers.EmptyAnswers(custom_ids=frozenset({"empty"})),
        answers.RefuseAnswers(custom_ids=frozenset({"refused"})),
        answers.FilterAnswers(custom_ids=frozenset({"filtered"})),
        answers.BreakToolCalls(custom_ids=frozenset({"tool"})),
    )

    seen = run(harness, requests)

    assert seen.exit_code == 0
    assert seen.ledger.totals.requests_executed == 5
    choices = [line["response"]["body"]["choices"][0] for line in seen.lines]
    assert choices[0]["finish_reason"] == "length"
    assert choices[1]["message"]["content"] is None
    assert choices[2]["message"]["refusal"] == "I cannot help with that."
    assert choices[4]["message"]["tool_calls"][0]["function"]["arguments"].count("{") == 1
    assert not choices[4]["message"]["tool_calls"][0]["function"]["arguments"].endswith("}")
    rows = _table(harness)
    assert [row["finish_reason"] for row in rows] == ["length", "stop", "stop", "content_filter", "tool_calls"]
    assert [row["answer"] for row in rows] == [choice["message"].get("content") or "" for choice in choices]


@taking_turns(
    "into,answer,reason",
    {
        "two choices": ("choices", "Echo: a ", "length"),
        "parts": ("parts", "Echo: a Echo: a question", "stop"),
        "items": ("output", "Echo: a Echo: a question", "stop"),
    },
)
def test_quirk_38_an_answer_in_several_items_is_kept_whole(open_harness, into, answer, reason):
    """The result line has all items; the text column of a table has the text and finish reason of the first choice."""
    text = "a question"
    harness = open_harness(answers.SplitAnswers(into=into))

    seen = run(harness, [chat_line("one", text), audio_line("sound")])

    assert seen.exit_code == 0
    assert seen.ledger.totals.requests_executed == 2
    body = seen.lines[0]["response"]["body"]
    items = body["output"] if into == "output" else body["choices"]
    items = items[0]["message"]["content"] if into == "parts" else items
    assert len(items) == 2
    assert f"Echo: {text}" in str(items[1])
    row = _table(harness)[0]
    assert (row["status"], row["finish_reason"]) == ("succeeded", reason)
    assert row["answer"] == answer


def _table(harness):
    target = harness.home.parent / "out.csv"
    harness.runner.export("work", target)
    with target.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_quirk_27_a_request_above_the_token_limit_is_final(open_harness):
    """A 413 in a line concerns that request alone: it fails with the provider's message, and is not sent again."""
    fault = lines.FailLines(count=1, status=413, type="tokens", code="rate_limit_exceeded", message="Limit 6000")

    seen = run(open_harness(fault, calls.RequestTooLarge()))

    seen.check_failed(2, "rate_limit_exceeded")
    assert {line["response"]["status_code"] for line in seen.with_status("failed")} == {413}
    assert seen.ledger.totals.requests_executed == COUNT
