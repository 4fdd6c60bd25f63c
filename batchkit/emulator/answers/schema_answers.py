"""Values that conform to a JSON schema, generated from a prompt: the same schema and prompt give the same value.

Free strings quote the prompt; choices and numbers follow a hash of it, so that different requests get different answers
and every label of an enum occurs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from batchkit.emulator.answers.patterns import PatternUnsupported, matching
from batchkit.emulator.contract.ids import stable_hash

if TYPE_CHECKING:
    from collections.abc import Callable

_QUOTED_CHARACTERS = 120
_MAX_DEPTH = 24
_MAX_STEPS = 2_000
_FORMATS = {
    "date-time": "2026-01-02T03:04:05Z",
    "date": "2026-01-02",
    "time": "03:04:05Z",
    "duration": "P1D",
    "email": "reader@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "6f1c2a3e-0b4d-4c5f-8a9b-1c2d3e4f5a6b",
}

_BEYOND = ("not", "if", "dependentSchemas", "propertyNames", "unevaluatedProperties", "unevaluatedItems", "$dynamicRef")
_HINTS = {
    "object": ("properties", "required", "additionalProperties", "minProperties"),
    "array": ("items", "prefixItems", "minItems", "contains", "uniqueItems"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
_SPAN = 100


class SchemaUnsupported(ValueError):
    """No conforming value was found: the schema contradicts itself or uses a keyword beyond structured outputs."""


def conforming(schema: Any, prompt: str) -> Any:
    """Return a JSON value that conforms to ``schema``. Raises ``SchemaUnsupported``."""
    return _Maker(schema, prompt).make(schema, "$", 0)


class _Maker:
    """Makes values for the parts of one root schema; ``path`` salts every choice, ``depth`` ends recursion."""

    def __init__(self, root: Any, prompt: str) -> None:
        self._root = root
        self._prompt = prompt
        self._salt = stable_hash(prompt)
        self._steps = 0

    def _pick(self, path: str, count: int) -> int:
        return (stable_hash(self._salt, path) >> 8) % count

    def make(self, schema: Any, path: str, depth: int) -> Any:
        """Return a value for a schema; deeper values are smaller."""
        self._steps += 1
        if depth > _MAX_DEPTH or self._steps > _MAX_STEPS:
            raise SchemaUnsupported("the schema is recursive without an end")
        if schema is False:
            raise SchemaUnsupported(f"nothing is allowed at {path}")
        if schema is True or schema == {}:
            return self._string({}, path)
        if not isinstance(schema, dict):
            raise SchemaUnsupported(f"no schema at {path}")
        for keyword in _BEYOND:
            if keyword in schema:
                raise SchemaUnsupported(f"{keyword} at {path}")
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self._alternative(schema, keyword, path, depth)
        if "$ref" in schema or "allOf" in schema:
            return self.make(self._flattened(schema, path), path, depth + 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._choice(schema, path)
        return self._typed(schema, path, depth)

    def _choice(self, schema: dict[str, Any], path: str) -> Any:
        allowed = [value for value in schema["enum"] if _has_type(value, schema.get("type"))]
        if not allowed:
            raise SchemaUnsupported(f"no value of the enum at {path} has the type")
        return allowed[self._pick(path, len(allowed))]

    def _alternative(self, schema: dict[str, Any], keyword: str, path: str, depth: int) -> Any:
        rest = {key: value for key, value in schema.items() if key != keyword}
        branches = list(schema[keyword])
        start = self._pick(f"{path}|", len(branches)) if depth <= _SHALLOW else 0
        order = branches[start:] + branches[:start]
        if depth > _SHALLOW:
            order.sort(key=lambda branch: not (isinstance(branch, dict) and branch.get("type") == "null"))
        problem: SchemaUnsupported | None = None
        for branch in order:
            try:
                return self.make(_merged(rest, branch, path), path, depth + 1)
            except SchemaUnsupported as error:
                problem = error
        raise problem or SchemaUnsupported(f"{keyword} at {path} is empty")

    def _flattened(self, schema: dict[str, Any], path: str) -> Any:
        """Replace ``$ref`` and ``allOf`` by their contents."""
        flat: Any = {
            key: value for key, value in schema.items() if key not in {"$ref", "allOf", "$defs", "definitions"}
        }
        if "$ref" in schema:
            flat = _merged(flat, self._resolve(schema["$ref"]), path)
        for part in schema.get("allOf", ()):
            flat = _merged(flat, part, path)
        return flat

    def _resolve(self, reference: str) -> Any:
        if not reference.startswith("#"):
            raise SchemaUnsupported(f"$ref {reference!r} points outside the schema")
        node = self._root
        for part in reference[1:].split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(node, list) and key.isdigit() and int(key) < len(node):
                node = node[int(key)]
            elif isinstance(node, dict) and key in node:
                node = node[key]
            else:
                raise SchemaUnsupported(f"$ref {reference!r} points nowhere")
        return node

    def _typed(self, schema: dict[str, Any], path: str, depth: int) -> Any:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = "null" if depth > _SHALLOW and "null" in kind else kind[self._pick(f"{path}?", len(kind))]
        if kind is None:
            kind = next((name for name, keys in _HINTS.items() if any(key in schema for key in keys)), "string")
        match kind:
            case "object":
                return self._object(schema, path, depth)
            case "array":
                return self._array(schema, path, depth)
            case "string":
                return self._string(schema, path)
            case "integer" | "number":
                return self._number(schema, path, whole=kind == "integer")
            case "boolean":
                return bool(self._pick(path, 2))
            case "null":
                return None
        raise SchemaUnsupported(f"unknown type {kind!r} at {path}")

    def _object(self, schema: dict[str, Any], path: str, depth: int) -> dict[str, Any]:
        properties: dict[str, Any] = schema.get("properties", {})
        required: list[str] = list(schema.get("required", ()))
        optional = [name for name in properties if name not in required]
        room = schema.get("maxProperties", len(required) + len(optional)) - len(required)
        if depth > _SHALLOW:
            room = schema.get("minProperties", 0) - len(required)
        extra = schema.get("additionalProperties", True)
        names = [name for name in properties if name in required or name in optional[: max(0, room)]]
        names += [name for name in required if name not in properties]
        made: dict[str, Any] = {}
        for name in names:
            try:
                made[name] = self.make(properties.get(name, self._beyond(schema, name)), f"{path}.{name}", depth + 1)
            except SchemaUnsupported:
                if name in required:
                    raise
        for number in range(schema.get("minProperties", 0) - len(made)):
            made[f"extra{number + 1}"] = self.make(extra, f"{path}.+{number}", depth + 1)
        return made

    def _beyond(self, schema: dict[str, Any], name: str) -> Any:
        """Find the schema of a property that ``properties`` does not name."""
        if schema.get("patternProperties"):
            raise SchemaUnsupported(f"patternProperties may rule {name!r}")
        return schema.get("additionalProperties", True)

    def _array(self, schema: dict[str, Any], path: str, depth: int) -> list[Any]:
        prefix: list[Any] = schema.get("prefixItems", [])
        least = max(schema.get("minItems", 0), 1 if "contains" in schema else 0)
        wanted = least if depth > _SHALLOW else max(least, len(prefix), 1 + self._pick(f"{path}#", 2))
        wanted = min(wanted, schema.get("maxItems", wanted))
        if schema.get("items") is False:
            wanted = min(wanted, len(prefix))
        made: list[Any] = []
        for index in range(wanted):
            inner = prefix[index] if index < len(prefix) else schema.get("items", schema.get("contains", True))
            try:
                made.append(self._item(inner, f"{path}[{index}]", depth, made if schema.get("uniqueItems") else []))
            except SchemaUnsupported:
                if len(made) < least:
                    raise
                break
        return made

    def _item(self, schema: Any, path: str, depth: int, taken: list[Any]) -> Any:
        for attempt in range(_UNIQUE_ATTEMPTS):
            value = self.make(schema, f"{path}~{attempt}" if attempt else path, depth + 1)
            if value not in taken:
                return value
        raise SchemaUnsupported(f"no further unique item at {path}")

    def _string(self, schema: dict[str, Any], path: str) -> str:
        shortest, longest = schema.get("minLength", 0), schema.get("maxLength", _QUOTED_CHARACTERS)
        longest = max(longest, shortest) if "maxLength" not in schema else longest
        if shortest > longest:
            raise SchemaUnsupported(f"minLength is above maxLength at {path}")
        if "pattern" in schema:
            try:
                return matching(
                    schema["pattern"], stable_hash(self._salt, path), shortest=shortest, longest=max(longest, shortest)
                )
            except PatternUnsupported as error:
                raise SchemaUnsupported(str(error)) from None
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        text = self._prompt if not path.endswith("]") and "~" not in path else f"{path[-12:]} {self._prompt}"
        return text[: min(longest, max(_QUOTED_CHARACTERS, shortest))].ljust(shortest, ".")

    def _number(self, schema: dict[str, Any], path: str, *, whole: bool) -> float | int:
        low, high, above, below = _bounds(schema)
        step = schema.get("multipleOf", 1 if whole else None)
        if step is None:
            share = self._pick(path, 9_801) / 10_000 + 0.01
            value = low + (high - low) * share
            rounded = round(value, 2)
            value = rounded if low < rounded < high or (not above and not below and low <= rounded <= high) else value
            if not low <= value <= high or (above and value == low) or (below and value == high):
                raise SchemaUnsupported(f"no number fits at {path}")
            return value
        first, last = math.ceil(low / step), math.floor(high / step)
        count = last - first + 1
        offset = self._pick(path, count) if count > 0 else 0
        for index in range(min(count, _SPAN * 2)):
            factor = first + (offset + index) % count
            value = factor * step
            whole_enough = not whole or value == int(value)
            inside = (value > low or (not above and value == low)) and (value < high or (not below and value == high))
            # A product like 7 * 0.01 is no multiple of 0.01 in floating point; a validator would refuse it.
            if inside and whole_enough and value / step == factor:
                return int(value) if whole else value
        raise SchemaUnsupported(f"no number fits at {path}")


_SHALLOW = 4
_UNIQUE_ATTEMPTS = 40


def _bounds(schema: dict[str, Any]) -> tuple[float, float, bool, bool]:
    """Return low, high, and whether each is excluded; a missing bound is 100 away from the other."""
    low, high = schema.get("minimum"), schema.get("maximum")
    above = below = False
    over, under = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if over is not None and (low is None or over >= low):
        low, above = over, True
    if under is not None and (high is None or under <= high):
        high, below = under, True
    span = max(_SPAN, abs(schema.get("multipleOf", 1)) * _SPAN)
    if low is None:
        low = 0 if high is None or high > 0 else high - span
    if high is None:
        high = low + span
    return low, high, above, below


def _merged(base: Any, other: Any, path: str) -> Any:
    """Merge two schemas that must both hold. Raises ``SchemaUnsupported`` where it does not know how."""
    if other is True or other == {}:
        return base
    if not isinstance(other, dict):
        raise SchemaUnsupported(f"nothing is allowed at {path}")
    merged = dict(base)
    for key, value in other.items():
        if key not in merged or merged[key] == value or key in _ANNOTATIONS:
            merged[key] = value
        elif key in _MERGES:
            merged[key] = _MERGES[key](merged[key], value, path)
        else:
            raise SchemaUnsupported(f"two different {key} at {path}")
    return merged


def _merged_properties(one: dict[str, Any], other: dict[str, Any], path: str) -> dict[str, Any]:
    return one | {name: _merged(one[name], inner, path) if name in one else inner for name, inner in other.items()}


def _common_type(one: Any, other: Any, path: str) -> list[str]:
    ones = [one] if isinstance(one, str) else one
    others = [other] if isinstance(other, str) else other
    common = [kind for kind in ones if kind in others or (kind == "integer" and "number" in others)]
    common += [kind for kind in others if kind == "integer" and "number" in ones and kind not in common]
    if not common:
        raise SchemaUnsupported(f"no common type at {path}")
    return common


def _has_type(value: Any, kind: Any) -> bool:
    kinds = [kind] if isinstance(kind, str) else kind
    if not kinds:
        return True
    if isinstance(value, bool):
        return "boolean" in kinds
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return "integer" in kinds or "number" in kinds
    names = {dict: "object", list: "array", str: "string", float: "number", type(None): "null"}
    return names[type(value)] in kinds


_ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "$defs", "definitions", "$schema", "$id", "$comment"}
)
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_MERGES: dict[str, Callable[[Any, Any, str], Any]] = {
    **dict.fromkeys(_LOWER, lambda one, other, _: max(one, other)),
    **dict.fromkeys(_UPPER, lambda one, other, _: min(one, other)),
    "properties": _merged_properties,
    "required": lambda one, other, _: [*one, *(name for name in other if name not in one)],
    "enum": lambda one, other, _: [value for value in one if value in other],
    "allOf": lambda one, other, _: [*one, *other],
    "additionalProperties": lambda one, other, _: other if one is True else one,
    "uniqueItems": lambda one, other, _: one or other,
    "type": _common_type,
}
