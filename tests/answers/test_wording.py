"""What stands around an answer, and words that are written in several ways."""

from __future__ import annotations

import time
import unicodedata

import pytest

from batchkit.answers.check import Reading
from batchkit.answers.wording import Choices, is_same_choice, plain_number, unfenced, without_thoughts
from tests.answers.support import read, said


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("yes", "yes"),
        ("<think>hm</think>yes", "yes"),
        ("\n<think>\nhm\n</think>\n\nyes", "yes"),
        ("It sounds kind.</think>\n\nyes", "yes"),
        ("</think>yes", "yes"),
        ("a</think>b</think>yes", "yes"),
        ("<think>a</think>b</think>yes", "yes"),
        ("hm</think>", ""),
        ("<think>hm", ""),
        ("<think></think>", ""),
        ("The tag is <think>x</think>.", "The tag is <think>x</think>."),
        ("<think>a</think>The tag is <think>.", "The tag is <think>."),
    ],
)
def test_thoughts_end_at_their_closing_tag(text, rest):
    """With an opening tag or without one; thoughts without an end are nothing else."""
    assert without_thoughts(text) == rest


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        ('```json {"a": 1} ```', '{"a": 1}'),
        ('```json{"a": 1}```', '{"a": 1}'),
        ("``` 7 ```", "7"),
        ("```true```", "true"),
        ("```\n```", ""),
        ("before ```json\n1\n```", "before ```json\n1\n```"),
        ("````", "````"),
    ],
)
def test_a_fence_is_taken_off_on_one_line_too(text, content):
    """The language is no part of the content; a text beside the fence keeps it."""
    assert unfenced(text) == content


@pytest.mark.parametrize("text", ["</think>" * 100_000, " " * 400_000, "```" + " " * 400_000, "<think>" * 100_000])
def test_long_texts_are_read_in_time(text):
    """Whatever a model repeats without an end."""
    started = time.process_time()
    without_thoughts(text), unfenced(text), Choices(("a", "b")).find(text)
    assert time.process_time() - started < 5


CHOICES = {
    "as it stands": (("U.S.", "U.K.", "None"), "U.S.", "U.S."),
    "in quotes": (("U.S.", "U.K.", "None"), '"U.K."', "U.K."),
    "without its last sign": (("U.S.", "U.K.", "None"), "U.S", "U.S."),
    "a sign less than another": (("*", "**", "***"), "**", "**"),
    "signs in quotes": (("*", "**", "***"), "`*`", "*"),
    "signs in a fence": (("*", "**", "***"), "```\n***\n```", "***"),
    "another number of signs": (("*", "**", "***"), "****", None),
    "a sign at the beginning": (("'80s", "'90s"), "'90s", "'90s"),
    "a curly sign at the beginning": (("'80s", "'90s"), "\u201990s", "'90s"),
    "only signs": (("...", "!"), "...", "..."),
    "only signs, in bold": (("...", "'80s"), "**...**", "..."),
    "bold, with the stop of the choice": (("etc.", "etc"), "*etc.*", "etc."),
    "bold, with a full stop": (("yes", "no"), "**Yes.**", "yes"),
    "with a bracket": (("A", "B"), "B)", "B"),
    "in brackets": (("A", "B"), "(b).", "B"),
    "with a stop of another script": (("\u662f", "\u5426"), "\u662f\u3002", "\u662f"),
    "a minus is no sign around": (("1", "2"), "-1", None),
    "another case": (("Yes", "No"), "NO", "No"),
    "exact before another case": (("Straße", "other"), "STRASSE", "Straße"),
    "a curly apostrophe": (("don't know", "yes"), "Don\u2019t know.", "don't know"),
    "a straight apostrophe": (("don\u2019t know", "yes"), "don't know", "don\u2019t know"),
    "a hyphen that does not break": (("follow-up", "other"), "follow\u2011up", "follow-up"),
    "blanks that do not break": (("not sure", "sure"), "not\u00a0sure", "not sure"),
    "a line break in the middle": (("not sure", "sure"), "not\n sure", "not sure"),
    "full width": (("A", "B"), "\uff22", "B"),
    "decomposed": (("caf\u00e9", "bar"), unicodedata.normalize("NFD", "Caf\u00e9"), "caf\u00e9"),
    "composed": (
        (unicodedata.normalize("NFD", "caf\u00e9"), "bar"),
        "caf\u00e9",
        unicodedata.normalize("NFD", "caf\u00e9"),
    ),
    "with a sign that has no width": (("yes", "no"), "\u200byes\ufeff", "yes"),
    "signs that differ": (("A.", "A"), "A.", "A."),
    "without signs two choices": (("A.", "'A"), "A", None),
    "in another spelling two choices": (("m2", "m\u00b2"), "M\u00b2", "m\u00b2"),
    "a spelling of two choices": (("C", "C*"), "'C'", "C"),
    "more than one": (("yes", "no"), "yes and no", None),
    "another letter": (("resume", "stop"), "r\u00e9sum\u00e9", None),
}


@pytest.mark.parametrize(("choices", "text", "found"), CHOICES.values(), ids=CHOICES)
def test_a_choice_is_found_word_by_word_before_anything_is_taken_off(choices, text, found):
    """As it stands, in another case or spelling, in quotes; at last without the signs around it, if one choice is left."""
    reading = read(said(text), format="choice", choices=choices)
    assert reading.value == found
    assert reading.code == (None if found else "answer_invalid")


@pytest.mark.parametrize(
    ("one", "other", "are_same"),
    [
        ("*", "*", True),
        ("*", "***", False),
        (".", "*", False),
        ("U.S", "U.S.", True),
        ("'Yes.'", "yes", True),
        ("it\u2019s", "It's", True),
        ("yes", "no", False),
    ],
)
def test_scored_choices_are_the_same_in_the_same_way(one, other, are_same):
    """A choice of signs is no other choice of signs."""
    assert is_same_choice(one, other) is are_same


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("\u221212", -12),
        ("\uff14\uff12", 42),
        ("`7`", 7),
        ("```\n7.5\n```", 7.5),
        ("**3.**", 3),
        ("5\u00b2", None),
        ("12 apples", None),
    ],
)
def test_numbers_are_read_in_their_usual_spellings(text, value):
    """A minus sign, digits of full width, a fence; a power is another number."""
    reading = read(said(text), format="number")
    assert reading.value == value
    assert plain_number("\uff0b1") == "+1"


def test_a_pattern_may_come_in_a_fence():
    """The fence is tried off when the whole text does not match."""
    rules = {"format": "pattern", "pattern": "[A-Z]{2}"}
    assert read(said("```text\nAB\n```"), **rules) == Reading("AB")
    assert read(said("`AB`"), **rules).code == "answer_invalid"
