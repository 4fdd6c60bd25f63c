"""Majority and agreement of several annotators."""

from __future__ import annotations

from typing import Any

import pytest

from batchkit.annotation.votes import Vote, label_properties, majority, majority_of_objects
from batchkit.answers import AnswerRules


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
    assert majority_of_objects(given, ["a", "b"]) == Vote({"a": 1, "b": "y"}, (3 / 4 + 2 / 4) / 2)
    assert majority_of_objects(given, ["a", "b"], ["a"]) == Vote({"a": 1, "b": "y"}, 3 / 4)
    assert majority_of_objects([], ["a"]) == Vote(None, None)


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
