"""From a JSON Schema, or a kind of answer, to columns."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Literal

import pyarrow as pa
import pytest
from pydantic import BaseModel

from batchkit.annotation.arrow_types import arrow_type
from batchkit.annotation.column_values import filled
from batchkit.annotation.columns import SAFETY_CATEGORIES, free_name, value_columns
from batchkit.annotation.parameters import Parameters
from batchkit.annotation.recipe import Recipe
from batchkit.answers.rules import AnswerRules
from batchkit.datasets.rows import is_json, json_field


class Part(BaseModel):
    """A part of an order."""

    name: str
    price: float | None
    tags: list[str]


class Order(BaseModel):
    """An order, with a part of it in another one."""

    id: int
    mood: Literal["good", "bad"]
    parts: list[Part]
    first: Part | None
    is_gift: bool = False


class Tree(BaseModel):
    """A tree, which has no end."""

    name: str
    children: list[Tree]


UTC_TIME = pa.timestamp("us", "UTC")
PART = pa.struct([("name", pa.string()), ("price", pa.float64()), ("tags", pa.list_(pa.string()))])


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "string"}, pa.string()),
        ({"type": ["integer", "null"]}, pa.int64()),
        ({"type": ["integer", "number"]}, pa.float64()),
        ({"type": ["integer", "string"]}, None),
        ({"type": "string", "format": "date"}, pa.date32()),
        ({"type": ["string", "null"], "format": "date-time"}, pa.timestamp("us", "UTC")),
        ({"type": "string", "format": "time"}, pa.time64("us")),
        ({"type": "string", "format": "uuid"}, pa.string()),
        ({"anyOf": [{"type": "string", "format": "date"}, {"type": "string"}]}, pa.string()),
        ({"anyOf": [{"type": "string", "format": "date"}, {"type": "integer"}]}, None),
        ({"type": "array", "items": {"type": "string", "format": "date"}}, pa.list_(pa.date32())),
        ({"enum": ["a", "b", None]}, pa.string()),
        ({"enum": [1, 2.5]}, pa.float64()),
        ({"enum": [1, "a"]}, None),
        ({"const": True}, pa.bool_()),
        ({"anyOf": [{"type": "number"}, {"type": "null"}]}, pa.float64()),
        ({"anyOf": [{"type": "string"}, {"type": "object"}]}, None),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, pa.float64()),
        ({"type": "array", "items": {"type": "integer"}}, pa.list_(pa.int64())),
        ({"type": "array"}, None),
        ({"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "string"}}, None),
        ({"type": "object", "properties": {"a": {"type": "string"}}}, pa.struct([("a", pa.string())])),
        ({"type": "object", "additionalProperties": {"type": "string"}}, None),
        ({"type": "object"}, None),
        ({}, None),
        (True, None),
        ({"$ref": "#/$defs/X", "$defs": {"X": {"type": "boolean"}}}, pa.bool_()),
        ({"$ref": "#/$defs/X", "$defs": {"X": {"$ref": "#/$defs/X"}}}, None),
        ({"$ref": "https://example.com/schema"}, None),
        ({"allOf": [{"type": "integer"}]}, pa.int64()),
        (Order.model_json_schema()["$defs"]["Part"], PART),
        (Tree.model_json_schema(), None),
    ],
)
def test_schema_has_a_type_where_one_type_holds_all_its_values(schema, kind):
    """Nullable, nested, by reference; what may be of several types is JSON."""
    assert arrow_type(schema) == kind


def recipe(**rules):
    """Make a recipe with rules."""
    tools = rules.pop("tools", ())
    return Recipe(kind="annotate", models=("m",), rules=AnswerRules(**rules), parameters=Parameters(tools=tools))


def columns(made):
    """Give the columns for a recipe by name; JSON is called so."""
    return {field.name: "json" if is_json(field) else field.type for field in value_columns(made).fields}


def test_object_has_a_column_for_each_property():
    """A pydantic model's schema becomes typed columns, nested where the model is; one that contains itself is JSON there."""
    assert columns(recipe(format="json", json_schema=Order.model_json_schema())) == {
        "id": pa.int64(),
        "mood": pa.string(),
        "parts": pa.list_(PART),
        "first": PART,
        "is_gift": pa.bool_(),
        "other_properties": "json",
    }
    assert columns(recipe(format="json", json_schema=Tree.model_json_schema())) == {
        "name": pa.string(),
        "children": "json",
        "other_properties": "json",
    }


@pytest.mark.parametrize(
    ("rules", "kind"),
    [
        ({"format": "any"}, pa.string()),
        ({"format": "choice", "choices": ("a", "b")}, pa.string()),
        ({"format": "pattern", "pattern": "a+"}, pa.string()),
        ({"format": "number"}, pa.float64()),
        ({"format": "json"}, "json"),
        ({"format": "json", "json_schema": {"type": "array", "items": {"type": "string"}}}, pa.list_(pa.string())),
        ({"format": "json", "json_schema": {"type": ["object", "null"], "properties": {"a": {}}}}, "json"),
    ],
)
def test_other_answers_are_one_column(rules, kind):
    """Whatever is no object with named properties is the column ``answer``."""
    assert columns(recipe(**rules)) == {"answer": kind}


OPEN = {
    "properties": {
        "a": {"type": "integer"},
        "in": {"type": "array", "items": {"type": "object", "properties": {"b": {"type": "string"}}}},
    }
}


@pytest.mark.parametrize(
    ("value", "others"),
    [
        ({"a": 1, "in": [{"b": "x"}]}, None),
        ({"a": 1, "c": [2]}, {"c": [2]}),
        ({"A": 1}, {"A": 1}),
        ({"in": [{"b": "x"}, {"b": "y", "d": 1}]}, {"in[1].d": 1}),
        (7, 7),
    ],
)
def test_what_has_no_column_is_kept_as_json(value, others):
    """Of a schema that allows more than it names: whole, by its path."""
    found = value_columns(recipe(format="json", json_schema=OPEN))
    assert found.others == "other_properties"
    assert found.spread(value)["other_properties"] == others


def test_a_closed_schema_has_no_column_for_more():
    """Nothing can come that has no column."""
    inner = {"type": "object", "properties": {"b": {"type": "string"}}, "additionalProperties": False}
    closed = {"type": "object", "properties": {"in": inner}, "additionalProperties": False}
    assert list(columns(recipe(format="json", json_schema=closed))) == ["in"]
    open_inside = {**closed, "properties": {"in": {**inner, "additionalProperties": True}}}
    assert list(columns(recipe(format="json", json_schema=open_inside))) == ["in", "other_properties"]
    by_pattern = {**closed, "patternProperties": {"^x": {"type": "integer"}}}
    assert list(columns(recipe(format="json", json_schema=by_pattern))) == ["in", "other_properties"]
    taken = {"type": "object", "properties": {"other_properties": {"type": "string"}}}
    assert list(columns(recipe(format="json", json_schema=taken))) == ["other_properties", "answer_other_properties"]


def test_verdicts_name_their_categories():
    """Codes and the documentation's names side by side; a code that it does not know stays a code."""
    spread = value_columns(recipe(format="safety")).spread({"safe": False, "categories": ["S1", "S14", "S99"]})
    assert spread["category_names"] == ["Violent Crimes", "Code Interpreter Abuse", "S99"]
    assert [f"S{n}" for n in range(1, 15)] == list(SAFETY_CATEGORIES)


def test_calls_of_one_tool_have_its_parameters_as_columns():
    """Of the first call; all calls are listed beside, and of several tools the first call is named."""
    parameters = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
    weather = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    calls = [{"name": "weather", "arguments": {"city": "Lima", "days": 2}}, {"name": "weather", "arguments": {}}]
    listed = [{"name": "weather", "arguments": '{"city":"Lima","days":2}'}, {"name": "weather", "arguments": "{}"}]
    one = recipe(format="tools", tools=(weather,))
    assert list(columns(one)) == ["city", "days", "tool_calls"]
    assert value_columns(one).spread(calls) == {"city": "Lima", "days": 2, "tool_calls": listed}
    two = recipe(format="tools", tools=(weather, {"type": "function", "function": {"name": "time"}}))
    assert value_columns(two).spread(calls) == {
        "tool_name": "weather",
        "tool_arguments": {"city": "Lima", "days": 2},
        "tool_calls": listed,
    }
    assert list(columns(two)) == ["tool_name", "tool_arguments", "tool_calls"]


@pytest.mark.parametrize(
    ("values", "kind", "expected", "unfit"),
    [
        ([1, None, 2**63 - 1], pa.int64(), [1, None, 2**63 - 1], []),
        ([1, 2**63, None], pa.int64(), [1, None, None], [1]),
        ([0.5, 2**60 + 1, 10**400], pa.float64(), [0.5, float(2**60), None], [2]),
        ([[1], [2**63]], pa.list_(pa.int64()), [[1], None], [1]),
        (["2026-02-28", "soon", None], pa.date32(), [date(2026, 2, 28), None, None], [1]),
        (["2026-01-01T01:00:00.1234567+02:00"], UTC_TIME, [datetime(2025, 12, 31, 23, 0, 0, 123456, UTC)], []),
        (
            ["2026-01-01T01:00:00", "2016-12-31T23:59:60Z"],
            UTC_TIME,
            [datetime(2026, 1, 1, 1, tzinfo=UTC), datetime(2017, 1, 1, tzinfo=UTC)],
            [],
        ),
        (["10:00:00", "01:00:00+02:00"], pa.time64("us"), [time(10), time(23)], []),
        (
            [[{"d": "2026-02-28"}, {}]],
            pa.list_(pa.struct([("d", pa.date32())])),
            [[{"d": date(2026, 2, 28)}, {"d": None}]],
            [],
        ),
        ([{"a": 2**60 + 1}, {"b": 1}], pa.struct([("a", pa.float64())]), [{"a": float(2**60)}, {"a": None}], []),
    ],
)
def test_values_that_do_not_fit_are_null_and_told(values, kind, expected, unfit):
    """A number beyond 64 bits ends no export: its cell is null, and its place is known; texts become dates where the column has them."""
    array, places = filled(pa.field("x", kind), values)
    assert (array.to_pylist(), places) == (expected, unfit)


def test_json_columns_hold_anything():
    """Of any kind and size, as text."""
    array, places = filled(json_field("x"), [10**30, {"a": [None]}, "text", None])
    assert (array.to_pylist(), places) == ([str(10**30), '{"a":[null]}', '"text"', None], [])


def test_taken_names_are_avoided():
    """A column of ours never takes the place of one of the table."""
    assert free_name("label", {"text"}) == "label"
    assert free_name("label", {"label"}) == "answer_label"
    assert free_name("label", {"label", "answer_label"}) == "answer_answer_label"
