"""JSON documents and calls of tools: equal as a whole, but for what the suite leaves out."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest

from batchkit.evaluation.scorers import SCORER_ERROR
from tests.evaluation.scored import score, scorer_of

ORDER = {"id": 1234567890123, "lines": [{"sku": "a", "n": 1}, {"sku": "b", "n": 2.5}], "note": None}


@pytest.mark.parametrize(
    ("config", "value", "truth", "expected"),
    [
        ({}, ORDER, ORDER, 1),
        ({}, ORDER, {**ORDER, "id": 1234567890124}, 0),
        ({}, {"n": 0.1 + 0.2}, {"n": 0.3}, 1),
        ({}, {"n": 0.1}, {"n": Decimal("0.10")}, 1),
        ({}, {"n": 1}, '{"n": 1.0}', 1),
        ({}, {"n": 1}, {"n": True}, 0),
        ({}, {"n": "1"}, {"n": 1}, 0),
        ({}, {"n": 10**400}, {"n": 0.5}, 0),
        ({}, {"n": 10**400}, {"n": 10**400}, 1),
        ({}, {"d": "2026-01-02"}, {"d": dt.date(2026, 1, 2)}, 1),
        ({}, {"a": 1}, {"a": 1, "b": None}, 0),
        ({}, {"a": 1, "b": None}, {"a": 1}, 0),
        ({}, [1, 2], [2, 1], 0),
        ({}, [1, 2], [1, 2, 3], 0),
        ({}, [1, 2, 3], [1, 2], 0),
        ({"unordered": True}, [{"a": [1, 2]}, 3], [3, {"a": [2, 1]}], 1),
        ({"unordered": True}, [1, 1, 2], [1, 2, 2], 0),
        ({"unordered": True}, [1, 2], [1, 2, 3], 0),
        (
            {"ignore": ["note", "lines.*.n"]},
            ORDER,
            {"id": ORDER["id"], "lines": [{"sku": "a"}, {"sku": "b", "n": 9}]},
            1,
        ),
        ({"ignore": ["lines.0.n"]}, ORDER, {**ORDER, "lines": [{"sku": "a", "n": 9}, {"sku": "b", "n": 9}]}, 0),
        ({"ignore": ["*.t"], "unordered": True}, [{"v": 1, "t": 1}, {"v": 2, "t": 2}], [{"v": 2}, {"v": 1}], 1),
        ({}, '```json\n{"a": 1}\n```', {"a": 1}, 1),
        ({}, '{"a": 1', {"a": 1}, 0),
        ({}, [], "[]", 1),
        ({}, {}, {}, 1),
        ({"field": "lines.0"}, ORDER, '{"n": 1, "sku": "a"}', 1),
    ],
)
def test_documents_are_equal_or_not(config, value, truth, expected):
    """Integers exactly, because they may be names; other numbers within 1e-9; keys that are missing are not null."""
    found = score({"kind": "json_equal", **config}, value, truth, text="x")
    assert (found.value, found.reason) == (expected, None)


def test_a_difference_has_its_place():
    """People see the first one."""
    assert (
        score("json_equal", ORDER, {**ORDER, "lines": [{"sku": "a", "n": 1}, {"sku": "c"}]}).detail
        == "differs in: lines.1.sku"
    )
    assert score("json_equal", [1], {"a": 1}).detail == "differs in: the document"


def test_long_lists_without_order_are_compared_in_time():
    """They are sorted instead of matched one by one."""
    numbers = [number + 0.5 for number in range(100_000)]
    assert score({"kind": "json_equal", "unordered": True}, numbers, numbers[::-1]).value == 1
    assert score({"kind": "json_equal", "unordered": True}, numbers, [*numbers[1:], 0.25]).value == 0


@pytest.mark.parametrize("config", ["json_equal", {"kind": "json_fields", "fields": ["a"]}])
def test_an_expected_text_that_is_no_json_decides_nothing(config):
    """It is neither right nor wrong."""
    for truth in ("{", "no JSON", '{"a": "\ud800"}'):
        assert score(config, {"a": 1}, truth).reason == SCORER_ERROR


def test_fields_of_what_is_no_object_decide_nothing():
    """A number has no fields, and an integer that is a name is exact."""
    config = {"kind": "json_fields", "fields": ["id"]}
    assert score(config, ORDER, "3").reason == SCORER_ERROR
    assert score(config, ORDER, {"id": 1234567890124}).value == 0
    assert score(config, {"id": 10**400}, {"id": 0.5}).value == 0
    assert score(config, {"id": float("nan")}, {"id": Decimal("nan")}).value == 1


SEARCH = {"name": "search", "arguments": {"query": "cats", "limit": 10}}
MAIL = {"name": "mail", "arguments": {"to": "a@b"}}


@pytest.mark.parametrize(
    ("config", "value", "truth", "expected"),
    [
        ({}, [SEARCH], '{"name": "search", "arguments": {"limit": 10.0, "query": "cats"}}', 1),
        ({}, [SEARCH], [SEARCH], 1),
        (
            {},
            [SEARCH],
            {"type": "function", "function": {"name": "search", "arguments": '{"query": "cats", "limit": 10}'}},
            1,
        ),
        ({}, [SEARCH], {"name": "search", "arguments": {"query": "cats"}}, 0),
        ({}, [SEARCH], {"name": "search", "arguments": {"query": "dogs", "limit": 10}}, 0),
        ({}, [SEARCH], {**SEARCH, "name": "Search"}, 0),
        ({}, [SEARCH, MAIL], [MAIL, SEARCH], 1),
        ({"ordered": True}, [SEARCH, MAIL], [MAIL, SEARCH], 0),
        ({"ordered": True}, [SEARCH, MAIL], [SEARCH, MAIL], 1),
        ({}, [SEARCH, SEARCH], [SEARCH], 0),
        ({}, [SEARCH], [SEARCH, SEARCH], 0),
        ({}, [SEARCH, MAIL], [SEARCH, SEARCH], 0),
        ({"arguments": "subset"}, [SEARCH], {"name": "search", "arguments": {"query": "cats"}}, 1),
        ({"arguments": "subset"}, [SEARCH], {"name": "search", "arguments": {"page": 1}}, 0),
        ({"arguments": "subset"}, [{"name": "search", "arguments": {}}], SEARCH, 0),
        ({"arguments": "names"}, [SEARCH], {"name": "search", "arguments": {"query": "dogs"}}, 1),
        ({"arguments": "names"}, [SEARCH], "search", 1),
        ({}, [SEARCH], "search", 1),
        ({}, [MAIL], "search", 0),
    ],
)
def test_calls_are_the_expected_ones(config, value, truth, expected):
    """Exact names, and the arguments as the suite says."""
    found = score({"kind": "tool_call", **config}, value, truth, text="")
    assert (found.value, found.reason) == (expected, None)


@pytest.mark.parametrize(
    ("value", "truth"),
    [
        ([SEARCH], '{"tool": "search"}'),
        ([SEARCH], "search for cats"),
        ([SEARCH], 3),
        ("I would search", SEARCH),
        ([1], SEARCH),
    ],
)
def test_what_is_no_call_decides_nothing(value, truth):
    """The expected value is none, or the suite does not read the answers as calls."""
    assert score("tool_call", value, truth).reason == SCORER_ERROR
    assert scorer_of("tool_call").needs_format == "tools"


def test_a_wrong_call_says_what_is_wrong():
    """With the place in its arguments."""
    found = score("tool_call", [SEARCH], {"name": "search", "arguments": {"query": "dogs", "limit": 10}})
    assert found.detail == "the arguments of search differ in: query"
    assert score("tool_call", [MAIL], SEARCH).detail == "search was not called, but mail"
