"""Calls of tools conform to the tools of the request."""

from __future__ import annotations

from typing import Any

import pytest

from batchkit.answers.check import AnswerCheck, Reading
from batchkit.answers.rules import AnswerRules
from batchkit.errors import ConfigurationError
from tests.answers.support import read, said

PARAMETERS = {
    "type": "object",
    "properties": {"qty": {"type": "integer"}, "item": {"type": "string"}},
    "required": ["qty", "item"],
    "additionalProperties": False,
}
TOOLS = (
    {"type": "function", "function": {"name": "order", "parameters": PARAMETERS}},
    {"type": "function", "function": {"name": "ask"}},
)
RIGHT = {"qty": 2, "item": "x"}


def calling(arguments: Any, name: str = "order") -> bytes:
    """Write the body of a call."""
    call = {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}
    return said(None, tool_calls=[call], finish_reason="tool_calls")


@pytest.mark.parametrize(
    "arguments", ['{"qty":2,"item":"x"}', '"{\\"qty\\":2,\\"item\\":\\"x\\"}"', RIGHT, ' {"item":"x","qty":2}\n']
)
def test_arguments_may_be_an_object_its_json_or_the_json_of_its_json(arguments):
    """As different models and servers write them."""
    assert read(calling(arguments), format="tools", tools=TOOLS) == Reading([{"name": "order", "arguments": RIGHT}])


@pytest.mark.parametrize("arguments", ["", None, "{}", " "])
def test_a_tool_without_parameters_takes_no_arguments(arguments):
    """Nothing is an object without members."""
    assert read(calling(arguments, "ask"), format="tools", tools=TOOLS).value == [{"name": "ask", "arguments": {}}]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (calling('{"qty":"two","item":"x"}'), 'the arguments of order: qty: "two" is not of type "integer"'),
        (calling('{"qty":1}'), '"item" is a required property'),
        (calling(""), '"qty" is a required property'),
        (calling("7"), "the arguments of order are not an object"),
        (calling("[1]"), "the arguments of order are not an object"),
        (calling('"\\"{}\\""'), "the arguments of order are not an object"),
        (calling('{"qty":4,"item":"z","more":1}'), "Additional properties are not allowed"),
        (calling('{"qty":4'), "the arguments of order are not JSON"),
        (calling("{}", "shout"), "the model called shout, which is none of: order, ask"),
    ],
)
def test_calls_that_do_not_conform_are_invalid(body, words):
    """With the reason."""
    reading = read(body, format="tools", tools=TOOLS)
    assert (reading.value, reading.code) == (None, "answer_invalid")
    assert words in reading.message


def test_of_several_calls_each_conforms():
    """One wrong call makes the answer wrong."""
    calls = [
        {"id": name, "type": "function", "function": {"name": name, "arguments": arguments}}
        for name, arguments in (("ask", "{}"), ("order", "{}"))
    ]
    assert read(said(None, tool_calls=calls), format="tools", tools=TOOLS).code == "answer_invalid"
    assert len(read(said(None, tool_calls=calls[:1]), format="tools", tools=TOOLS).value) == 1


def test_tools_of_the_providers_own_may_be_called_by_any_name():
    """Their calls have names that no request gives."""
    tools = ({"type": "browser_search"}, *TOOLS)
    assert read(calling("{}", "browser.open"), format="tools", tools=tools).code is None
    assert read(calling("{}"), format="tools", tools=tools).code == "answer_invalid"


@pytest.mark.parametrize("parameters", [{"type": "nothing"}, [1], {"$ref": "https://example.com/x"}])
def test_parameters_that_are_no_schema_are_refused_before_the_first_answer(parameters):
    """With the name of the tool."""
    tool = {"type": "function", "function": {"name": "broken", "parameters": parameters}}
    with pytest.raises(ConfigurationError, match="broken"):
        AnswerCheck(AnswerRules(format="tools", tools=(tool,)))


def test_rules_without_tools_are_written_as_older_versions_write_them():
    """Workloads compare their rules as text."""
    assert "tools" not in AnswerRules().model_dump()
    rules = AnswerRules(format="tools", tools=TOOLS)
    assert AnswerRules.model_validate_json(rules.model_dump_json()) == rules
