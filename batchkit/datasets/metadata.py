"""The metadata that pandas and Hugging Face ``datasets`` keep in a schema: what it says about values, and new columns in it."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

HUGGING_FACE: Final = b"huggingface"
_PANDAS: Final = b"pandas"
#: Nothing deeper is looked at: the metadata may be anybody's.
_DEEPEST: Final = 16
#: The class of a row without a label.
_NO_CLASS: Final = -1
_PANDAS_TYPES: Final = {
    pa.string(): ("unicode", "object"),
    pa.int64(): ("int64", "int64"),
    pa.float64(): ("float64", "float64"),
    pa.bool_(): ("bool", "bool"),
}


def namers(schema: pa.Schema) -> dict[int, Callable[[Any], Any]]:
    """Return, by the place of a column with class labels, the function that replaces labels by their names.

    The labels may be inside of lists and objects. The label -1, no class, becomes None; an unknown one its number as text.
    """
    data = (schema.metadata or {}).get(HUGGING_FACE)
    found = {} if data is None else _namers_by_column(data)
    return {place: found[name] for place, name in enumerate(schema.names) if name in found}


def class_names(schema: pa.Schema) -> dict[str, Any]:
    """Return the features of the columns with class labels, by column."""
    data = (schema.metadata or {}).get(HUGGING_FACE)
    features = {} if data is None else _features(data)
    return {name: features[name] for name in schema.names if name in features and _namer(features[name], 0) is not None}


@lru_cache(maxsize=8)
def _namers_by_column(data: bytes) -> dict[str, Callable[[Any], Any]]:
    found = {name: _namer(feature, 0) for name, feature in _features(data).items()}
    return {name: namer for name, namer in found.items() if namer is not None}


def _document(data: bytes) -> dict[str, Any]:
    try:
        document = jsonl.loads(data)
    except jsonl.MalformedJson:
        return {}
    return document if isinstance(document, dict) else {}


def _features(data: bytes) -> dict[str, Any]:
    info = _document(data).get("info")
    features = info.get("features") if isinstance(info, dict) else None
    return features if isinstance(features, dict) else {}


def _namer(feature: Any, depth: int) -> Callable[[Any], Any] | None:
    found: Callable[[Any], Any] | None = None
    match feature:
        case _ if depth > _DEEPEST:
            pass
        case [inner]:
            found = _of_list(_namer(inner, depth + 1))
        case {"_type": "ClassLabel", "names": [*names]} if all(isinstance(name, str) for name in names):
            found = partial(_name, tuple(names))
        # A sequence of objects is stored as an object of sequences.
        case {"_type": "Sequence", "feature": dict(inner)} if "_type" not in inner:
            found = _of_object({name: [part] for name, part in inner.items()}, depth)
        case {"_type": "Sequence" | "List" | "LargeList", "feature": inner}:
            found = _of_list(_namer(inner, depth + 1))
        case dict() if not isinstance(feature.get("_type"), str):
            found = _of_object(feature, depth)
    return found


def _name(names: tuple[str, ...], value: Any) -> Any:
    if type(value) is not int:
        return value
    if 0 <= value < len(names):
        return names[value]
    return None if value == _NO_CLASS else str(value)


def _of_list(inner: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    if inner is None:
        return None
    return lambda value: [inner(item) for item in value] if isinstance(value, list) else value


def _of_object(features: Mapping[str, Any], depth: int) -> Callable[[Any], Any] | None:
    inner = {name: found for name, part in features.items() if (found := _namer(part, depth + 1)) is not None}
    if not inner:
        return None

    def name(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {member: inner[member](part) if member in inner else part for member, part in value.items()}

    return name


def with_columns(metadata: Mapping[bytes, bytes] | None, fields: Sequence[pa.Field]) -> dict[bytes, bytes] | None:
    """Return a schema's metadata in which pandas and ``datasets`` also find the new columns; other entries are as they were."""
    if metadata is None:
        return None
    found = dict(metadata)
    if _features(found.get(HUGGING_FACE, b"")):
        document = _document(found[HUGGING_FACE])
        document["info"]["features"] |= {field.name: _feature(field.type) for field in fields}
        found[HUGGING_FACE] = jsonl.dumps(document)
    document = _document(found.get(_PANDAS, b""))
    if isinstance(document.get("columns"), list):
        document["columns"] += map(_pandas_column, fields)
        found[_PANDAS] = jsonl.dumps(document)
    return found


def _feature(kind: pa.DataType) -> Any:
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    if pa.types.is_list(kind):
        inner = _feature(kind.value_type)
        is_scalar = isinstance(inner, dict) and inner.get("_type") == "Value"
        # Every version reads both forms: a list of objects is a list here, because a sequence of them would be an object of lists.
        return {"feature": inner, "_type": "Sequence"} if is_scalar else [inner]
    return {"dtype": {"double": "float64"}.get(str(kind), str(kind)), "_type": "Value"}


def _pandas_column(field: pa.Field) -> dict[str, Any]:
    of_pandas, of_numpy = _PANDAS_TYPES.get(field.type, ("object", "object"))
    return {
        "name": field.name,
        "field_name": field.name,
        "pandas_type": of_pandas,
        "numpy_type": of_numpy,
        "metadata": None,
    }
