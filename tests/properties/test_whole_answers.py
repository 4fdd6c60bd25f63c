"""Accepted answers arrive whole in their columns, whatever the schema or the model is."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, computed_field, create_model

from batchkit.annotation.column_values import filled
from batchkit.annotation.columns import ValueColumns, document_columns
from batchkit.answers.check import AnswerCheck
from batchkit.answers.models import check_of
from batchkit.answers.moments import as_date, as_datetime, as_time
from batchkit.answers.rules import AnswerRules
from batchkit.datasets.rows import is_json
from batchkit.files import jsonl
from tests.answers.support import said


class Shape(NamedTuple):
    """A schema, and the values that conform to it."""

    schema: dict[str, Any]
    values: st.SearchStrategy[Any]


NAMES = st.sampled_from(["a", "b", "Unit price", "class", "é", "other_properties", "answer", "x_1"])
ZONES = st.builds(timezone, st.integers(-14 * 60 + 1, 14 * 60 - 1).map(lambda minutes: timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=ZONES)  # noqa: DTZ001 - hypothesis wants it so
LONG = st.integers(-(2**63), 2**63 - 1)
SCALARS = [
    Shape({"type": "string"}, st.text(max_size=8)),
    Shape({"type": "integer"}, LONG | st.sampled_from([2.0, -0.0])),
    Shape({"type": "number"}, st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)),
    Shape({"type": "boolean"}, st.booleans()),
    Shape({"type": ["string", "null"]}, st.none() | st.text(max_size=5)),
    Shape({"type": ["integer", "string"]}, st.integers() | st.text(max_size=5)),
    Shape({"enum": ["yes", "no", None]}, st.sampled_from(["yes", "no", None])),
    Shape({"enum": [1, "one", [1]]}, st.sampled_from([1, "one", [1]])),
    Shape({"const": "x"}, st.just("x")),
    Shape({"type": "string", "format": "date"}, st.dates().map(date.isoformat)),
    Shape({"type": "string", "format": "date-time"}, MOMENTS.map(datetime.isoformat)),
    Shape({"type": "string", "format": "time"}, MOMENTS.map(lambda moment: moment.timetz().isoformat())),
    Shape(
        {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]}, st.none() | st.dates().map(date.isoformat)
    ),
    Shape({"anyOf": [{"type": "string", "format": "date"}, {"type": "string"}]}, st.text(max_size=5)),
    Shape({"$ref": "#/$defs/tree"}, st.fixed_dictionaries({"in": st.just({}) | st.just({"in": {}})})),
    Shape({}, st.integers() | st.text(max_size=5) | st.just({"a": [None]})),
]
DEFINITIONS = {"$defs": {"tree": {"type": "object", "properties": {"in": {"$ref": "#/$defs/tree"}}}}}


@st.composite
def shapes(draw: st.DrawFn, depth: int = 2) -> Shape:
    """Draw a schema with its values: scalars, lists and objects, closed or open."""
    kind = draw(st.sampled_from(["scalar", "scalar", "list", "object"])) if depth else "scalar"
    if kind == "list":
        item = draw(shapes(depth=depth - 1))
        return Shape({"type": "array", "items": item.schema}, st.lists(item.values, max_size=2))
    return draw(objects(depth=depth - 1)) if kind == "object" else draw(st.sampled_from(SCALARS))


@st.composite
def objects(draw: st.DrawFn, depth: int = 2) -> Shape:
    """Draw an object's schema."""
    members = draw(st.dictionaries(NAMES, shapes(depth=depth), min_size=1, max_size=3))
    required = draw(st.sets(st.sampled_from(sorted(members))))
    schema: dict[str, Any] = {"properties": {name: member.schema for name, member in members.items()}}
    schema |= {"required": sorted(required)} if required else {}
    schema |= draw(st.sampled_from([{"type": "object"}, {"type": "object"}, {}]))
    more: Any = draw(
        st.sampled_from([{}, {"additionalProperties": False}, {"additionalProperties": {"type": "integer"}}])
    )
    values: Any = st.fixed_dictionaries(
        {name: members[name].values for name in required},
        optional={name: member.values for name, member in members.items() if name not in required},
    )
    if more.get("additionalProperties") is not False:
        others = st.dictionaries(st.sampled_from(["more", "z.y"]), st.integers(0, 9), max_size=1)
        values = st.tuples(values, others).map(lambda both: {**both[1], **both[0]})
    if "type" not in schema:
        values = values | st.integers(0, 9)
    return Shape({**schema, **more}, values)


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Return what is not null in a value, by its path; an object without any is nothing."""
    if isinstance(value, dict):
        inner = [leaves(member, f"{path}.{name}" if path else name) for name, member in value.items()]
    elif isinstance(value, list) and value:
        inner = [leaves(member, f"{path}[{place}]") for place, member in enumerate(value)]
    else:
        return {} if value is None else {path: value}
    return {key: leaf for part in inner for key, leaf in part.items()}


def arrived(columns: ValueColumns, value: Any) -> dict[str, Any]:
    """Return the leaves of a value's columns."""
    spread = columns.spread(value)
    found: dict[str, Any] = {}
    for field in columns.fields:
        array, unfit = filled(field, [spread.get(field.name)])
        assert unfit == [], (field, spread.get(field.name))
        (cell,) = array.to_pylist()
        cell = jsonl.loads_exactly(cell.encode()) if is_json(field) and cell is not None else cell
        if field.name != columns.others:
            found |= leaves(cell, field.name)
        elif isinstance(cell, dict):
            found |= {key: leaf for name, member in cell.items() for key, leaf in leaves(member, name).items()}
        else:
            found |= leaves(cell)
    return found


def is_same(cell: Any, leaf: Any) -> bool:
    """Whether a cell holds a leaf; dates and times are compared as such."""
    for kind, read in ((datetime, as_datetime), (date, as_date), (time, as_time)):
        if isinstance(cell, kind):
            return bool(cell == read(leaf))
    return bool(cell == leaf)


def check_arrival(columns: ValueColumns, value: Any, wanted: dict[str, Any]) -> None:
    """Compare what arrived with what a value has."""
    found = arrived(columns, value)
    assert found.keys() == wanted.keys()
    assert [path for path, leaf in wanted.items() if not is_same(found[path], leaf)] == []


def test_answers_that_a_schema_accepts_arrive_whole(effort):
    """Every value that is not null stands in a column of its type, in JSON, or among the other properties."""

    @effort(quick=100, deep=2_000)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        shape = data.draw(objects() | shapes())
        value = data.draw(shape.values)
        schema = {**shape.schema, **DEFINITIONS} if "tree" in str(shape.schema) else shape.schema
        rules = AnswerRules(format="json", json_schema=schema)
        reading = AnswerCheck(rules).read(said(jsonl.dumps(value).decode()))
        assert reading.code is None, reading.message
        columns = document_columns(schema, is_closed=False)
        wanted = leaves(value)
        if len(columns.fields) - (columns.others is not None) == 1 and columns.fields[0].name == "answer":
            properties = shape.schema.get("properties") or {}
            wanted = wanted if "answer" in properties else leaves(value, "answer")
        check_arrival(columns, reading.value, wanted)

    holds()


class Mood(Enum):
    """A choice."""

    GOOD = "good"
    BAD = "bad"


class Part(BaseModel):
    """A nested model with an alias of its own."""

    unit_price: float = Field(alias="unitPrice")
    day: date | None = None


TYPES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, st.text(max_size=5)),
    (int, LONG),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (bool, st.booleans()),
    (Mood, st.sampled_from(["good", "bad"])),
    (date, st.dates().map(date.isoformat)),
    (datetime, MOMENTS.map(datetime.isoformat)),
    (time, st.times().map(time.isoformat)),
    (UUID, st.uuids().map(str)),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-99, max_value=99).map(str)),
    (list[int], st.lists(LONG, max_size=2)),
    (set[str], st.lists(st.text(max_size=2), unique=True, max_size=1)),
    (tuple[int, str], st.tuples(st.integers(0, 9), st.text(max_size=2)).map(list)),
    (dict[str, int], st.dictionaries(st.text(max_size=2), st.integers(0, 9), max_size=2)),
    (Part, st.builds(lambda price: {"unitPrice": price, "day": "2026-02-28"}, st.floats(0, 9))),
    (list[Part], st.just([{"unitPrice": 1.5}])),
    (str | None, st.none() | st.text(max_size=5)),
    (int | str, st.integers(0, 9) | st.text(max_size=2)),
]
ALIASES: list[dict[str, Any]] = [
    {},
    {},
    {"alias": "A s"},
    {"validation_alias": "given"},
    {"serialization_alias": "out"},
]


class Counted(BaseModel):
    """A base with a computed field."""

    @computed_field
    def names(self) -> int:
        """Return the number of fields."""
        return len(type(self).model_fields)


def test_answers_that_a_model_accepts_arrive_whole(effort):
    """Strict or not, with every kind of alias, with computed fields: each name of the model's value has its column."""

    @effort(quick=100, deep=2_000)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        is_strict = data.draw(st.booleans())
        extra: Any = data.draw(st.sampled_from(["ignore", "forbid", "allow"]))
        chosen = data.draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=4))
        fields: dict[str, Any] = {}
        for place, (kind, _) in enumerate(chosen):
            alias: dict[str, Any] = {
                word: f"{name}{place}" for word, name in data.draw(st.sampled_from(ALIASES)).items()
            }
            fields[f"field_{place}"] = (kind, Field(**alias))
        base = type("Base", (Counted,), {"model_config": ConfigDict(strict=is_strict, extra=extra)})
        model: type[BaseModel] = create_model("Made", __base__=base, **fields)
        shown = list(TypeAdapter(model).json_schema()["properties"])
        answer = {name: data.draw(values) for name, (_, values) in zip(shown, chosen, strict=True)}
        if extra == "allow":
            answer |= data.draw(st.sampled_from([{}, {"beyond": [1]}]))
        check, schema = check_of(model)
        value = jsonl.loads_exactly(check(jsonl.dumps(answer)))
        assert len(value) == len(answer) + 1
        check_arrival(document_columns(jsonl.loads(schema), is_closed=True), value, leaves(value))

    holds()
