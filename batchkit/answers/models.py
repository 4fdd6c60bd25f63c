"""The user's own pydantic model over one answer. It runs in the process of a ``BoundedCheck``."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, get_origin

from pydantic import TypeAdapter, ValidationError

from batchkit.answers.importing import import_by_path
from batchkit.answers.reasons import InvalidAnswer
from batchkit.errors import ConfigurationError
from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Callable


def imported(path: str) -> Any:
    """Return the type with an import path. Raises ``ConfigurationError``."""
    found = import_by_path(path)
    if not isinstance(found, type) and get_origin(found) is None:
        raise ConfigurationError(f"{path} is not a type: name a pydantic model or another type that pydantic knows")
    return found


def unpickled(content: bytes) -> Any:
    """Return the type that a script or a notebook defines itself."""
    return pickle.loads(content)  # noqa: S301 - as above


def check_of(found: Any) -> tuple[Callable[[bytes], bytes], bytes]:
    """Return the check of JSON texts by a type, and the JSON Schema of the values that it returns, both values as JSON.

    The texts are read as pydantic reads JSON: a strict model takes a text for a date. A value is what the type makes of the text,
    by the aliases of its serialization; its schema also names computed fields. The check raises ``InvalidAnswer``, and whatever
    the user's code raises. Raises ``ConfigurationError`` for what is no type.
    """
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(found)
    except Exception as error:  # a type of the user's own may fail in any way
        raise ConfigurationError(f"{found!r} is no type that pydantic knows: {error}") from error

    def check(text: bytes) -> bytes:
        try:
            # By name as well: the schema of a field with the path of an alias has the field's name.
            made = adapter.validate_json(text, by_alias=True, by_name=True)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"])) or "the document"
            raise InvalidAnswer(f"{where}: {first['msg']}") from None
        return jsonl.dumps(adapter.dump_python(made, mode="json", by_alias=True))

    return check, jsonl.dumps(_schema_of(adapter))


def _schema_of(adapter: TypeAdapter[Any]) -> Any:
    try:
        return adapter.json_schema(mode="serialization", by_alias=True)
    except Exception:  # noqa: BLE001 - a type of the user's own may fail in any way; its values are then one column of JSON
        return {}
