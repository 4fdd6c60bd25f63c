"""Majority and agreement of several annotators."""

from __future__ import annotations

import math
from typing import Any

import pytest

from batchkit.annotation.votes import (
    NumberKind,
    Vote,
    label_properties,
    majority,
    median_vote,
    number_properties,
    vote_on_objects,
)
from batchkit.answers.rules import AnswerRules


@pytest.mark.parametrize(
    ("values", "vote"),
    [
        (["a", "b", "a"], Vote("a", 2 / 3)),
        (["a"], Vote("a", 1.0)),
        ([], Vote(None, None)),
        (["a", "b"], Vote(None, 0.5)),
        (["a", "a", "b", "b", "c"], Vote(None, 0.4)),
        ([1, 1.0, 2], Vote(1, 2 / 3)),
        ([True, 1], Vote(None, 0.5)),
        ([None, None, "a"], Vote(None, 2 / 3)),
        ([["a", "b"], ["b", "a"], ["a", "b"]], Vote(["a", "b"], 2 / 3)),
        ([{"x": 1, "y": [True]}, {"y": [True], "x": 1}], Vote({"x": 1, "y": [True]}, 1.0)),
        ([{"x": 1}, {"x": None}], Vote(None, 0.5)),
        ([[{"x": 1}], [{"x": True}]], Vote(None, 0.5)),
    ],
)
def test_what_most_say_counts_and_a_tie_decides_nothing(values, vote):
    """Equal values are counted, however they are nested; true is not 1, and an order of names is none."""
    assert majority(values) == vote


def test_each_property_is_voted_on_by_itself():
    """An object of the majority need not be one that anybody gave; agreement is the mean of the labels, by default of all."""
    given: list[dict[str, Any]] = [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "y"}, {"a": 1}]
    assert vote_on_objects(given, ["a", "b"]) == Vote({"a": 1, "b": "y"}, (3 / 4 + 2 / 4) / 2)
    assert vote_on_objects(given, ["a", "b"], ["a"]) == Vote({"a": 1, "b": "y"}, 3 / 4)
    assert vote_on_objects([], ["a"]) == Vote(None, None)


def test_labels_are_what_has_few_values():
    """Enumerations, constants and yes or no, also by reference; free text and numbers are none."""
    schema = {
        "properties": {
            "mood": {"$ref": "#/$defs/Mood"},
            "spam": {"type": "boolean"},
            "kind": {"const": "review"},
            "why": {"type": "string"},
            "score": {"type": "integer"},
        },
        "$defs": {"Mood": {"enum": ["good", "bad"]}},
    }
    assert label_properties(AnswerRules(format="json", json_schema=schema)) == ("mood", "spam", "kind")
    assert label_properties(AnswerRules(format="json", json_schema={"type": "array"})) == ()
    assert label_properties(AnswerRules(format="number")) == ()


@pytest.mark.parametrize(
    ("values", "is_whole", "vote"),
    [
        ([3, 4, 5], True, Vote(4, 1 / 3, 2)),
        ([3, 4], True, Vote(3, 1 / 2, 1)),
        ([3.0, 4.0], False, Vote(3.5, 0.0, 1.0)),
        ([1, 5, 5, None], True, Vote(5, 1 / 2, 4)),
        ([2], False, Vote(2, 1.0, 0)),
        ([None, 5, None], True, Vote(None, 2 / 3, 0)),
        ([None, None], True, Vote(None, 1.0)),
        ([None, 5], True, Vote(None, 1 / 2, 0)),
        ([], False, Vote(None, None)),
        ([10**400, 0], True, Vote(0, 1 / 2, math.inf)),
        ([10**400, 10**401], False, Vote(10**400, 1 / 2, math.inf)),
    ],
)
def test_numbers_are_voted_on_by_their_median(values, is_whole, vote):
    """Three different ratings are no tie; the spread says how far they are apart, and nulls need half of the votes."""
    assert median_vote(values, is_whole=is_whole) == vote


def test_an_object_has_medians_beside_majorities():
    """Numbers and labels of one answer are voted on each in its way; agreement is that of the labels."""
    given: list[dict[str, Any]] = [{"stars": 3, "mood": "good"}, {"stars": 4, "mood": "good"}, {"stars": 5}]
    assert vote_on_objects(given, ["stars", "mood"], ["mood"], {"stars": NumberKind(is_whole=True)}) == Vote(
        {"stars": 4, "mood": "good"}, 2 / 3, {"stars": 2}
    )


def test_numbers_of_a_schema_are_found():
    """Whole numbers and others, also nullable and by reference; what may be something else is none."""
    schema = {
        "properties": {
            "stars": {"type": "integer", "minimum": 1, "maximum": 5},
            "price": {"type": ["number", "null"]},
            "age": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "size": {"$ref": "#/$defs/Size"},
            "grade": {"enum": [1, 2, 3]},
            "code": {"type": ["integer", "string"]},
            "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
            "open": {},
            "height": {"anyOf": [{"$ref": "#/$defs/Size"}, {"type": "null"}]},
            "endless": {"$ref": "#/$defs/Endless"},
        },
        "$defs": {"Size": {"type": "number"}, "Endless": {"anyOf": [{"$ref": "#/$defs/Endless"}]}},
    }
    found = number_properties(AnswerRules(format="json", json_schema=schema))
    assert found == {
        "stars": NumberKind(is_whole=True, tolerance=1.0),
        "price": NumberKind(is_whole=False),
        "age": NumberKind(is_whole=True),
        "size": NumberKind(is_whole=False),
        "height": NumberKind(is_whole=False),
    }
    assert number_properties(AnswerRules(format="number", minimum=0, maximum=10)) == {
        "answer": NumberKind(is_whole=False, tolerance=2.5)
    }
