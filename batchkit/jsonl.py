r"""Bytes to records and back. Lines end at ``\\n`` and nowhere else: U+2028, U+2029 and U+0085 are legal inside JSON strings."""

from __future__ import annotations

import json  # noqa: TID251 - this is the module that owns JSON
import math
import re
from typing import TYPE_CHECKING, Any

import orjson

from batchkit.models import OutputLine

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_STATUS_CODE = 999
_LONGEST_WORD_CHARS = 200
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class MalformedJson(ValueError):
    """Bytes that are not one JSON value; the message says where."""


def loads(data: bytes | str) -> Any:
    """Parse strictly: RFC 8259, UTF-8, no NaN, no lone surrogates. Raises ``MalformedJson``."""
    try:
        return orjson.loads(data)
    except (orjson.JSONDecodeError, RecursionError) as error:
        raise MalformedJson(str(error) or type(error).__name__) from error


def loads_leniently(data: bytes) -> Any:
    """Parse what was paid for: also what the strict parser refuses (lone surrogates, NaN, any nesting that fits).

    Of integers beyond 64 bits no more than a double's digits is certain to be kept, as with most readers of JSON.

    Raises ``MalformedJson``.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise MalformedJson(str(error)) from error


def dumps(value: Any) -> bytes:
    """Write compact UTF-8 JSON of whatever was parsed, so that every reader takes it.

    Lone surrogates become U+FFFD, NaN and the infinities null; integers of any size and any nesting are kept.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return "".join(_pieces(value)).encode()


class _Written(str):
    """Text that is JSON already."""

    __slots__ = ()


def _pieces(value: Any) -> Iterator[str]:
    """Write what orjson refuses: slowly, and without recursion, because what can be parsed must not be too deep to write."""
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, _Written):
            yield item
        elif isinstance(item, dict):
            todo.append(_Written("}"))
            for place, (key, member) in reversed(list(enumerate(item.items()))):
                todo += [member, _Written(("," if place else "") + _string(key) + ":")]
            todo.append(_Written("{"))
        elif isinstance(item, list):
            todo.append(_Written("]"))
            for place, member in reversed(list(enumerate(item))):
                todo += [member, _Written("," if place else "")]
            todo.append(_Written("["))
        elif isinstance(item, str):
            yield _string(item)
        elif type(item) is int:
            yield str(item)
        else:
            yield orjson.dumps(item).decode()


def _string(text: str) -> str:
    return orjson.dumps(_LONE_SURROGATE.sub("\ufffd", text)).decode()


def storable_text(value: Any) -> str | None:
    """Read a word or message of the provider; NUL and lone surrogates cannot be stored and are replaced."""
    if value is None or value == "":
        return None
    text = value if isinstance(value, str) else dumps(value).decode()
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def storable_word(value: Any) -> str | None:
    """Read a code, an id or another word that is counted by or searched for: ``storable_text``, cut where no word goes on.

    The database has an index on some of them, and an index takes no more than a few thousand bytes.
    """
    text = storable_text(value)
    return text if text is None else text[:_LONGEST_WORD_CHARS]


def _error_in(value: Any) -> tuple[str | None, str | None] | None:
    """Read an ``error`` member: an object with code, type and message, or anything else that is not empty."""
    if not value or (isinstance(value, dict) and not any(value.values())):
        return None
    if isinstance(value, dict):
        code = storable_word(value.get("code")) or storable_word(value.get("type"))
        return code, storable_text(value.get("message")) or storable_text(value)
    return None, storable_text(value)


def read_output_line(record: Any) -> OutputLine | None:
    """Read one line of an output or error file; None when it names no request.

    The error is looked for at the top level and inside the response body: a 4xx comes with a top-level error of null.
    """
    if not isinstance(record, dict):
        return None
    custom_id = record.get("custom_id")
    if not isinstance(custom_id, str):
        return None
    response = record.get("response")
    status: int | None = None
    request_id: str | None = None
    body: Any = None
    if isinstance(response, dict):
        raw_status = response.get("status_code")
        if type(raw_status) is int and 0 <= raw_status <= _MAX_STATUS_CODE:
            status = raw_status
        request_id = storable_word(response.get("request_id"))
        body = response.get("body")
        if isinstance(body, float) and not math.isfinite(body):
            body = None  # which is how it would be written
    error = _error_in(record.get("error"))
    if error is None and isinstance(body, dict):
        error = _error_in(body.get("error"))
    code, message = error or (None, None)
    return OutputLine(custom_id, status, request_id, body, code, message, has_error=error is not None)


def fragment(text: str) -> orjson.Fragment:
    """Wrap JSON text so that ``dumps`` puts it in as it stands."""
    return orjson.Fragment(text)
