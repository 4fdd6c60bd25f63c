"""JSON Schemas as Arrow types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

_SCALARS: Final = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
}
_MOMENTS: Final = {"date": pa.date32(), "date-time": pa.timestamp("us", "UTC"), "time": pa.time64("us")}
_CONSTANTS: Final = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_DEEPEST: Final = 32


def arrow_type(schema: Any) -> pa.DataType | None:
    """Return the type that holds every value of a JSON Schema; None if only JSON does.

    Strings, whole numbers, decimals, booleans, lists and objects with named properties have types, also with null, by ``$ref``,
    ``enum`` or ``const``, or as alternatives of one type. Dates and times (``format``) are typed as such, in UTC. Nested objects
    hold the properties that the schema names.
    """
    return type_within(schema, schema)


def type_within(part: Any, root: Any) -> pa.DataType | None:
    """Return ``arrow_type`` of a part of the schema ``root``, whose references begin there."""
    return _type(part, root, 0)


def _type(schema: Any, root: Any, depth: int) -> pa.DataType | None:
    schema = resolved(schema, root)
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
    if name == "string" and schema.get("format") in _MOMENTS:
        return _MOMENTS[schema["format"]]
    return _SCALARS.get(name) if isinstance(name, str) else None


def _struct(schema: dict[str, Any], root: Any, depth: int) -> pa.DataType | None:
    properties = schema.get("properties")
    if not isinstance(properties, dict) or isinstance(schema.get("additionalProperties"), dict):
        return None
    types = {name: _type(part, root, depth + 1) for name, part in properties.items()}
    return None if not types or None in types.values() else pa.struct(list(types.items()))


def resolved(schema: Any, root: Any) -> Any:
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
    found = resolved(schema, root)
    return isinstance(found, dict) and (found.get("type") == "null" or found.get("const", 0) is None)


def _type_of_constants(constants: Any) -> pa.DataType | None:
    if not isinstance(constants, list):
        return None
    return _common([_CONSTANTS.get(type(value)) for value in constants if value is not None])


def _common(types: Sequence[pa.DataType | None]) -> pa.DataType | None:
    """Return the common type of alternatives: decimals for whole numbers and decimals, text for dates and other texts."""
    distinct = set(types)
    if len(distinct) == 1:
        return distinct.pop()
    if distinct and distinct <= {pa.string(), *_MOMENTS.values()}:
        return pa.string()
    return pa.float64() if distinct == {pa.int64(), pa.float64()} else None
