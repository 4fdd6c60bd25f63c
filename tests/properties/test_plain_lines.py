"""The fast readers of plain lines: whatever they accept, the strict readers accept as well, with the same meaning."""

from __future__ import annotations

import json  # noqa: TID251 - reads with other eyes than the code under test
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchkit import preflight
from batchkit.files import jsonl
from batchkit.lifecycle import LineCodes, classify
from batchkit.models import LineOutcome, OutcomeKind
from batchkit.provider.dialects import dialect_named
from batchkit.provider.groq.dialect import GROQ
from batchkit.steps.answer_facts import facts_of
from batchkit.steps.plain_answers import plain_answers
from batchkit.store.rows import AnswerFacts
from tests.properties.odd_json import changed, mutations, nearly_json, numbers, texts, written
from tests.properties.test_output_bytes import answer
from tests.properties.wording import chat_body
from tests.workloads import audio_line, chat_line

PLAIN_REQUEST = written(chat_line("row-1", temperature=0.5, max_completion_tokens=9, seed=3, reasoning_effort="low"))
PLAIN_ANSWER = written(answer("row-1", chat_body("Lima, naïve \u2028 \U0001f600")))

#: The rules of a server that takes short lines and short ids, and has no rules for parameters.
SHORT = replace(dialect_named("openai").rules, max_line_bytes=len(PLAIN_REQUEST), max_custom_id_chars=5)

parameters = st.dictionaries(
    st.sampled_from(
        [
            "temperature",
            "top_p",
            "frequency_penalty",
            "presence_penalty",
            "max_completion_tokens",
            "max_tokens",
            "seed",
            "reasoning_effort",
            "stop",
            "n",
            "logprobs",
            "stream",
        ]
    ),
    numbers | texts | st.none() | st.booleans() | st.sampled_from(["none", "default", "low", "high"]),
    max_size=3,
)
models = st.sampled_from(
    [
        "openai/gpt-oss-20b",
        "Qwen/qwen3-32b",
        "whisper-large-v3",
        "Meta-Llama/Llama-Guard-4-12B",
        "playai-tts",
        "",
        "new",
    ]
)
custom_ids = st.sampled_from(["row-1", "", "a b", "é", "x" * 64, "x" * 65, "a\x00", "a\n", "\uff58"]) | texts


@st.composite
def request_lines(draw: st.DrawFn) -> bytes:
    """Draw a request: plain, or with content that only the strict reader handles."""
    record: dict[str, Any] = draw(st.sampled_from([chat_line, chat_line, audio_line]))(draw(custom_ids))
    record["body"] |= draw(parameters)
    if draw(st.booleans()):
        record["body"]["model"] = draw(models)
    return draw(_as_sent(record))


@st.composite
def answer_lines(draw: st.DrawFn) -> bytes:
    """Draw an answer: plain, or with content that only the strict reader handles."""
    body: dict[str, Any] = draw(st.builds(chat_body, texts) | st.fixed_dictionaries({"text": texts}))
    record = answer(draw(custom_ids), body)
    for name in ("model", "service_tier"):
        if draw(st.booleans()):
            body[name] = draw(st.sampled_from(["openai/gpt-oss-20b", "batch", "", None, 7, "x" * 300, "a\x00b", []]))
    record["response"]["request_id"] = draw(st.sampled_from(["req_1", "", None, "x" * 300, "a\x00b"]))
    return draw(_as_sent(record))


@st.composite
def _as_sent(draw: st.DrawFn, record: dict[str, Any]) -> bytes:
    match draw(st.integers(0, 9)):
        case 0:
            return draw(mutations(written(record)))
        case 1:
            return written(draw(changed(record)))
        case 2:
            return draw(nearly_json)
        case 3:
            return json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass")
        case _:
            return written(record)


def block_of(lines: list[bytes]) -> bytes:
    """Return lines as one block, each with its line end."""
    return b"".join(line + b"\n" for line in lines)


@pytest.mark.parametrize("rules", [GROQ.rules, SHORT], ids=["groq", "another provider"])
def test_a_plain_request_is_one_without_a_reason_or_a_warning(effort, rules):
    """The fast reader accepts a block only if each line passes every check without a warning, and returns the lines' ids."""

    @effort(quick=150, deep=20_000)
    @given(lines=st.lists(request_lines(), min_size=1, max_size=3))
    @example(lines=[PLAIN_REQUEST, PLAIN_REQUEST * 2, b""])
    @example(lines=[PLAIN_REQUEST, b" "])
    @example(lines=[PLAIN_REQUEST[:-1], b"}" + PLAIN_REQUEST])
    @example(lines=[PLAIN_REQUEST.replace(b"Peru", b"\xff")])
    @example(lines=[PLAIN_REQUEST.replace(b"Peru", b"\\ud800")])
    @example(lines=[PLAIN_REQUEST, PLAIN_REQUEST.replace(b'"low"', b'"none"')])
    def holds(lines) -> None:
        found = preflight.plain_chats(block_of(lines), lines, rules)

        if found is not None:
            inspected = [preflight.inspect(jsonl.loads(line), len(line), rules) for line in lines]
            assert [(item.reasons, item.warnings) for item in inspected] == [((), ())] * len(lines)
            assert [(item.custom_id, item.model) for item in inspected] == [
                (chat.custom_id, chat.body.model) for chat in found
            ]
            assert {item.endpoint for item in inspected} == {preflight.PLAIN_ENDPOINT}

    holds()


def test_a_plain_answer_is_a_success_with_the_same_facts(effort):
    """The fast reader accepts a block only if each answer is a success to the strict reader, which reads the same facts.

    Invalid UTF-8 outside of the fields that are read is no reason to refuse a paid answer.
    """

    @effort(quick=150, deep=20_000)
    @given(lines=st.lists(answer_lines(), min_size=1, max_size=3))
    @example(lines=[PLAIN_ANSWER * 2, b""])
    @example(lines=[PLAIN_ANSWER.replace(b"Lima", b"\\ud800")])
    @example(lines=[PLAIN_ANSWER.replace(b"Lima", b"\xff")])
    @example(lines=[written(answer("row-1", {}))])
    @example(lines=[written(answer("row-1", chat_body("x") | {"error": {"code": "hidden"}}))])
    def holds(lines) -> None:
        found = plain_answers(block_of(lines))

        if found is not None:
            records = list(_objects(block_of(lines).decode(errors="replace")))
            assert found.custom_ids == [record["custom_id"] for record in records]
            for place, record in enumerate(records):
                read = jsonl.read_output_line(record)
                assert read is not None
                assert classify(read, LineCodes()) == LineOutcome(OutcomeKind.SUCCEEDED, 200)
                assert found.request_ids[place] == read.request_id
                assert json.loads(found.bodies[place]) == read.body
                assert "\n" not in found.bodies[place]
                assert AnswerFacts(*(column[place] for column in found.facts)) == facts_of(read.body)

    holds()


def _objects(text: str) -> Any:
    decoder = json.JSONDecoder()
    place = 0
    while (rest := text[place:].lstrip(" \n\r\t")) != "":
        value, end = decoder.raw_decode(rest)
        place = len(text) - len(rest) + end
        yield value


def test_plain_lines_take_the_fast_path():
    """The usual lines of inputs and outputs do not need the strict reader."""
    requests = [
        PLAIN_REQUEST,
        written(chat_line("row-2")),
        json.dumps(chat_line("row-3", "größe"), ensure_ascii=False).encode(),
    ]
    answers = [
        PLAIN_ANSWER,
        written(answer("row-2", {"text": "spoken"})),
        written(answer("row-3", chat_body("x") | {"usage": None})),
    ]

    chats = preflight.plain_chats(block_of(requests), requests, GROQ.rules)
    assert chats is not None
    assert [chat.custom_id for chat in chats] == ["row-1", "row-2", "row-3"]
    found = plain_answers(block_of(answers))
    assert found is not None
    assert found.custom_ids == ["row-1", "row-2", "row-3"]
