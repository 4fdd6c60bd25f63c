"""Messages in parts, refused, filtered and broken off."""

from __future__ import annotations

import pytest

from batchkit.answers.check import Reading
from batchkit.files import jsonl
from tests.answers.support import read, said


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([{"type": "text", "text": "good"}], "good"),
        (
            [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "good"}],
            "good",
        ),
        ([{"type": "reasoning", "text": "bad"}, {"type": "output_text", "text": "go"}, {"text": "od"}], "good"),
        (["go", "od"], "good"),
        ([{"type": "text", "text": None}, 7, {"type": "image_url"}, {"type": "text", "text": "good"}], "good"),
    ],
)
def test_the_texts_of_the_parts_are_the_answer(parts, text):
    """Thoughts and what is no text are left out, for the rules and for a plain export alike."""
    assert read(said(parts)) == Reading(text)
    assert read(said(parts), format="choice", choices=("Good", "Bad")) == Reading("Good")
    assert jsonl.answer_text(said(parts)) == text


@pytest.mark.parametrize("parts", [[], [{"type": "thinking", "thinking": "hm"}], [{"type": "text", "text": " "}]])
def test_parts_without_a_text_are_empty(parts):
    """Nothing but thoughts is no answer."""
    assert read(said(parts)).code == "answer_empty"


@pytest.mark.parametrize(
    "body",
    [
        said(None, refusal="I will not."),
        said("", refusal="I will not."),
        said("Sorry.", refusal="I will not."),
        said([{"type": "refusal", "refusal": "I will not."}]),
    ],
)
@pytest.mark.parametrize("form", ["any", "json", "number", "tools"])
def test_a_refusal_is_a_reason_of_its_own_with_the_models_words(body, form):
    """In a member beside the content, or in a part of it."""
    assert read(body, format=form) == Reading(None, "answer_refused", "the model refuses: I will not.")


@pytest.mark.parametrize("refusal", [None, "", " \n", {"no": "text"}])
def test_no_words_are_no_refusal(refusal):
    """Servers send the member empty."""
    assert read(said("yes", refusal=refusal)) == Reading("yes")


@pytest.mark.parametrize(
    ("finish_reason", "code"),
    [
        ("content_filter", "answer_filtered"),
        ("SAFETY", "answer_filtered"),
        ("length", "answer_truncated"),
        ("max_tokens", "answer_truncated"),
        ("error", "answer_invalid"),
        ("insufficient_system_resource", "answer_invalid"),
        ("stop", None),
        ("eos", None),
        ("tool_calls", None),
        (None, None),
    ],
)
def test_an_answer_counts_if_it_came_to_its_end(finish_reason, code):
    """What a filter or a failure cut off is no answer, whatever it says so far; an end by another name is an end."""
    assert read(said("The first half", finish_reason=finish_reason)).code == code
