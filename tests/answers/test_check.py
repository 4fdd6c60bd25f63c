"""What an answer says under each kind of rules, and why it does not count."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from batchkit import answers
from batchkit.answers.check import AnswerCheck, Reading
from batchkit.answers.reasons import Reason, reason_of_refusal
from batchkit.answers.rules import AnswerRules
from batchkit.errors import ConfigurationError
from batchkit.files import jsonl
from tests.answers.support import read, said

LABEL = {
    "type": "object",
    "properties": {"label": {"enum": ["good", "bad"]}, "scores": {"type": "array", "items": {"type": "integer"}}},
    "required": ["label"],
    "additionalProperties": False,
}


GOOD = {
    "any text": ({}, "anything", "anything"),
    "a document": ({"format": "json"}, '{"a": [1, 2]}', {"a": [1, 2]}),
    "a document by its schema": ({"format": "json", "json_schema": LABEL}, '{"label":"good"}', {"label": "good"}),
    "a document in a code fence": ({"format": "json"}, '```json\n{"a": 1}\n```', {"a": 1}),
    "a document behind a mark of its encoding": ({"format": "json"}, '\ufeff{"a": 1}', {"a": 1}),
    "a document behind thoughts": ({"format": "json"}, '<think>\nhm {"a": 2}\n</think>\n{"a": 1}', {"a": 1}),
    "a choice": ({"format": "choice", "choices": ("Good", "Bad")}, "bad", "Bad"),
    "a choice in quotes with a full stop": ({"format": "choice", "choices": ("Good", "Bad")}, '"GOOD."\n', "Good"),
    "a pattern": ({"format": "pattern", "pattern": r"[A-Z]{2}\d"}, " AB1 ", "AB1"),
    "a whole number": ({"format": "number"}, "42", 42),
    "a number": ({"format": "number", "minimum": 0, "maximum": 10}, "7.5.", 7.5),
    "safe": ({"format": "safety"}, "safe", {"safe": True, "categories": []}),
    "unsafe": ({"format": "safety"}, "unsafe\nS2,S14", {"safe": False, "categories": ["S2", "S14"]}),
}


@pytest.mark.parametrize(("rules", "content", "value"), GOOD.values(), ids=GOOD)
def test_good_answers_have_a_value(rules, content, value):
    """What the rules ask for is read into a value of its kind, however the model dressed it."""
    reading = read(said(content), **rules)
    assert reading == Reading(value)
    assert type(reading.value) is type(value)


BAD = {
    "not JSON": ({"format": "json"}, "Sure! Here it is", "not JSON"),
    "half a document": ({"format": "json"}, '{"a": [1', "not JSON"),
    "NaN": ({"format": "json"}, '{"a": NaN}', "not JSON"),
    "not by the schema": ({"format": "json", "json_schema": LABEL}, '{"label":"so-so"}', "label: "),
    "deep inside": ({"format": "json", "json_schema": LABEL}, '{"label":"good","scores":[1,"2"]}', "scores[1]: "),
    "more than the schema": ({"format": "json", "json_schema": LABEL}, '{"label":"good","x":1}', "the document: "),
    "no choice": ({"format": "choice", "choices": ("Good", "Bad")}, "Good and bad", "is none of: Good, Bad"),
    "half a match": ({"format": "pattern", "pattern": r"\d+"}, "12 apples", "does not match"),
    "words for a number": ({"format": "number"}, "forty-two", "is not a number"),
    "a number out of range": ({"format": "number", "minimum": 0, "maximum": 10}, "11", "is not between"),
    "an endless number": ({"format": "number"}, "1e999", "is not between"),
    "other digits": ({"format": "number"}, "٤٢", "is not a number"),
    "no tool": ({"format": "tools"}, "I would call it", "called no tool"),
    "a verdict of another kind": ({"format": "safety"}, "I think it is safe", "neither safe nor unsafe"),
    "odd categories": ({"format": "safety"}, "unsafe\nviolence", "neither safe nor unsafe"),
}


@pytest.mark.parametrize(("rules", "content", "words"), BAD.values(), ids=BAD)
def test_bad_answers_are_invalid_and_say_why(rules, content, words):
    """An answer that the rules do not take has no value; the message says where and what."""
    reading = read(said(content), **rules)
    assert (reading.value, reading.code) == (None, "answer_invalid")
    assert words in reading.message


@pytest.mark.parametrize("form", ["any", "json", "number", "safety"])
@pytest.mark.parametrize("content", [None, "", " \n\t", "<think>\nonly thoughts\n</think>\n"], ids=repr)
def test_empty_answers_have_their_own_reason(form, content):
    """Nothing, blanks, and thoughts without a word behind them are no answer."""
    assert read(said(content), format=form).code == "answer_empty"


def test_answers_that_were_cut_off_have_their_own_reason():
    """A model that ran into its token limit has not answered, even if what it said happens to fit the rules."""
    assert read(said('{"label":"good"}', finish_reason="length"), format="json").code == "answer_truncated"
    assert read(said("half a sen", finish_reason="length")).code == "answer_truncated"


def test_tool_calls_are_parsed():
    """Each call has its name and its arguments as a value; arguments that are not JSON make the answer invalid."""

    def calling(arguments):
        return said(
            None, tool_calls=[{"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}]
        )

    assert read(calling('{"x": 1}'), format="tools") == Reading([{"name": "f", "arguments": {"x": 1}}])
    broken = read(calling('{"x": '), format="tools")
    assert broken.code == "answer_invalid"
    assert "the arguments of f" in broken.message


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}


@pytest.mark.parametrize("content", [None, "", " \n", "<think>\nonly thoughts\n</think>\n"], ids=repr)
def test_without_rules_a_call_of_a_tool_is_an_answer(content):
    """A message that calls a tool need not say anything; what it says beside, if only blanks, is the value."""
    assert read(said(content, tool_calls=[CALL])) == Reading(content)


def test_without_rules_what_is_said_beside_a_call_is_the_value():
    """Thoughts are left out of it as of any answer, and broken arguments are nobody's business there."""
    broken = {**CALL, "function": {"name": "f", "arguments": '{"x": '}}
    assert read(said("I call f.", tool_calls=[broken])) == Reading("I call f.")
    assert read(said("<think>\nhm\n</think>\nI call f.", tool_calls=[broken])) == Reading("I call f.")
    assert read(said(None, tool_calls=[broken])) == Reading(None)


@pytest.mark.parametrize("calls", [None, []], ids=repr)
def test_without_rules_no_call_and_no_word_is_empty(calls):
    """An empty list of calls is no call."""
    assert read(said(None, tool_calls=calls)).code == "answer_empty"
    assert read(said("", tool_calls=calls)).code == "answer_empty"


@pytest.mark.parametrize(
    "rules",
    [
        {"format": "json"},
        {"format": "choice", "choices": ("yes", "no")},
        {"format": "pattern", "pattern": ".*"},
        {"format": "number"},
        {"format": "safety"},
    ],
    ids=lambda rules: rules["format"],
)
def test_with_rules_a_call_of_a_tool_is_no_answer(rules):
    """Whoever asked for words of some kind has got none."""
    assert read(said(None, tool_calls=[CALL]), **rules).code == "answer_empty"
    assert read(said("", tool_calls=[CALL]), **rules).code == "answer_empty"


def test_a_cut_off_call_is_no_answer_without_rules_either():
    """The token limit cut its arguments."""
    assert read(said(None, finish_reason="length", tool_calls=[CALL])).code == "answer_truncated"


def test_a_message_of_any_length_is_cut_in_the_reason():
    """What a model said at length does not fill the database a second time as an error message."""
    assert len(read(said("x" * 100_000), format="choice", choices=("a", "b")).message) <= 500
    text = read(said(jsonl.dumps({"label": "y" * 100_000}).decode()), format="json", json_schema=LABEL).message
    assert len(text) <= 500


def test_bodies_that_are_no_chat_are_invalid():
    """Whatever else lies in the body, it is no answer, and no crash."""
    for body in (
        b"null",
        b'"text"',
        b"[]",
        b"{}",
        b'{"choices":1}',
        b"\xff",
        b'{"choices":[{"message":{"content":{"text":"a"}}}]}',
    ):
        assert read(body).code in {"answer_invalid", "answer_empty"}
    assert read(b'{"choices":[]}').code == "answer_empty"


def test_a_models_own_checks_have_the_last_word(tmp_path, monkeypatch):
    """A pydantic model named by its path checks what a schema cannot say, and the value is what it makes of the answer."""
    (tmp_path / "my_labels_of_a_test.py").write_text(
        "import pydantic\n"
        "class Span(pydantic.BaseModel):\n"
        "    start: int\n"
        "    end: int\n"
        "    note: str = 'none'\n"
        "    @pydantic.model_validator(mode='after')\n"
        "    def ordered(self):\n"
        "        if self.end < self.start:\n"
        "            raise ValueError('the end is before the start')\n"
        "        return self\n"
    )
    monkeypatch.chdir(tmp_path)
    rules = {"format": "json", "model_path": "my_labels_of_a_test:Span"}
    assert read(said('{"start":1,"end":2}'), **rules).value == {"start": 1, "end": 2, "note": "none"}
    reading = read(said('{"start":3,"end":2}'), **rules)
    assert reading.code == "answer_invalid"
    assert "the end is before the start" in reading.message
    with pytest.raises(ConfigurationError, match="cannot be imported"):
        AnswerCheck(AnswerRules(format="json", model_path="my_labels_of_a_test:Nothing"))


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [
        ("{'red': 1}[self.word]", '{"word":"green"}', "KeyError: 'green'"),
        ("1 / len(self.word)", '{"word":""}', "ZeroDivisionError"),
        ("self.word.nothing", '{"word":"a"}', "AttributeError"),
        ("self.possible()", '{"word":"a"}', "RecursionError"),
    ],
)
def test_what_a_models_own_check_raises_concerns_its_answer_only(tmp_path, monkeypatch, caplog, check, answer, words):
    """The answer does not count, its reason has the error's name, and the log has one traceback for all such answers."""
    name = f"failing_model_{len(check)}"
    (tmp_path / f"{name}.py").write_text(
        "import pydantic\n"
        "class Look(pydantic.BaseModel):\n"
        "    word: str\n"
        "    @pydantic.model_validator(mode='after')\n"
        "    def possible(self):\n"
        f"        {check}\n"
        "        return self\n"
    )
    monkeypatch.chdir(tmp_path)
    rules = AnswerCheck(AnswerRules(format="json", model_path=f"{name}:Look"))

    readings = [rules.read(said(answer)) for _ in range(3)]

    assert {reading.code for reading in readings} == {"answer_invalid"}
    assert all(words in reading.message for reading in readings)
    assert caplog.text.count("the model of the answers failed") == 1
    assert "in possible" in caplog.text


def test_rules_that_make_no_sense_are_refused():
    """Bad rules are found when they are written, not when the first answer comes."""
    for bad in (
        {"format": "choice"},
        {"format": "choice", "choices": ("a", " A ")},
        {"format": "pattern"},
        {"format": "pattern", "pattern": "("},
        {"format": "number", "minimum": 2, "maximum": 1},
    ):
        with pytest.raises(ValidationError):
            AnswerRules(**bad)
    with pytest.raises(ConfigurationError, match="not a valid JSON Schema"):
        AnswerCheck(AnswerRules(format="json", json_schema={"type": "nothing"}))


def test_refusals_that_are_the_models_failure_are_told_from_others():
    """Only a 400 with Groq's two codes is a failed generation; one for want of tokens asks for more of them."""
    assert reason_of_refusal(400, "json_validate_failed", "Failed to validate JSON.") == "generation_failed"
    assert reason_of_refusal(400, "tool_use_failed", None) == "generation_failed"
    cut = "Failed to generate JSON: max completion tokens reached before generating a valid document."
    assert reason_of_refusal(400, "json_validate_failed", cut) == "answer_truncated"
    assert reason_of_refusal(400, "invalid_request_error", "no") is None
    assert reason_of_refusal(500, "json_validate_failed", "no") is None


def test_every_reason_is_explained():
    """In the package's table, and in the README of the people who meet it."""
    readme = (Path(answers.__file__).parents[1] / "annotation" / "README.md").read_text()
    for reason in Reason:
        assert f"``{reason}``" in (answers.__doc__ or "")
        assert f"`{reason}`" in readme
