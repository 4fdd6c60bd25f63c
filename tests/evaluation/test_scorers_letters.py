"""Letters of a multiple choice: the one that an answer states at last."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from batchkit.evaluation.scorers import NO_EXPECTED, SCORER_ERROR
from batchkit.evaluation.scorers.letters import READ_CHARACTERS, LetterReader
from tests.evaluation.scored import score, scorer_of


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"), ("b", "B"), ("(b)", "B"), ("**B**", "B"), ("'B'.", "B"), ("A", "A"), ("I", "I"), ("$\\boxed{\\text{D}}$", "D"),
        ("Answer: B", "B"), ("**Answer:** B", "B"), ("**B)** because A is wrong", "B"), ("B. Berlin", "B"), ("(B) Berlin", "B"),
        ("The answer is (C).", "C"), ("The correct answer is D because A is not right.", "D"), ("answer is b", "B"),
        ("Let me see. A is wrong. B is wrong. So the answer must be D.", "D"), ("The answer is A. No, wait: the answer is C.", "C"),
        ("Option A is wrong. Option B is wrong. Option C is right.", "C"), ("Option C is right; option D is wrong.", "C"), ("Answer choice (B) is correct. Answer choice (A) is incorrect.", "B"),
        ("I think B is right", "B"), ("I choose A", "A"), ("A is right", "A"), ("Thus the best option is likely **B**.", "B"),
        ('{"answer": "B"}', "B"), ("C\n\nExplanation: D is too long.", "C"), ("\u7b54\u6848\u662fB\u3002", "B"), ("The answer is:\n\nE", "E"),
        ("First \\boxed{A}, then corrected to \\boxed{B}", "B"), ("Between A and B.\nAnswer: B", "B"), ("> C) the third", "C"),
    ],
)  # fmt: skip
def test_the_stated_letter_is_read(text, letter):
    """Alone, in a statement, in a box, or at the beginning of a line."""
    assert LetterReader("ABCDEFGHIJ").read(text).letter == letter


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no letter"), ("Berlin", "no letter"), ("K", "no letter"), ("A dog", "no letter"), ("The answer is a bit unclear", "no letter"),
        ("Answer: A dog", "no letter"), ("The answer is not B.", "no letter"), ("I am not sure", "no letter"), ("Answer: B isn't it", "no letter"), ("GPT-B", "no letter"),
        ("Answer: A or B", "ambiguous: A, B"), ("A and C", "ambiguous: A, C"), ("The answer is B/C", "ambiguous: B, C"),
        ("A) one\nB) two", "ambiguous: A, B"), ("Both A and B", "ambiguous: A, B"), ("ABC", "no letter"), ("Answer: (a) or (b)", "ambiguous"),
    ],
)  # fmt: skip
def test_without_one_letter_there_is_none(text, problem):
    """Words that are letters, letters that are not choices, and two letters in one place."""
    stated = LetterReader("ABCDEFGHIJ").read(text)
    assert stated.letter is None
    assert problem in stated.problem


@pytest.mark.parametrize(
    ("config", "value", "truth", "expected"),
    [
        ({}, "The answer is (c).", "C", 1),
        ({}, "The answer is (c).", "(c)", 1),
        ({}, "The answer is B.", "C", 0),
        ({}, "A or C", "C", 0),
        ({"letters": "A-D"}, "E", "D", 0),
        ({"letters": "x,y"}, "Y", "y", 1),
        ({"field": "choice"}, {"choice": "B"}, "B", 1),
        ({"field": "choice"}, {"other": "B"}, "B", 0),
        ({"count_from": 0}, "B", 1, 1),
        ({"count_from": 1}, "B", "2", 1),
        ({"options": ["o1", "o2"]}, "B", "Ottawa", 1),
        ({"options": ["o1", "o2"]}, "ottawa.", "B", 1),
        ({"options": ["o1", "o2"]}, "Oslo", "B", 0),
        ({"options": ["all"]}, "Answer: A", "Oslo", 1),
    ],
)
def test_an_answer_is_worth_its_letter(config, value, truth, expected):
    """The expected value is a letter, the number of a choice, or its text."""
    row = {"o1": "Oslo", "o2": "Ottawa", "all": ["Oslo", "Ottawa"]}
    found = score({"kind": "answer_letter", **config}, value, truth, row=row)
    assert (found.value, found.reason) == (expected, None)


def test_an_ambiguous_answer_says_so():
    """People see why it is wrong."""
    assert score("answer_letter", "A or C", "C").detail == "the answer is ambiguous: A, C"


@pytest.mark.parametrize(
    ("config", "truth"),
    [
        ({}, "Ottawa"),
        ({}, "2"),
        ({"count_from": 0}, 26),
        ({"letters": "AB"}, "C"),
        ({"options": ["o1", "o1"]}, "Oslo"),
    ],
)
def test_an_expected_value_that_is_no_letter_decides_nothing(config, truth):
    """The suite must say how its column is meant."""
    found = score({"kind": "answer_letter", **config}, "B", truth, row={"o1": "Oslo"})
    assert (found.value, found.reason) == (None, SCORER_ERROR)
    assert score({"kind": "answer_letter", **config}, "B", None).reason == NO_EXPECTED


def test_letters_are_written_as_a_span_or_one_by_one():
    """Anything else is refused."""
    assert [scorer_of({"kind": "answer_letter", "letters": text}).letters for text in ("A-D", "A, B", "xyz")] == [
        "ABCD",
        "AB",
        "XYZ",
    ]
    for text in ("", "A", "D-A", "AA", "1-4"):
        with pytest.raises(ValidationError, match="write the letters as"):
            scorer_of({"kind": "answer_letter", "letters": text})
    assert list(scorer_of({"kind": "answer_letter", "expected": "t", "options": ["a", "b"]}).columns()) == [
        (("expected",), "t"), (("options", 0), "a"), (("options", 1), "b"),
    ]  # fmt: skip


def test_the_ends_of_a_long_answer_are_read():
    """A letter in the middle of pages is no statement."""
    pages = "word " * READ_CHARACTERS
    assert LetterReader("AB").read(f"B) because {pages}").letter == "B"
    assert LetterReader("AB").read(f"{pages} the answer is B").letter == "B"
    assert LetterReader("AB").read(f"{pages} the answer is B. {pages}").letter is None
