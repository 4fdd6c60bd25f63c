"""What holds for every scorer, whatever it is given."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchkit.evaluation.scorers import NO_ANSWER, NO_EXPECTED, SCORER_ERROR
from tests.evaluation.scored import score, scorer_of
from tests.evaluation.support import make_answer

CONFIGS: list[dict[str, Any]] = [
    {"kind": "exact"},
    {"kind": "normalised"},
    {"kind": "choice"},
    {"kind": "choice", "choices": ["a", "b."]},
    {"kind": "number"},
    {"kind": "number", "read": "last", "decimal": ",", "thousands": " ", "currency": True, "percent": True},
    {"kind": "contains"},
    {"kind": "regex", "pattern": "a+b"},
    {"kind": "json_fields", "fields": ["a", "0.b"]},
    {"kind": "json_equal", "unordered": True, "ignore": ["*.a"]},
    {"kind": "schema_valid", "schema": {"type": "object"}},
    {"kind": "similarity"},
    {"kind": "similarity", "method": "partial_ratio"},
    {"kind": "similarity", "method": "WRatio"},
    {"kind": "f1"},
    {"kind": "answer_letter"},
    {"kind": "answer_letter", "options": ["truth", "other"], "count_from": 1},
    {"kind": "tool_call"},
    {"kind": "tool_call", "arguments": "subset", "ordered": True},
]
OF_TEXTS = ("exact", "normalised", "choice", "contains", "f1", "similarity")
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=())),
    st.text("-+.,%$ 0123456789eE\u2212\u20ac()[]{}\\^_ABabi?!#*'\n\ud800", max_size=12),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.just(5000).map(lambda digits: 10**digits), st.floats(), TEXTS, st.decimals()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(["a", "b", "name", "arguments"]) | TEXTS, inner, max_size=4)),
    max_leaves=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def scorers():
    """Prepare every scorer once."""
    return [(config, scorer_of(config).prepared()) for config in CONFIGS]


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(value=VALUES, truth=VALUES, text=st.one_of(st.none(), TEXTS))
def test_every_value_has_a_score_or_a_reason(scorers, value, truth, text):
    """A score is a share; without one there is a reason; nothing fails."""
    for config, scored in scorers:
        found = scored({"truth": truth, "other": value}, make_answer(value, text=text), "truth")
        assert (found.value is None) == (found.reason is not None), config
        if found.value is None:
            assert found.reason in {NO_ANSWER, NO_EXPECTED, SCORER_ERROR}, config
        else:
            assert 0 <= found.value <= 1, config


@settings(max_examples=200, deadline=None)
@given(text=TEXTS)
def test_a_text_is_itself_or_unlabelled(text):
    """By every scorer of texts and every method."""
    for kind in OF_TEXTS:
        found = score(kind, text, text)
        assert found.value == 1 or found.reason == NO_EXPECTED
    for method in ("partial_ratio", "token_sort_ratio", "token_set_ratio", "WRatio"):
        found = score({"kind": "similarity", "method": method}, f" {text}", text)
        assert found.value == 1 or found.reason == NO_EXPECTED


@settings(max_examples=200, deadline=None)
@given(
    document=st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXTS),
        lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
        max_leaves=10,
    )
)
def test_a_document_is_itself(document):
    """In its order and without it."""
    for unordered in (False, True):
        if isinstance(document, (list, dict)):
            assert score({"kind": "json_equal", "unordered": unordered}, document, document).value == 1


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_large_answers_take_no_time(config):
    """Ten megabytes of words, signs, digits or brackets."""
    scored = scorer_of(config).prepared()
    truth = {"truth": "5" if config["kind"] in {"number", "answer_letter"} else '{"a": 1, "name": "f"}', "other": "x"}
    for piece in ("word ", "-5 ", "5", "A ", "\u00e9\u2212 ", "\\frac{"):
        text = piece * (10_000_000 // len(piece))
        began = time.process_time()
        found = scored(truth, make_answer(text), "truth")
        assert time.process_time() - began < 1, piece
        assert found.value in {0, None} or config["kind"] in {"regex", "similarity", "contains", "json_fields"}


def test_documents_that_are_nested_deeply_have_a_reason():
    """They are not compared, and end nothing."""
    deep: object = 1
    for _ in range(5_000):
        deep = [deep]
    for config in CONFIGS:
        found = score(config, deep, deep)
        assert found.value == 1 or found.reason == SCORER_ERROR or config["kind"] not in OF_TEXTS
    assert score("json_equal", deep, deep).reason == SCORER_ERROR
