"""Texts: what tells two answers apart is compared, and what does not is not."""

from __future__ import annotations

import datetime as dt
import sys
from decimal import Decimal
from itertools import permutations

import pytest
from pydantic import ValidationError

from batchkit.datasets.values import FractionalFloat
from batchkit.evaluation.scorers import NO_ANSWER, NO_EXPECTED, SCORER_ERROR, normalised
from tests.evaluation.scored import score, scorer_of

METHODS = ("ratio", "partial_ratio", "token_sort_ratio", "token_set_ratio", "WRatio")
#: Texts of which no two are the same answer.
FAMILIES = [
    ("7", "-7", "7%", "$7", "7$", "7\u20ac", "<7", ">7", "-$7", ".7", "7\u00b2"),
    ("2.5", "2,5", "2 5", "25", "-2.5"),
    ("C", "C++", "C#", "C-", "C+"),
    ("NET", ".NET"),
    ("A", "B", "the", "an"),
    ("?", "!", "...", "+", "-", "*"),
    ("1.10", "1.1", "1.1.0"),
    ("1/2", "12", "1\u00bd"),
    ("Hepatitis A", "Hepatitis B"),
    ("x^2", "x2"),
]


@pytest.mark.parametrize(("one", "other"), [pair for family in FAMILIES for pair in permutations(family, 2)])
def test_different_answers_are_not_the_same(one, other):
    """By no scorer that folds texts, and by no method of the similarity."""
    assert score("normalised", one, other).value == 0
    assert [
        method for method in METHODS if (score({"kind": "similarity", "method": method}, one, other).value or 0) >= 1
    ] == []
    assert (score("f1", one, other).value or 0) < 1


@pytest.mark.parametrize(("one", "other"), [("Hepatitis A", "Hepatitis"), ("The The", "The"), ("The A", "The")])
def test_an_article_that_is_the_last_word_counts(one, other):
    """It stands before no other word, so it is a name or a letter; only what compares parts may take it for the same."""
    for kind in ("normalised", "similarity", "f1"):
        assert (score(kind, one, other).value or 0) < 1
    assert (score({"kind": "similarity", "method": "token_sort_ratio"}, one, other).value or 0) < 1


@pytest.mark.parametrize(
    "text", sorted({text for family in FAMILIES for text in family} | {"the", "\u00df", "a b", "x " * 100})
)
def test_a_text_is_itself(text):
    """By every scorer of texts, whatever folding leaves of it."""
    for kind in ("exact", "normalised", "choice", "contains", "f1"):
        assert score(kind, text, text).value == 1
    for method in METHODS:
        config = {"kind": "similarity", "method": method, "at_least": 1}
        assert (score(config, text, text).value, score(config, f" {text}\n", text).value) == (1, 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The  Eiffel-Tower!", "eiffel tower"),
        ("\u22125", "-5"),
        ("\u20135 \u00b0C", "-5 \u00b0C"),
        ("50 %", "50%"),
        ("\uff15\uff10\uff05", "50%"),
        ("$ 5", "$5"),
        ("(c++)", "C++"),
        ("It is 5.", "it is 5"),
        ("2026-11-30", "2026/11/30"),
        ("x\u00b2", "x^2"),
        ("\u00abA\u00bb", "a"),
        ("- one\n- two", "one two"),
    ],
)
def test_spellings_of_one_answer_are_the_same(one, other):
    """Case, punctuation, blanks, articles before a word, and signs that look alike."""
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("value", "text", "truth", "expected"),
    [
        ("007", "007", "007", 1),
        ("7", "7", "007", 0),
        (7, "007", "007", 1),
        (7, "007", 7, 1),
        (1.0, "1.0", FractionalFloat(1.0), 1),
        (1.0, "1.0", 1, 1),
        (1000.0, "1e3", "1e3", 1),
        ("1e3", "1e3", "1000", 0),
        ("1.10", "1.10", Decimal("1.10"), 1),
        ("1.1", "1.1", Decimal("1.10"), 0),
        (True, "true", True, 1),
        ("True", "True", "True", 1),
        (None, "null", "null", 1),
        ("2026-01-02", "2026-01-02", dt.date(2026, 1, 2), 1),
        ({"a": 1}, '{"a": 1}', '{"a":1}', 1),
        ("\u00a0x\n", "x", "x ", 1),
    ],
)
def test_exact_compares_the_text_of_the_file(value, text, truth, expected):
    """What the model wrote and what the file holds, without a number in between that has another text."""
    assert score("exact", value, truth, text=text).value == expected


@pytest.mark.parametrize(
    ("answer", "truth", "expected"),
    [
        ("*", "***", 0), (".", "*", 0), ("***", "***", 1), ("U.S.", "U.S.", 1), ("U.S", "U.S.", 1), ("'80s", "80s", 1), (".5", "5", 0),
        ("-1", "1", 0), ("'Inc.'", "Inc.", 1), ("...", "\u2026", 1),
    ],
)  # fmt: skip
def test_a_choice_is_itself_before_anything_is_stripped(answer, truth, expected):
    """Signs around it are taken off only where that leaves something."""
    assert score("choice", answer, truth).value == expected


def test_choices_that_differ_in_their_signs_are_told_apart():
    """With the choices at hand a stripped spelling that two of them share names neither."""
    config = {"kind": "choice", "choices": ["A", "A.", "B"]}
    assert [score(config, said, "A.").value for said in ("A.", "A", "(A)", "B", "")] == [1, 0, 0, 0, 0]
    found = score(config, "A", "C")
    assert (found.value, found.reason) == (None, SCORER_ERROR)
    with pytest.raises(ValidationError, match="must differ in more than case"):
        scorer_of({"kind": "choice", "choices": ["a", "A "]})


EVERY = ["exact", "normalised", "choice", "contains", "similarity", "f1", "number", "answer_letter", "json_equal", "tool_call",
         {"kind": "json_fields", "fields": ["a"]}]  # fmt: skip


@pytest.mark.parametrize("config", EVERY)
@pytest.mark.parametrize(
    "blank", ["", " ", "\t\n", "\u00a0", "\u200b", "\ufeff ", None, float("nan"), Decimal("nan"), Decimal("sNaN")]
)
def test_what_people_did_not_label_is_not_scored(config, blank):
    """Whatever kind of file it comes from, and whatever the answer is."""
    for value in ("yes", "", None, {"b": 1}):
        assert score(config, value, blank, text="x") == (None, NO_EXPECTED, None)


@pytest.mark.parametrize("config", EVERY)
def test_an_empty_answer_is_a_wrong_one(config):
    """Unless the request failed, or its answer is no longer there."""
    document = config == "json_equal" or isinstance(config, dict)
    truth = '{"a": 1, "name": "f"}' if document else "B" if config == "answer_letter" else "5"
    if config != "tool_call":
        assert score(config, "", truth).value == 0
        assert score(config, None, truth, text="null").value == 0
    assert score(config, None, truth, text=None).reason == NO_ANSWER
    assert score(config, None, truth, text="x", error_code="answer_invalid").reason == NO_ANSWER
    assert score(config, "5", truth, status="failed", error_code="e").reason == NO_ANSWER


def test_every_answer_contains_a_blank_text():
    """A suite that looks for one is refused."""
    with pytest.raises(ValidationError, match="blank text"):
        scorer_of({"kind": "contains", "text": " "})


@pytest.mark.parametrize(
    ("answer", "truth", "expected"),
    [
        ("the red car", "a red car", 1),
        ("red", "red car", 2 / 3),
        ("red red", "red car", 0.5),
        ("red red", "red red car", 0.8),
        ("blue", "red", 0),
        ("A", "A", 1),
    ],
)
def test_f1_is_the_share_of_words(answer, truth, expected):
    """Precision and recall of the normalised words, each as often as it occurs."""
    assert score("f1", answer, truth).value == pytest.approx(expected)


def test_texts_that_cannot_be_compared_in_time_are_not_scored():
    """They are neither right nor wrong."""
    long = "ab " * 1_000_000
    assert score("similarity", long, long).value == 1
    for kind in ("normalised", "f1"):
        assert score(kind, long, "ab").reason == SCORER_ERROR
    for method in METHODS:
        assert score({"kind": "similarity", "method": method}, long, "ab").reason == SCORER_ERROR
    assert score({"kind": "similarity", "method": "partial_ratio"}, "ab " * 2_000, "ba " * 1_900).reason == SCORER_ERROR
    assert score({"kind": "similarity", "method": "partial_ratio"}, "ab " * 20_000, "ab ab").value == 1


def test_a_part_of_a_word_is_not_the_word():
    """The best part of a text counts in full only where it is made of whole words."""
    config = {"kind": "similarity", "method": "partial_ratio"}
    assert score(config, "it is new york today", "New York").value == 1
    assert 0.5 < (score(config, "newyorker", "new york").value or 0) < 1


def test_a_missing_library_is_found_before_anything_is_sent(monkeypatch):
    """It is an extra."""
    assert list(scorer_of("similarity").contradictions()) == []
    monkeypatch.setitem(sys.modules, "rapidfuzz", None)
    [(place, said)] = scorer_of("similarity").contradictions()
    assert place == ()
    assert "rapidfuzz cannot be imported" in said


def test_a_pattern_that_cannot_end_is_found_before_anything_is_sent():
    """It is tried on texts that repeat its own characters."""
    assert list(scorer_of({"kind": "regex", "pattern": r"\d{4}|[a-z]+!"}).contradictions()) == []
    found = list(scorer_of({"kind": "regex", "pattern": r"^(z|zz)+$"}).contradictions())
    assert [place for place, _ in found] == [("pattern",)]
    assert "takes too long" in found[0][1]
