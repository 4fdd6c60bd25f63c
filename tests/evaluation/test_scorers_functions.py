"""Functions of the user's own: whatever they do concerns one answer, and what cannot run is found before anything is sent."""

from __future__ import annotations

import pytest

from batchkit.evaluation.scorers import NO_ANSWER, SCORER_ERROR
from tests.evaluation.scored import score, scorer_of
from tests.evaluation.support import make_answer

SAID = {"kind": "python", "function": "tests.evaluation.user_scorers:said"}


def test_one_answer_cannot_end_the_scoring_of_the_others(monkeypatch):
    """Results of all types, exceptions of all kinds, the end of its process, and a call without an end."""
    monkeypatch.setenv("GROQ_API_KEY", "secret")
    scored = scorer_of({**SAID, "seconds": 0.5}).prepared()
    found = {
        word: scored({}, make_answer(word), None)
        for word in ("leave", "bool", "interrupt", "numpy", "vanish", "decimal", "spin", "numpy bool", "nan", "inf", "text", "list",
                     "huge", "other", "key")
    }  # fmt: skip
    assert {word: result.value for word, result in found.items() if result.reason is None} == {
        "bool": 1, "numpy": 0.5, "decimal": 0.25, "numpy bool": 1, "key": 0,
    }  # fmt: skip
    assert {word: result.detail for word, result in found.items() if result.reason == SCORER_ERROR} == {
        "leave": "SystemExit: 3",
        "interrupt": "KeyboardInterrupt: ",
        "vanish": "the function ended its process (exit code 7)",
        "spin": "the function took longer than 0.5 s",
        "nan": "the function returned nan",
        "inf": "the function returned inf",
        "text": "the function returned '0.5', which is not a number",
        "list": "the function returned [1], which is not a number",
        "huge": "OverflowError: int too large to convert to float",
        "other": "KeyError: 'other'",
    }


def test_a_row_that_cannot_be_sent_is_not_scored():
    """The function runs in another process."""
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    found = scorer_of(SAID).prepared()({"deep": deep}, make_answer("bool"), None)
    assert (found.value, found.reason) == (None, SCORER_ERROR)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("tests.evaluation.user_scorers:nowhere", "cannot be imported"),
        ("tests.evaluation.no_module:x", "cannot be imported"),
        ("user_scorers", "is not an import path"),
        ("tests.evaluation.user_scorers:CONSTANT", "is not a function"),
        ("tests.evaluation.user_scorers:one_argument", "cannot be called with a row and an answer"),
        ("tests.evaluation.user_scorers:later", "write an ordinary one"),
    ],
)
def test_a_function_that_cannot_run_is_found_before_anything_is_sent(function, said):
    """With the place of its name in the suite."""
    found = list(scorer_of({"kind": "python", "function": function}).contradictions())
    assert [place for place, _ in found] == [("function",)]
    assert said in found[0][1]
    assert list(scorer_of(SAID).contradictions()) == []


def test_a_failed_answer_is_not_given_to_the_function():
    """Nor one that is no longer there; an empty one is."""
    assert score(SAID, "bool", status="failed", error_code="e").reason == NO_ANSWER
    assert score(SAID, None, text=None).reason == NO_ANSWER
    assert score(SAID, "", text="").detail == "KeyError: ''"
