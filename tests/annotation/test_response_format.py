"""What a request demands of its answer, by model."""

from __future__ import annotations

from typing import Any

import pytest

from batchkit.annotation.parameters import Parameters
from batchkit.annotation.recipe import Prompt, Recipe
from batchkit.annotation.response_format import plan_response_format
from batchkit.answers.rules import AnswerRules
from batchkit.provider.groq.dialect import GROQ

STRICT, BEST_EFFORT, JSON_MODE = (
    "openai/gpt-oss-20b",
    "meta-llama/llama-4-scout-17b-16e-instruct",
    "llama-3.1-8b-instant",
)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"label": {"enum": ["a", "b"]}, "items": {"type": "array", "items": {"$ref": "#/$defs/item"}}},
    "required": ["label", "items"],
    "additionalProperties": False,
    "$defs": {
        "item": {
            "type": "object",
            "properties": {"name": {"type": "string"}},
            "required": ["name"],
            "additionalProperties": False,
        }
    },
}


def demand(model, *, has_prefill=False, user="{{ text }}", **rules):
    """Ask a model under some rules; ``parameters`` and ``instruct`` go to the recipe."""
    fields = {name: rules.pop(name) for name in ("parameters", "instruct") if name in rules}
    recipe = Recipe(
        kind="annotate", models=(model,), prompts=(Prompt(user=user),), rules=AnswerRules(**rules), **fields
    )
    return plan_response_format(recipe, model, GROQ.models, has_prefill=has_prefill)


def test_a_model_that_is_held_to_a_schema_gets_it_strictly():
    """The system message has only the user's text."""
    made = demand(STRICT, format="json", json_schema=SCHEMA)
    assert made.instruction is None
    assert made.members["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
    }


@pytest.mark.parametrize(
    "loose",
    [
        {**SCHEMA, "additionalProperties": True},
        {**SCHEMA, "required": ["label"]},
        {**SCHEMA, "$defs": {"item": {"type": "object", "properties": {"name": {"type": "string"}}}}},
        {**SCHEMA, "properties": {**SCHEMA["properties"], "x": {"anyOf": [{"type": "object"}, {"type": "null"}]}}},
    ],
)
def test_a_schema_that_strict_mode_would_refuse_is_not_sent_strictly(loose):
    """Every object, also a nested one, must require all its properties and allow no others."""
    described = demand(STRICT, format="json", json_schema=loose).members["response_format"]["json_schema"]
    assert described == {"name": "answer", "schema": loose}


def test_other_models_get_the_schema_without_a_guarantee_or_an_instruction():
    """JSON mode comes with the schema in the system message, which speaks of JSON as that mode needs."""
    assert demand(BEST_EFFORT, format="json", json_schema=SCHEMA).members["response_format"]["json_schema"] == {
        "name": "answer",
        "schema": SCHEMA,
    }
    made = demand(JSON_MODE, format="json", json_schema=SCHEMA)
    assert made.members == {"response_format": {"type": "json_object"}}
    assert made.instruction is not None
    assert "JSON Schema" in made.instruction
    assert '"label"' in made.instruction


def test_a_document_that_is_no_object_gets_an_instruction():
    """Neither JSON mode nor a schema's can write a list."""
    made = demand(STRICT, format="json", json_schema={"type": "array", "items": {"type": "string"}})
    assert made.members == {}
    assert "JSON Schema" in (made.instruction or "")


def test_an_answer_whose_beginning_is_given_gets_an_instruction():
    """As the documentation's own example of prefilling does."""
    made = demand(STRICT, format="json", json_schema=SCHEMA, has_prefill=True)
    assert made.members == {}
    assert "JSON Schema" in (made.instruction or "")


@pytest.mark.parametrize(
    ("rules", "instruction"),
    [
        ({"format": "choice", "choices": ("yes", "no")}, "exactly one of these, and with nothing else: yes; no"),
        ({"format": "choice", "choices": ("a;b", "c")}, "exactly one of these, and with nothing else:\n- a;b\n- c"),
        ({"format": "number", "minimum": 1, "maximum": 5}, "one number from 1 to 5,"),
        ({"format": "number", "minimum": 0.5}, "one number of at least 0.5,"),
        ({"format": "number", "maximum": 9}, "one number of at most 9,"),
        ({"format": "number", "minimum": 1234567, "maximum": 1e15}, "one number from 1234567 to 1000000000000000,"),
        ({"format": "number"}, "one number,"),
        ({"format": "pattern", "pattern": r"\d{4}"}, r"\d{4}"),
        ({"format": "json"}, "one JSON object"),
    ],
)
def test_light_rules_are_told_in_the_system_message(rules, instruction):
    """Unless the user wants the prompt as it is."""
    assert instruction in (demand(STRICT, **rules).instruction or "")
    assert demand(STRICT, **rules, instruct=False).instruction != demand(STRICT, **rules).instruction


def test_json_mode_never_goes_without_the_word_that_it_needs():
    """A prompt that speaks of JSON itself is left alone."""
    asked = {"format": "json", "json_schema": SCHEMA, "instruct": False}
    assert demand(JSON_MODE, **asked).instruction == "Answer in JSON."
    assert demand(JSON_MODE, **asked, user="As JSON: {{ text }}").instruction is None


def test_the_user_may_choose_the_format():
    """For a model that is newer than the table of models, say."""
    forced = demand(JSON_MODE, format="json", json_schema=SCHEMA, parameters=Parameters(response_format="json_schema"))
    assert forced.members["response_format"]["type"] == "json_schema"
    assert demand(STRICT, format="any").members == {}
