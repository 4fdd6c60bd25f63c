import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchkit.emulator.answers.patterns import PatternUnsupported, matching
from batchkit.emulator.answers.schema_answers import SchemaUnsupported, conforming
from tests.lazy import LazyModule

jsonschema = LazyModule("jsonschema")

TREE = {
    "type": "object",
    "properties": {
        "value": {"type": "integer"},
        "children": {"type": "array", "items": {"$ref": "#"}},
        "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
    },
    "required": ["value", "children", "next"],
    "additionalProperties": False,
}
SCHEMAS = [
    True,
    {},
    TREE,
    {"enum": ["yes", "no", None, 3]},
    {"const": {"a": [1]}},
    {"type": ["string", "null"], "maxLength": 3},
    {"type": "string", "minLength": 200},
    {"type": "string", "pattern": "^[A-Z]{3}-\\d{4}$"},
    {"type": "string", "pattern": "^(red|green|blue)+$", "minLength": 12, "maxLength": 30},
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "email"},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
    {"type": "number", "multipleOf": 0.01, "minimum": 1},
    {"type": "integer", "minimum": 7, "maximum": 7},
    {"type": "integer", "exclusiveMaximum": -5},
    {"type": "integer", "multipleOf": 7, "minimum": 100},
    {"type": "array", "items": {"enum": [1, 2, 3]}, "minItems": 3, "uniqueItems": True},
    {"type": "array", "prefixItems": [{"type": "boolean"}, {"type": "string"}], "items": False},
    {"type": "array", "maxItems": 0},
    {"type": "array", "contains": {"const": 4}},
    {"type": "object", "required": ["free"], "additionalProperties": {"type": "integer"}, "minProperties": 3},
    {"type": "object", "properties": {"a": {}, "b": {}, "c": {}}, "maxProperties": 2, "required": ["b"]},
    {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "number", "minimum": 3}}},
            {"properties": {"a": {"type": "integer", "maximum": 4}}, "required": ["a"]},
        ]
    },
    {"oneOf": [{"type": "string", "maxLength": 4}, {"type": "integer"}]},
    {
        "$defs": {"label": {"enum": ["a", "b"]}},
        "type": "object",
        "properties": {"label": {"$ref": "#/$defs/label", "description": "x"}},
        "required": ["label"],
    },
    {
        "properties": {"a/b": {"$ref": "#/definitions/x~1y"}},
        "required": ["a/b"],
        "definitions": {"x/y": {"type": "null"}},
    },
]


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("prompt", ["", "Is this a question?", "Ü" * 500])
def test_answers_conform(schema, prompt):
    """A value is valid for its schema, and the same prompt gives the same value."""
    value = conforming(schema, prompt)
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(value)
    assert conforming(schema, prompt) == value


def _objects(inner):
    return st.dictionaries(st.sampled_from("abcde"), inner, max_size=4).flatmap(
        lambda properties: st.builds(
            lambda required, extra: {
                "type": "object",
                "properties": properties,
                "required": required,
                "additionalProperties": extra,
            },
            st.lists(st.sampled_from(sorted(properties)), unique=True) if properties else st.just([]),
            st.booleans(),
        )
    )


def _arrays(inner):
    return st.builds(
        lambda items, least, more: {"type": "array", "items": items, "minItems": least, "maxItems": least + more},
        inner,
        st.integers(0, 3),
        st.integers(0, 3),
    )


def _bounded(low, span, kind):
    return {"type": kind, "minimum": low, "maximum": low + span}


LEAVES = st.one_of(
    st.just({"type": "null"}),
    st.just({"type": "boolean"}),
    st.builds(_bounded, st.integers(-50, 50), st.integers(0, 50), st.sampled_from(["integer", "number"])),
    st.builds(
        lambda least, more: {"type": "string", "minLength": least, "maxLength": least + more},
        st.integers(0, 9),
        st.integers(0, 9),
    ),
    st.builds(
        lambda values: {"enum": values},
        st.lists(st.one_of(st.text(max_size=5), st.integers(), st.none()), min_size=1, max_size=4),
    ),
)
ANY_SCHEMA = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        _objects(inner),
        _arrays(inner),
        st.builds(lambda branches: {"anyOf": branches}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(schema=ANY_SCHEMA, prompt=st.text(max_size=40))
def test_any_ordinary_schema_is_satisfied(schema, prompt):
    """The value is valid for any schema built from the usual keywords."""
    jsonschema.Draft202012Validator(schema).validate(conforming(schema, prompt))


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"not": {"type": "string"}},
        {"type": "string", "minLength": 5, "maxLength": 3},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"type": "string", "pattern": "(?=x)y"},
        {"type": "string", "enum": [1]},
        {"$ref": "#/nowhere"},
        {"$ref": "https://example.com/schema"},
        {"$ref": "#"},
        {"type": "array", "items": {"const": 1}, "minItems": 2, "uniqueItems": True},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "widget"},
    ],
)
def test_impossible_schemas_are_refused(schema):
    """A contradiction or an unsupported keyword is an error, never a wrong answer."""
    with pytest.raises(SchemaUnsupported):
        conforming(schema, "x")


def test_labels_spread_over_the_choices():
    """Different prompts get different labels, and all labels occur."""
    schema = {"type": "object", "properties": {"label": {"enum": ["a", "b", "c"]}}, "required": ["label"]}
    labels = [conforming(schema, f"prompt {n}")["label"] for n in range(60)]
    assert {"a", "b", "c"} == set(labels)


@pytest.mark.parametrize(
    "pattern",
    [
        r"^\d{3}-\d{2}-\d{4}$",
        r"^[a-z][a-z0-9_]{2,20}$",
        r"^(?:[A-F0-9]{2}:){5}[A-F0-9]{2}$",
        r"^https?://[\w.-]+/?$",
        r"^[^@\s]+@[^@\s]+\.[a-z]{2,}$",
        r"a|b|c",
        r"^$",
        r"^\$\d+(\.\d\d)?$",
        r"^[\w\-]+$",
        r"\u0041{2}",
        r"^(?P<year>\d{4})$",
        r"^.*x.*$",
        r"^[]a]+$",
    ],
)
def test_patterns_are_matched(pattern):
    """The string matches the pattern and is the same for the same entropy."""
    for entropy in range(20):
        assert re.search(pattern, matching(pattern, entropy))
        assert matching(pattern, entropy) == matching(pattern, entropy)


@pytest.mark.parametrize("pattern", [r"(?=a)b", r"(a)\1", r"\bword\b", r"(", r"a{5}", "[^\\x20-\\x7e]"])
def test_patterns_beyond_the_basics_are_refused(pattern):
    """Look-arounds, back-references and unreachable lengths are errors."""
    with pytest.raises(PatternUnsupported):
        matching(pattern, 1, longest=4)
