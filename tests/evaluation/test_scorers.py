"""Scorers: what an answer is worth, and never 0 for what cannot be told."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from pydantic import TypeAdapter

from batchkit.answers import patterns
from batchkit.errors import ConfigurationError
from batchkit.evaluation.scorers import NO_ANSWER, NO_EXPECTED, REGEX_CHARACTERS, SCORER_ERROR, Scorer
from tests.evaluation.support import make_answer

PERSON = {"name": "Ada", "born": {"year": 1815.0}, "tags": ["x", "y"]}


def score(config, value, truth="", **answer):
    """Score an answer against what its row expects."""
    scorer = TypeAdapter(Scorer).validate_python(config)
    return scorer.prepared()({"truth": truth, "text": "four"}, make_answer(value, **answer), "truth")


@pytest.mark.parametrize(
    ("config", "value", "truth", "expected"),
    [
        ({"kind": "exact"}, " Paris\n", "Paris", 1),
        ({"kind": "exact"}, "paris", "Paris", 0),
        ({"kind": "exact"}, 3.0, "3", 1),
        ({"kind": "exact"}, "2.50", Decimal("2.50"), 1),
        ({"kind": "contains"}, "It was 2026-01-02.", dt.date(2026, 1, 2), 1),
        ({"kind": "number"}, "5", dt.timedelta(seconds=5), 1),
        ({"kind": "exact"}, "true", True, 1),
        ({"kind": "json_fields", "fields": ["p", "d"]}, {"p": 1.1, "d": "2026-01-02"}, {"p": Decimal("1.10"), "d": dt.date(2026, 1, 2)}, 1),
        ({"kind": "normalised"}, "The  Eiffel-Tower!", "eiffel tower", 1),
        ({"kind": "normalised"}, "ﬁne “day”", "FINE day", 1),
        ({"kind": "normalised"}, "another day", "day", 0),
        ({"kind": "choice"}, '"Positive".', "positive", 1),
        ({"kind": "choice"}, "negative", "positive", 0),
        ({"kind": "choice"}, "*", "***", 0),
        ({"kind": "choice"}, ".", "*", 0),
        ({"kind": "choice"}, "**", "**", 1),
        ({"kind": "choice"}, "U.S", "U.S.", 1),
        ({"kind": "choice"}, "don\u2019t know", "Don't know", 1),
        ({"kind": "choice", "field": "label"}, {"label": "b"}, "B", 1),
        ({"kind": "choice", "field": "a.1"}, {"a": ["x", "y"]}, "y", 1),
        ({"kind": "choice", "field": "other"}, {"label": "b"}, "b", 0),
        ({"kind": "number"}, 1234, "1,234", 1),
        ({"kind": "number", "absolute": 0.5}, "3.4", "3", 1),
        ({"kind": "number", "absolute": 0.5}, "3.6", "3", 0),
        ({"kind": "number", "relative": 0.1}, 109, "100", 1),
        ({"kind": "number", "read": "last"}, "6 x 7 is 42.", "42", 1),
        ({"kind": "number", "read": "whole"}, "6 x 7 is 42.", "42", 0),
        ({"kind": "number"}, "many", "42", 0),
        ({"kind": "contains"}, "It is PARIS.", "paris", 1),
        ({"kind": "contains", "ignore_case": False}, "It is PARIS.", "paris", 0),
        ({"kind": "contains", "text": "sorry"}, "I am sorry", None, 1),
        ({"kind": "regex", "pattern": r"\d{4}"}, "in 1815", None, 1),
        ({"kind": "regex", "pattern": r"\d{4}", "whole": True}, "in 1815", None, 0),
        ({"kind": "regex", "pattern": "PARIS", "ignore_case": True}, "in paris", None, 1),
        ({"kind": "regex", "pattern": "end"}, "x" * REGEX_CHARACTERS + "end", None, 0),
        ({"kind": "json_fields", "fields": ["name", "born.year"]}, PERSON, '{"name": " Ada", "born": {"year": 1815}}', 1),
        ({"kind": "json_fields", "fields": ["name", "born.year"]}, PERSON, {"name": "Bob", "born": {"year": 1815}}, 0.5),
        ({"kind": "json_fields", "fields": ["name", "gone"]}, PERSON, {"name": "Ada"}, 1),
        ({"kind": "json_fields", "fields": ["name"], "ignore_case": True}, PERSON, {"name": "ADA"}, 1),
        ({"kind": "json_fields", "fields": ["flag"]}, {"flag": True}, {"flag": 1}, 1),
        ({"kind": "schema_valid", "schema": {"required": ["name"]}}, PERSON, None, 1),
        ({"kind": "schema_valid", "schema": {"required": ["email"]}}, PERSON, None, 0),
        ({"kind": "schema_valid", "schema": {}}, "no JSON", None, 0),
        ({"kind": "similarity"}, "kitten", "kitten", 1),
        ({"kind": "similarity", "at_least": 0.9}, "kitten", "sitting", 0),
        ({"kind": "python", "function": "tests.evaluation.user_scorers:same_length"}, "five", None, 1),
    ],
)  # fmt: skip
def test_an_answer_is_worth_what_its_scorer_says(config, value, truth, expected):
    """Each scorer on answers that it takes for right, wrong, and partly right."""
    found = score(config, value, truth)
    assert (found.value, found.reason) == (expected, None)


def test_alike_is_a_matter_of_degree():
    """Similarity is a share of the text."""
    found = score({"kind": "similarity"}, "kitten", "sitting")
    assert found.value == pytest.approx(0.615, abs=0.01)


@pytest.mark.parametrize(
    ("config", "value", "truth", "reason"),
    [
        ({"kind": "exact"}, "Paris", None, NO_EXPECTED),
        ({"kind": "exact"}, "Paris", float("nan"), NO_EXPECTED),
        ({"kind": "number"}, "3", "three", SCORER_ERROR),
        ({"kind": "json_fields", "fields": ["a"]}, {"a": 1}, "no JSON", SCORER_ERROR),
        ({"kind": "python", "function": "tests.evaluation.user_scorers:broken"}, "x", None, SCORER_ERROR),
        ({"kind": "python", "function": "tests.evaluation.user_scorers:undecided"}, "x", None, SCORER_ERROR),
    ],
)
def test_what_cannot_be_told_is_no_score(config, value, truth, reason):
    """A row without the expected value, or a scorer that fails, says why and is not 0."""
    found = score(config, value, truth)
    assert (found.value, found.reason) == (None, reason)
    if config["kind"] == "python" and "broken" in config["function"]:
        assert found.detail == "KeyError: 'nothing'"


@pytest.mark.parametrize(
    "config",
    [
        {"kind": "exact"},
        {"kind": "regex", "pattern": "."},
        {"kind": "python", "function": "tests.evaluation.user_scorers:same_length"},
        {"kind": "schema_valid", "schema": {}},
    ],
)
def test_a_failed_request_has_no_score(config):
    """A request that the provider refused is no wrong answer of the scorer's making."""
    found = score(config, None, "x", status="failed", error_code="invalid_request")
    assert found == (None, NO_ANSWER, "invalid_request")


def test_an_answer_that_broke_its_rules_is_not_valid():
    """What schema_valid measures is measured also where the answer failed for that very reason."""
    found = score({"kind": "schema_valid", "schema": {}}, None, status="failed", error_code="answer_invalid", text="{")
    assert found.value == 0.0


def test_a_function_that_is_not_there_is_told_before_anything_is_scored():
    """An import path with a mistake is an error of the suite."""
    with pytest.raises(ConfigurationError, match="cannot be imported"):
        score({"kind": "python", "function": "tests.evaluation.user_scorers:nowhere"}, "x")


JUDGE = {"kind": "judge", "model": "m", "prompt": "{{ model_answer }}"}


@pytest.mark.parametrize(
    ("config", "value", "expected"),
    [
        ({"answers": {"choices": ["good", "bad"]}, "scores": {"good": 1, "bad": 0.25}}, "bad", 0.25),
        ({"answers": {"minimum": 1, "maximum": 5}}, 4, 0.75),
        ({"answers": {"minimum": 0}}, 4, 4.0),
        ({"answers": {"schema": {}}, "verdict": "a.b", "scale": [0, 10]}, {"a": {"b": 3}}, 0.3),
        ({"answers": {"schema": {}}, "verdict": "a", "scores": {"fine": 1}}, {"a": "other"}, None),
        ({"answers": {"schema": {}}, "verdict": "a"}, {"b": 1}, None),
    ],
)
def test_a_judgement_becomes_a_score(config, value, expected):
    """Words are worth what the suite says, numbers are scaled to 0 to 1, and a judgement that cannot be read is none."""
    judge = TypeAdapter(Scorer).validate_python({**JUDGE, **config})
    assert judge.kind == "judge"
    found = judge.score_of(make_answer(value))
    assert found.value == (None if expected is None else pytest.approx(expected))
    assert (found.reason == SCORER_ERROR) == (expected is None)
    assert judge.score_of(make_answer(None, status="failed", error_code="answer_invalid")).value is None


def test_a_pattern_that_runs_away_scores_nothing(monkeypatch):
    """It decides nothing about the answer: neither 0 nor 1."""
    monkeypatch.setattr(patterns, "_SECONDS", 0.05)
    found = score({"kind": "regex", "pattern": r"^(a|aa)+$"}, "a" * 5_000 + "!")
    assert (found.value, found.reason) == (None, SCORER_ERROR)
    assert "the pattern took too long" in (found.detail or "")


def test_a_schema_scorer_checks_formats_and_tells_where():
    """As the rules of an answer do."""
    found = score({"kind": "schema_valid", "schema": {"properties": {"day": {"format": "date"}}}}, {"day": "Tuesday"})
    assert (found.value, found.detail) == (0.0, 'day: "Tuesday" is not a "date"')
