"""Patterns that would run for hours, and patterns that would take all the memory."""

from __future__ import annotations

import contextlib
import re
import time

import pytest
from pydantic import ValidationError

from batchkit.answers import patterns
from batchkit.answers.check import AnswerCheck
from batchkit.answers.patterns import BoundedPattern, TookTooLong
from batchkit.answers.rules import AnswerRules
from tests.answers.support import said

RUNAWAY = r"(a|aa)+$"
TEXT = "a" * 5_000 + "!"


@pytest.fixture
def _short_limits(monkeypatch):
    monkeypatch.setattr(patterns, "_SECONDS", 0.1)
    monkeypatch.setattr(patterns, "_SECONDS_LATER", 0.02)


@pytest.mark.usefixtures("_short_limits")
def test_a_pattern_that_runs_away_concerns_its_answer_only():
    """The answer is invalid, in words that name the pattern; after some of them the next ones get less time."""
    check = AnswerCheck(AnswerRules(format="pattern", pattern=RUNAWAY))
    started = time.perf_counter()
    readings = [check.read(said(TEXT)) for _ in range(30)]
    assert {(reading.code, reading.message) for reading in readings} == {
        ("answer_invalid", f"the pattern took too long: {RUNAWAY}")
    }
    assert time.perf_counter() - started < 10
    assert check.read(said("aaa")).value == "aaa"


@pytest.mark.parametrize(
    "pattern", [r"(\w+\s?)+\.", r"(.*)*b", r"((a*)*)*b", r"(?=(a+)+$)b", r"(\w+)\1+x", r"^(a?){40}a{40}$"]
)
def test_usual_runaways_end(pattern):
    """Nested repetitions, look-aheads, back-references."""
    started = time.perf_counter()
    with contextlib.suppress(TookTooLong):
        assert not BoundedPattern(pattern).matches("a" * 64 + "!")
    assert time.perf_counter() - started < 10


def test_a_text_beyond_all_bounds_is_not_matched():
    """A match keeps what its groups found: of a text without an end that would be all the memory."""
    with pytest.raises(TookTooLong, match="too long for a pattern"):
        BoundedPattern("(.)*").matches("a" * 1_000_001)


@pytest.mark.parametrize(
    "pattern", ["(", "(((a{1000}){1000}){1000}){1000}", "(?:[^)]{500}x){900}", "a{99999999999}", "a" * 20_001, "[", "*"]
)
def test_a_pattern_that_cannot_be_used_is_refused_when_it_is_written(pattern):
    """Also one whose counted repetitions would take gigabytes to write out."""
    with pytest.raises(ValidationError, match="not a regular expression"):
        AnswerRules(format="pattern", pattern=pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        r"\d{1,5}-\d{1,5}-\d{1,9000}",
        r"(?:\d{3}\.){3}\d{3}",
        r"[(){1000}]{900}",
        r"\({5000}",
        r"(?P<a>x)(?P=a)",
        r"(?<=a)b|\bc\b",
    ],
)
def test_patterns_of_the_usual_size_are_taken(pattern):
    """Repetitions beside each other, and signs in classes and behind backslashes, do not multiply."""
    assert AnswerRules(format="pattern", pattern=pattern).pattern == pattern


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("[A-Z]{2}", "AB"),
        ("[A-Z]{2}", "ABC"),
        ("a|ab", "ab"),
        (r"\w+", "äß_1"),
        (r"(?i)x", "X"),
        (".", "\n"),
        ("a$", "a\n"),
    ],
)
def test_the_expressions_are_those_of_python(pattern, text):
    """The engine that can give up finds what ``re`` finds."""
    assert BoundedPattern(pattern).matches(text) == (re.fullmatch(pattern, text) is not None)
    assert BoundedPattern(pattern).matches(text, where="anywhere") == (re.search(pattern, text) is not None)
