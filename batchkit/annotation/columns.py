"""The columns of answers: JSON Schemas and answer formats as Arrow types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa

from batchkit.datasets.rows import is_json, json_field, json_texts
from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence

    from batchkit.annotation.recipe import Recipe

ANSWER: Final = "answer"
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
_VERDICT: Final = (
    pa.field("safe", pa.bool_()),
    pa.field("categories", pa.list_(pa.string())),
    pa.field("category_names", pa.list_(pa.string())),
)
_SCALARS: Final = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
}
_CONSTANTS: Final = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_DEEPEST: Final = 32


class ValueColumns(NamedTuple):
    """The columns for an answer's value, by the names in the value, and the function that spreads a value over them."""

    fields: tuple[pa.Field, ...]
    spread: Callable[[Any], Mapping[str, Any]]


def value_columns(recipe: Recipe) -> ValueColumns:
    """Return the columns for the answers to a recipe.

    An object whose schema names its properties has one column for each, and properties that the schema does not name are left out.
    A transcript has ``text``, ``language``, ``duration`` (seconds), ``segments`` and ``quality``; a verdict ``safe``, ``categories`` and
    ``category_names``. Calls of one tool have a column for each of its parameters, calls of several tools ``tool_name`` and
    ``tool_arguments`` of the first call; both have all ``tool_calls``. Any other answer has the one column ``answer``.
    """
    rules = recipe.rules
    match rules.format:
        case "transcript":
            found = ValueColumns(_TRANSCRIPT, dict)
        case "safety":
            found = ValueColumns(_VERDICT, _verdict)
        case "tools":
            found = _tool_columns(recipe.parameters.tools)
        case "json" if properties := _object_fields(rules.json_schema):
            found = ValueColumns(properties, lambda value: value if isinstance(value, dict) else {})
        case "json":
            found = _one(_field(ANSWER, rules.json_schema or {}, rules.json_schema or {}))
        case "number":
            found = _one(pa.field(ANSWER, pa.float64()))
        case _:
            found = _one(pa.field(ANSWER, pa.string()))
    return found


def arrow_type(schema: Any) -> pa.DataType | None:
    """Return the type that holds every value of a JSON Schema; None if only JSON does.

    Strings, whole numbers, decimals, booleans, lists and objects with named properties have types, also with null, by ``$ref``,
    ``enum`` or ``const``, or as alternatives of one type. In nested objects, properties that the schema does not name are left out.
    """
    return _type(schema, schema, 0)


def free_name(name: str, taken: Container[str]) -> str:
    """Return the name of a column, with the prefix ``answer_`` while the name is taken."""
    while name in taken:
        name = f"{ANSWER}_{name}"
    return name


def filled(field: pa.Field, values: Sequence[Any]) -> tuple[pa.Array, list[int]]:
    """Return a column of values, and the places of values that were too large for it and became null."""
    if is_json(field):
        return pa.array(json_texts(values), pa.string()), []
    try:
        return pa.array(values, field.type), []
    except (pa.ArrowException, OverflowError):
        fitted = [_fitted(value, field.type) for value in values]
        pairs = enumerate(zip(values, fitted, strict=True))
        unfit = [place for place, (value, fit) in pairs if value is not None and fit is None]
        return pa.array(fitted, field.type), unfit


def _one(field: pa.Field) -> ValueColumns:
    return ValueColumns((field,), lambda value: {ANSWER: value})


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
    found = _resolved(schema, schema)
    if not isinstance(found, dict) or found.get("type", "object") != "object":
        return ()
    properties = found.get("properties")
    if not isinstance(properties, dict):
        return ()
    return tuple(_field(name, part, schema) for name, part in properties.items())


def _field(name: str, part: Any, root: Any) -> pa.Field:
    kind = _type(part, root, 0)
    return json_field(name) if kind is None else pa.field(name, kind)


def _type(schema: Any, root: Any, depth: int) -> pa.DataType | None:
    schema = _resolved(schema, root)
    # A schema may contain itself.
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return None
    if "const" in schema or "enum" in schema:
        return _type_of_constants([schema["const"]] if "const" in schema else schema["enum"])
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return _common([_type(part, root, depth + 1) for part in schema[word] if not _is_null(part, root)])
    named = schema.get("type")
    names = [name for name in (named if isinstance(named, list) else [named]) if name != "null"]
    return _common([_named_type(name, schema, root, depth) for name in names])


def _named_type(name: Any, schema: dict[str, Any], root: Any, depth: int) -> pa.DataType | None:
    if name == "array":
        item = _type(schema.get("items"), root, depth + 1) if "prefixItems" not in schema else None
        return None if item is None else pa.list_(item)
    if name == "object":
        return _struct(schema, root, depth)
    return _SCALARS.get(name) if isinstance(name, str) else None


def _struct(schema: dict[str, Any], root: Any, depth: int) -> pa.DataType | None:
    properties = schema.get("properties")
    if not isinstance(properties, dict) or isinstance(schema.get("additionalProperties"), dict):
        return None
    types = {name: _type(part, root, depth + 1) for name, part in properties.items()}
    return None if not types or None in types.values() else pa.struct(list(types.items()))


def _resolved(schema: Any, root: Any) -> Any:
    """Follow references within the document, and an ``allOf`` with a single part."""
    for _ in range(_DEEPEST):
        if not isinstance(schema, dict):
            return schema
        if isinstance(parts := schema.get("allOf"), list) and len(parts) == 1:
            schema = parts[0]
        elif isinstance(reference := schema.get("$ref"), str):
            schema = _referred(reference, root)
        else:
            return schema
    return None


def _referred(reference: str, root: Any) -> Any:
    if not reference.startswith("#"):
        return None
    found = root
    for part in reference.removeprefix("#").strip("/").split("/") if reference != "#" else ():
        found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return found


def _is_null(schema: Any, root: Any) -> bool:
    found = _resolved(schema, root)
    return isinstance(found, dict) and (found.get("type") == "null" or found.get("const", 0) is None)


def _type_of_constants(constants: Any) -> pa.DataType | None:
    if not isinstance(constants, list):
        return None
    return _common([_CONSTANTS.get(type(value)) for value in constants if value is not None])


def _common(types: Sequence[pa.DataType | None]) -> pa.DataType | None:
    """Return the common type of alternatives; for whole numbers and decimals that is decimals."""
    distinct = set(types)
    if len(distinct) == 1:
        return distinct.pop()
    return pa.float64() if distinct == {pa.int64(), pa.float64()} else None


def _fitted(value: Any, kind: pa.DataType) -> Any:
    """Return a value as its type accepts it, or None if it is too large for it."""
    try:
        pa.scalar(value, kind)
    except (pa.ArrowException, OverflowError):
        try:
            rounded = _rounded(value, kind)
            pa.scalar(rounded, kind)
        except (pa.ArrowException, OverflowError):
            return None
        return rounded
    return value


def _rounded(value: Any, kind: pa.DataType) -> Any:
    """Convert whole numbers to decimals where the type is decimal: Arrow refuses numbers that a double cannot hold exactly."""
    if isinstance(value, int) and pa.types.is_floating(kind):
        return float(value)
    if isinstance(value, list) and pa.types.is_list(kind):
        return [_rounded(item, kind.value_type) for item in value]
    if isinstance(value, dict) and pa.types.is_struct(kind):
        return {field.name: _rounded(value.get(field.name), field.type) for field in kind}
    return value
