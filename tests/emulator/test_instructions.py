"""Instructions of a system message are followed, so that answers of every kind can be had without a key."""

from __future__ import annotations

from typing import Any

import pytest

from batchkit.annotation import presets
from batchkit.annotation.response_format import plan_response_format
from batchkit.answers.check import AnswerCheck
from batchkit.emulator.answers.answers import answer
from batchkit.emulator.answers.model_request import ModelRequest
from batchkit.emulator.contract.endpoints import CHAT
from batchkit.files import jsonl
from batchkit.provider.groq.dialect import GROQ

DATED = {
    "type": "object",
    "properties": {"day": {"type": "string", "format": "date"}, "n": {"type": "integer"}},
    "required": ["day", "n"],
}
ASKED: list[dict[str, Any]] = [
    {"choices": ("yes", "no")},
    {"choices": ("U.S.", "*", "not sure")},
    {"choices": ("a; b", "a", "b;c")},
    {"number": (1, 5)},
    {"number": (None, None)},
    {"number": (0.25, 0.75)},
    {"number": (1_234_567, None)},
    {"number": (None, -7.5)},
    {"pattern": r"[A-Z]{2}\d{3}"},
    {"pattern": r"(\w+\s?)+\."},
    {"pattern": "^(?:red|green)$"},
    {"schema": DATED},
    {"schema": {"type": "array", "items": {"type": "string"}, "minItems": 1}},
]


@pytest.mark.parametrize("model", ["llama-3.1-8b-instant", "openai/gpt-oss-20b"])
@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_an_answer_to_any_kind_of_question_conforms(asked, model):
    """Whatever a table's question asks for, of each model; different questions have different answers."""
    recipe = presets.annotation("{{ text }}", models=[model], system="Be brief.", **asked)
    plan = plan_response_format(recipe, model, GROQ.models, has_prefill=False)
    check = AnswerCheck(recipe.answer_rules({}))
    values = []
    for number in range(12):
        system = "\n\n".join(filter(None, ["Be brief.", plan.instruction]))
        messages = [{"role": "system", "content": system}, {"role": "user", "content": f"question {number}"}]
        request = {"model": model, "messages": messages, **plan.members}
        status, body = answer(ModelRequest(CHAT, request, number, "req", 1_700_000_000, "batch"))
        reading = check.read(jsonl.dumps(body))
        assert (status, reading.code) == (200, None), reading.message
        values.append(jsonl.dumps(reading.value))
    assert len(set(values)) > 1


def test_what_is_beyond_the_emulator_is_echoed():
    """A look-ahead, say; and without an instruction nothing changes."""
    for system in (
        "Be brief.",
        "Answer with a text that this regular expression matches as a whole, and with nothing else: (?=a)b",
    ):
        messages = [{"role": "system", "content": system}, {"role": "user", "content": "hello"}]
        request = {"model": "llama-3.1-8b-instant", "messages": messages}
        _, body = answer(ModelRequest(CHAT, request, 1, "req", 1_700_000_000, "batch"))
        assert body["choices"][0]["message"]["content"] == "Echo: hello"
