"""For any answer of a provider, the answer rules give a value or a reason, never a crash, on every path through the merge."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from batchkit import preflight
from batchkit.answers.amend import amended
from batchkit.answers.check import AnswerCheck
from batchkit.answers.reasons import Reason
from batchkit.answers.rules import AnswerRules
from batchkit.files import jsonl
from batchkit.provider.groq.dialect import GROQ
from tests.properties.odd_json import nearly_json, texts, values, written
from tests.workloads import chat_line

RULES = [
    AnswerRules(),
    AnswerRules(format="json"),
    AnswerRules(
        format="json", json_schema={"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    ),
    AnswerRules(format="choice", choices=("yes", "no")),
    AnswerRules(format="pattern", pattern="[a-z]+"),
    AnswerRules(format="number", minimum=0),
    AnswerRules(format="tools"),
    AnswerRules(format="transcript"),
    AnswerRules(format="safety"),
]
CHECKS = [AnswerCheck(rules) for rules in RULES]
contents = (
    texts | values.map(lambda value: written(value).decode()) | st.sampled_from(["safe", "unsafe\nS1", "7", "yes"])
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Draw the body of an answer: of the usual shape with odd contents, or of any shape."""
    if draw(st.booleans()):
        return draw(nearly_json | values.map(written))
    message = {"role": "assistant", "content": draw(contents | values)}
    if draw(st.booleans()):
        message["tool_calls"] = draw(values | st.just([{"function": {"name": "f", "arguments": "{}"}}]))
    return written(
        {"choices": [{"message": message, "finish_reason": draw(st.sampled_from(["stop", "length", None]))}]}
    )


def test_any_body_has_a_value_or_a_reason(effort):
    """Whatever the body, each kind of rule reads it or gives a reason that can be stored."""

    @effort(quick=150, deep=20_000)
    @given(body=bodies())
    @example(body=b'"\xed\xa0\x80"')
    def holds(body: bytes) -> None:
        for check in CHECKS:
            reading = check.read(body)
            if reading.code is None:
                jsonl.dumps(reading.value)
            else:
                assert reading.value is None
                assert reading.code in set(Reason)
                assert reading.message == jsonl.storable_text(reading.message)
                assert len(reading.message) <= 500

    holds()


def test_an_amended_request_is_valid(effort):
    """The changed request of the next attempt passes the same checks, with the same custom_id and question."""

    @effort(quick=60, deep=5_000)
    @given(
        tokens=st.none() | st.integers(1, 40_000),
        temperature=st.none() | st.floats(0, 2),
        reason=st.sampled_from(Reason),
        attempt_key=st.integers(1, 2**40),
    )
    def holds(tokens: int | None, temperature: float | None, reason: Reason, attempt_key: int) -> None:
        line = chat_line("row-1", max_completion_tokens=tokens, temperature=temperature)
        data = amended(jsonl.dumps(line), reason, RULES[0], attempt_key=attempt_key)
        record = jsonl.loads(data)
        assert preflight.inspect(record, len(data), GROQ.rules).reasons == ()
        assert (record["custom_id"], record["url"]) == (line["custom_id"], line["url"])
        assert record["body"]["messages"] == line["body"]["messages"]
        assert record["body"] != line["body"]

    holds()
