"""Which columns annotators vote on, and which rows people should look at."""

from __future__ import annotations

import pytest

from batchkit.annotation.columns import value_columns
from batchkit.annotation.recipe import Recipe
from batchkit.annotation.voting import Review, Voting
from batchkit.answers.rules import AnswerRules

STARS = {"type": "integer", "minimum": 1, "maximum": 5}


def voting(rules, *, samples=3):
    """Return the voting of three annotators under these rules."""
    recipe = Recipe(kind="annotate", models=("openai/gpt-oss-20b",), samples=samples, rules=rules)
    return Voting(recipe, value_columns(recipe))


def of_schema(**properties):
    """Return rules for an object with these properties."""
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return AnswerRules(format="json", json_schema=schema)


def answers(*values):
    """Return answers in one column."""
    return [{"answer": value} for value in values]


@pytest.mark.parametrize(
    ("given", "review"),
    [
        ((3, 4, 4), None),
        ((3, 4, 5), Review.DISPUTED),
        ((1, 5), Review.DISPUTED),
        ((3, 3), None),
        ((3,), Review.THIN),
        ((), Review.UNANSWERED),
    ],
)
def test_numbers_are_disputed_when_they_are_far_apart(given, review):
    """From 1 to 5 a difference of one point is none; one vote of three is thin, and none is unanswered."""
    assert voting(AnswerRules(format="number", minimum=1, maximum=5)).review(answers(*given)) is review


def test_numbers_without_a_range_are_disputed_when_they_differ():
    """Without a range nobody knows what is near."""
    found = voting(AnswerRules(format="number"))
    assert found.review(answers(3.0, 3.0)) is None
    assert found.review(answers(3.0, 3.1)) is Review.DISPUTED


def test_labels_and_numbers_of_an_object_are_each_compared_in_their_way():
    """A free text beside them is not compared."""
    found = voting(of_schema(stars=STARS, mood={"enum": ["good", "bad"]}, why={"type": "string"}))
    near = [{"stars": 3, "mood": "good", "why": "a"}, {"stars": 4, "mood": "good", "why": "b"}]

    assert (found.labels, list(found.numbers)) == (("mood",), ["stars"])
    assert found.review(near) is None
    assert found.review([*near, {"stars": 3, "mood": "bad", "why": "a"}]) is Review.DISPUTED
    assert found.review([*near, {"stars": 1, "mood": "good", "why": "a"}]) is Review.DISPUTED
    vote = found.vote(near)
    assert (vote.value, vote.agreement, vote.spread) == ({"stars": 3, "mood": "good", "why": None}, 1.0, {"stars": 1})


def test_a_number_that_is_null_for_some_is_disputed():
    """One annotator found no price, another did."""
    found = voting(of_schema(price={"type": ["number", "null"]}))
    assert found.review([{"price": None}, {"price": None}]) is None
    assert found.review([{"price": None}, {"price": 2.0}]) is Review.DISPUTED


def test_texts_are_compared_whole_and_a_choice_by_its_value():
    """Without labels and numbers every column counts."""
    assert voting(AnswerRules(format="choice", choices=("a", "b"))).review(answers("a", "b")) is Review.DISPUTED
    found = voting(of_schema(name={"type": "string"}, city={"type": "string"}))
    assert found.labels == ("name", "city")
    assert found.review([{"name": "x", "city": "y"}, {"name": "x", "city": "z"}]) is Review.DISPUTED
