"""Conversations as input: what is one, and the requests that are made of it."""

from __future__ import annotations

import pytest

from batchkit.annotation.conversations import InvalidConversation, NoConversation, conversation
from batchkit.annotation.presets import annotation
from batchkit.annotation.render import Renderer, RowProblem
from batchkit.errors import UsageError
from batchkit.files import jsonl
from batchkit.provider.groq.dialect import GROQ

ASKED = {"role": "user", "content": "Is it open?"}
ANSWERED = {"role": "assistant", "content": "Until six."}


@pytest.mark.parametrize(
    "value",
    [[ASKED, ANSWERED], '[{"role":"user","content":"Is it open?"},{"role":"assistant","content":"Until six."}]'],
)
def test_a_list_of_messages_or_its_json_is_a_conversation(value):
    """JSON Lines and Parquet have lists, CSV has text."""
    assert conversation(value) == [ASKED, ANSWERED]


def test_members_that_are_null_are_left_out():
    """Tables give every message the members of all."""
    assert conversation([{**ASKED, "tool_calls": None, "name": None}]) == [ASKED]


@pytest.mark.parametrize("value", [None, "", "  ", []])
def test_nothing_is_no_conversation(value):
    """Such a row has nothing to ask."""
    with pytest.raises(NoConversation):
        conversation(value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("[", "list of messages"),
        ("hello", "list of messages"),
        ({"role": "user"}, "list of messages"),
        (["hello"], "message 1 is no object"),
        ([ASKED, {"role": "bot", "content": "x"}], "message 2 has the role 'bot'"),
        ([{"role": "user", "content": " "}], "no text"),
        ([{"role": "user", "content": [{"type": "text"}]}], "no text"),
        ([{**ASKED, "tool_calls": [{}]}], "'tool_calls'; only role and content"),
        ([{"role": "user", "content": "x"}] * 2_001, "2,001 messages"),
        ([{"role": "x" * 900, "content": "x"}], r"\.\.\.'; roles"),
    ],
)
def test_what_is_no_conversation_says_why(value, words):
    """The message is named, and no cell is shown whole."""
    with pytest.raises(InvalidConversation, match=words) as raised:
        conversation(value)
    assert len(str(raised.value)) < 300


def rendered(row, prompt="", **options):
    """Return the messages of a row's only request."""
    recipe = annotation(prompt, models=["openai/gpt-oss-20b"], messages="talk", **options)
    (line,) = Renderer(recipe, ["talk", "text"], dialect=GROQ).requests(row, 1)
    return jsonl.loads(line)["body"]["messages"]


def test_the_conversation_stands_between_the_system_message_and_the_question():
    """Without a question the model answers the last message."""
    system = {"role": "system", "content": "Be brief."}
    row = {"talk": [ASKED, ANSWERED, ASKED], "text": "bread"}

    assert rendered(row, system="Be brief.") == [system, ASKED, ANSWERED, ASKED]
    asked = rendered(row, "Was {{ text }} asked for?", system="Be brief.")
    assert asked == [system, ASKED, ANSWERED, ASKED, {"role": "user", "content": "Was bread asked for?"}]


def test_a_row_without_a_conversation_has_nothing_to_ask_and_a_wrong_one_is_bad():
    """The code says which, so that each can be skipped."""
    for talk, code in [([], "nothing_to_ask"), ("hello", "prompt_failed"), ([ASKED, ANSWERED], "prompt_failed")]:
        with pytest.raises(RowProblem) as raised:
            rendered({"talk": talk, "text": ""})
        assert raised.value.code == code
        assert raised.value.reason.startswith("talk: ")


def test_a_column_that_the_table_does_not_have_is_refused():
    """By the name of the option."""
    recipe = annotation("", models=["openai/gpt-oss-20b"], messages="talks")
    with pytest.raises(UsageError, match="--messages"):
        Renderer(recipe, ["talk"], dialect=GROQ)
