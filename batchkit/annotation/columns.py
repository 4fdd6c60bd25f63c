"""The columns of answers, by the rules' format or schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa

from batchkit.annotation.arrow_types import resolved, type_within
from batchkit.answers.check import schema_of_values
from batchkit.datasets.rows import is_json, json_field
from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence

    from batchkit.annotation.recipe import Recipe

ANSWER: Final = "answer"
OTHER: Final = "other_properties"
#: console.groq.com/docs/content-moderation, "Harm Taxonomy and Policy".
SAFETY_CATEGORIES: Final = {
    "S1": "Violent Crimes",
    "S2": "Non-Violent Crimes",
    "S3": "Sex-Related Crimes",
    "S4": "Child Sexual Exploitation",
    "S5": "Defamation",
    "S6": "Specialized Advice",
    "S7": "Privacy",
    "S8": "Intellectual Property",
    "S9": "Indiscriminate Weapons",
    "S10": "Hate",
    "S11": "Suicide & Self-Harm",
    "S12": "Sexual Content",
    "S13": "Elections",
    "S14": "Code Interpreter Abuse",
}
_SEGMENT: Final = pa.struct(
    [
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("text", pa.string()),
        ("avg_logprob", pa.float64()),
        ("no_speech_prob", pa.float64()),
        ("compression_ratio", pa.float64()),
        ("quality", pa.string()),
    ]
)
_TRANSCRIPT: Final = (
    pa.field("text", pa.string()),
    pa.field("language", pa.string()),
    pa.field("duration", pa.float64()),
    pa.field("segments", pa.list_(_SEGMENT)),
    pa.field("quality", pa.string()),
)
_SPEECH: Final = (
    pa.field("path", pa.string()),
    pa.field("bytes", pa.int64()),
    pa.field("sha256", pa.string()),
)
_VERDICT: Final = (
    pa.field("safe", pa.bool_()),
    pa.field("categories", pa.list_(pa.string())),
    pa.field("category_names", pa.list_(pa.string())),
)


class ValueColumns(NamedTuple):
    """The columns for an answer's value, by the names in the value, and the function that spreads a value over them.

    ``others`` is the name of the column for what has no other column.
    """

    fields: tuple[pa.Field, ...]
    spread: Callable[[Any], Mapping[str, Any]]
    others: str | None = None


def value_columns(recipe: Recipe) -> ValueColumns:
    """Return the columns for the answers to a recipe.

    An object whose schema names its properties has one column for each. If the schema allows others, at any depth, they are JSON in
    the column ``other_properties``, by their paths (``items[0].colour``); null without any.
    A transcript has ``text``, ``language``, ``duration`` (seconds), ``segments`` and ``quality``; speech the ``path``, the
    ``bytes`` and the ``sha256`` of its file; a verdict ``safe``, ``categories`` and
    ``category_names``. Calls of one tool have a column for each of its parameters, calls of several tools ``tool_name`` and
    ``tool_arguments`` of the first call; both have all ``tool_calls``. Any other answer has the one column ``answer``.
    """
    rules = recipe.rules
    match rules.format:
        case "transcript":
            found = ValueColumns(_TRANSCRIPT, dict)
        case "speech":
            found = ValueColumns(_SPEECH, dict)
        case "safety":
            found = ValueColumns(_VERDICT, _verdict)
        case "tools":
            found = _tool_columns(recipe.parameters.tools)
        case "json":
            found = document_columns(schema_of_values(rules), is_closed=rules.model_path is not None)
        case "number":
            found = _one(pa.field(ANSWER, pa.float64()))
        case _:
            found = _one(pa.field(ANSWER, pa.string()))
    return found


def free_name(name: str, taken: Container[str]) -> str:
    """Return the name of a column, with the prefix ``answer_`` while the name is taken."""
    while name in taken:
        name = f"{ANSWER}_{name}"
    return name


def _one(field: pa.Field) -> ValueColumns:
    return ValueColumns((field,), lambda value: {ANSWER: value})


def document_columns(schema: dict[str, Any], *, is_closed: bool) -> ValueColumns:
    """Return the columns of JSON answers; ``is_closed``: only what the schema allows explicitly may come beside its properties."""
    properties = _object_fields(schema)
    if not properties and not _may_have_more(schema, is_closed=is_closed):
        return _one(_field(ANSWER, schema, schema))
    if not properties:
        field = _field(ANSWER, schema, schema)
        return _one(field) if is_json(field) else _with_others((field,), lambda value: {ANSWER: value})
    if not _may_have_more(schema, is_closed=is_closed):
        return ValueColumns(properties, lambda value: value if isinstance(value, dict) else {})
    return _with_others(properties, lambda value: value)


def _with_others(fields: tuple[pa.Field, ...], members: Callable[[Any], Any]) -> ValueColumns:
    """Return columns with a further one for what they do not take of a value."""
    others = free_name(OTHER, {field.name for field in fields})

    def spread(value: Any) -> dict[str, Any]:
        found = members(value)
        if not isinstance(found, dict):
            return {others: found}
        left = dict(_left_over(found, pa.struct(fields), ""))
        return {**found, others: left or None}

    return ValueColumns((*fields, json_field(others)), spread, others)


def _left_over(value: Any, kind: pa.DataType, path: str) -> Iterator[tuple[str, Any]]:
    """Yield what a type has no place for, with its path."""
    if isinstance(value, list) and pa.types.is_list(kind):
        for place, item in enumerate(value):
            yield from _left_over(item, kind.value_type, f"{path}[{place}]")
    elif isinstance(value, dict) and pa.types.is_struct(kind):
        places = {field.name: field.type for field in kind}
        for name, member in value.items():
            inner = f"{path}.{name}" if path else name
            if name in places:
                yield from _left_over(member, places[name], inner)
            else:
                yield inner, member


def _may_have_more(schema: Any, *, is_closed: bool) -> bool:
    """Whether values may have properties, at any depth, that the schema's types do not name."""
    todo = [schema]
    while todo:
        part = todo.pop()
        if isinstance(part, list):
            todo.extend(part)
        elif isinstance(part, dict):
            if _is_open(part, is_closed=is_closed):
                return True
            todo.extend(part.values())
    return False


def _is_open(part: dict[str, Any], *, is_closed: bool) -> bool:
    if not isinstance(part.get("properties"), dict):
        return False
    if part.get("patternProperties") or "allOf" in part or "$ref" in part:
        return True
    more = part.get("additionalProperties", part.get("unevaluatedProperties", not is_closed))
    # Whatever is no object need not be one.
    return more is not False or (not is_closed and part.get("type", "object") != part.get("type"))


def _verdict(value: Mapping[str, Any]) -> dict[str, Any]:
    codes = value["categories"]
    return {
        "safe": value["safe"],
        "categories": codes,
        "category_names": None if codes is None else [SAFETY_CATEGORIES.get(code, code) for code in codes],
    }


def _tool_columns(tools: Sequence[Mapping[str, Any]]) -> ValueColumns:
    calls = pa.field("tool_calls", pa.list_(pa.struct([("name", pa.string()), ("arguments", pa.string())])))
    parameters = tools[0].get("function", {}).get("parameters") if len(tools) == 1 else None
    if properties := _object_fields(parameters):

        def spread_arguments(value: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
            arguments = value[0]["arguments"] if value else None
            return {**(arguments if isinstance(arguments, dict) else {}), calls.name: _calls(value)}

        return ValueColumns((*(field for field in properties if field.name != calls.name), calls), spread_arguments)

    def spread(value: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        first = value[0] if value else {"name": None, "arguments": None}
        return {"tool_name": first["name"], "tool_arguments": first["arguments"], calls.name: _calls(value)}

    return ValueColumns((pa.field("tool_name", pa.string()), json_field("tool_arguments"), calls), spread)


def _calls(value: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"name": call["name"], "arguments": jsonl.dumps(call["arguments"]).decode()} for call in value]


def _object_fields(schema: Any) -> tuple[pa.Field, ...]:
    """Return a column for each property of an object's schema; none if the value may be something else."""
    found = resolved(schema, schema)
    if not isinstance(found, dict) or found.get("type", "object") != "object":
        return ()
    properties = found.get("properties")
    if not isinstance(properties, dict):
        return ()
    return tuple(_field(name, part, schema) for name, part in properties.items())


def _field(name: str, part: Any, root: Any) -> pa.Field:
    kind = type_within(part, root)
    return json_field(name) if kind is None else pa.field(name, kind)
