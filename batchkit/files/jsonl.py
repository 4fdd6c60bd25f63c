r"""Bytes to records and back. Lines end at ``\\n`` and nowhere else: U+2028, U+2029 and U+0085 are legal inside JSON strings."""

from __future__ import annotations

import json  # noqa: TID251 - this is the module that owns JSON
import math
import re
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import orjson

from batchkit.models import OutputLine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

_first_byte = itemgetter(0)
_last_byte = itemgetter(-1)
_MAX_STATUS_CODE = 999
_LONGEST_WORD_CHARS = 200
_TEXT_PARTS = ("text", "output_text")
#: As many digits as the largest integers of 64 bits have; a shorter one is exact.
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_BACKSLASH = ord("\\")
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD]")
#: Every escape of a JSON text, one after the other; the group is a surrogate without its other half.
_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_NUL_ESCAPES = re.compile(r"\\(?:(u0000)|.)", re.DOTALL)


class MalformedJson(ValueError):
    """Bytes that are not one JSON value; the message says where."""


def loads(data: bytes | str) -> Any:
    """Parse strictly: RFC 8259, UTF-8, no NaN, no lone surrogates. Raises ``MalformedJson``."""
    try:
        return orjson.loads(data)
    except (orjson.JSONDecodeError, RecursionError) as error:
        raise MalformedJson(str(error) or type(error).__name__) from error


def loads_exactly(data: bytes | str) -> Any:
    """Parse as strictly as ``loads``; integers beyond 64 bits keep all their digits. Raises ``MalformedJson``.

    Nested so deeply that only ``loads`` can read it, they are floats.
    """
    value = loads(data)
    if _LONG_NUMBER.search(data if isinstance(data, bytes) else data.encode()) is None:
        return value
    try:
        return json.loads(data)
    except RecursionError:
        return value
    except ValueError as error:
        # Python reads no integer of more than 4,300 digits.
        raise MalformedJson(str(error)) from error


def loads_leniently(data: bytes) -> Any:
    """Parse leniently, for answers that were paid for: also lone surrogates, NaN, and any nesting that fits.

    Integers beyond 64 bits may keep only the digits of a double, as with most readers of JSON. Raises ``MalformedJson``.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return json.loads(data, parse_int=_whole_number)
        except (ValueError, RecursionError) as error:
            raise MalformedJson(str(error)) from error


def _whole_number(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:
        # Python reads no integer of more than 4,300 digits; a float keeps the line readable.
        return float(digits)


#: The errors of typed readers.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def typed_reader(kind: type[T]) -> Callable[[bytes | msgspec.Raw], T]:
    """Return a reader of one JSON value into a type: faster than ``loads``, and as strict for the text that it decodes.

    For members that the type does not name, everything except the UTF-8 is checked. The reader raises ``UNREADABLE``.
    """
    return msgspec.json.Decoder(kind).decode


def typed_lines_reader(kind: type[T]) -> Callable[[bytes], list[T]]:
    r"""Return a reader of values separated by ``\n``; it also accepts two values in a line, and a value in two lines."""
    return msgspec.json.Decoder(kind).decode_lines


def read_typed_lines(reader: Callable[[bytes], list[T]], block: bytes, lines: list[bytes]) -> list[T] | None:
    r"""Read a block that consists of ``lines``, each followed by ``\n``.

    None unless every line is exactly one object of the reader's type, without blanks around it.
    """
    try:
        # Inside a value no line end stands between } and {: no object continues in the next line, so equal counts mean one each.
        if set(map(_first_byte, lines)) != {ord("{")} or set(map(_last_byte, lines)) != {ord("}")}:
            return None
        objects = reader(block)
    except (IndexError, *UNREADABLE):
        return None
    return objects if len(objects) == len(lines) else None


def dumps(value: Any) -> bytes:
    """Return compact UTF-8 JSON of any parsed value, valid for every reader.

    Lone surrogates become U+FFFD, NaN and the infinities null; integers of any size and any nesting are kept.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return "".join(_pieces(value, _replaced)).encode()


#: Returns a text of the database as JSON, None as null: such a text has no lone surrogates, so the strict writer is enough.
dumps_text: Callable[[str | None], bytes] = orjson.dumps


class _Written(str):
    """Text that is JSON already."""

    __slots__ = ()


def dumps_readably(value: Any) -> str:
    """Return a value as indented JSON for people, with the characters as they are; nested too deeply for that, as ``dumps`` writes it."""
    try:
        return json.dumps(value, ensure_ascii=False, indent=2)
    except RecursionError:
        return dumps(value).decode()


def _pieces(value: Any, string: Callable[[str], str]) -> Iterator[str]:
    """Yield JSON of values that orjson refuses: slowly, and without recursion, so that any nesting can be written."""
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, _Written):
            yield item
        elif isinstance(item, dict):
            todo.append(_Written("}"))
            for place, (key, member) in reversed(list(enumerate(item.items()))):
                todo += [member, _Written(("," if place else "") + string(key) + ":")]
            todo.append(_Written("{"))
        elif isinstance(item, list):
            todo.append(_Written("]"))
            for place, member in reversed(list(enumerate(item))):
                todo += [member, _Written("," if place else "")]
            todo.append(_Written("["))
        elif isinstance(item, str):
            yield string(item)
        elif type(item) is int:
            yield str(item)
        else:
            yield orjson.dumps(item).decode()


def _replaced(text: str) -> str:
    return orjson.dumps(_LONE_SURROGATE.sub("\ufffd", text)).decode()


def _escaped(text: str) -> str:
    return _LONE_SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))


class _RawResponse(msgspec.Struct):
    body: msgspec.Raw


class _RawLine(msgspec.Struct):
    response: _RawResponse


_read_raw_line = msgspec.json.Decoder(_RawLine).decode


def body_text(line: bytes, body: Any) -> str:
    """Return the response body of an output line as text to store; ``body`` is the result of ``loads_leniently``.

    The text is as the provider wrote it, including escapes of lone surrogates. A body that no strict reader takes (NaN, bytes that
    are not UTF-8, very deep nesting) is serialised as by ``dumps``, with lone surrogates as escapes.
    """
    mark = b"lone"
    if _may_have_surrogates(line):
        # The reader of raw text refuses lone surrogates: marks that the line does not contain replace them meanwhile.
        number = 0
        while (mark := b"lone%d-" % number) in line:
            number += 1
        line = _ESCAPES.sub(lambda found: mark + found[1] if found[1] else found[0], line)
    try:
        text = str(_read_raw_line(line).response.body, "utf-8")
    except UNREADABLE:
        return _serialised(body)
    if isinstance(body, dict) and not text.startswith("{"):
        return _serialised(body)  # the line has it as a text
    return re.sub(mark.decode() + "([0-9a-fA-F]{4})", r"\\u\1", text) if mark != b"lone" else text


def _serialised(body: Any) -> str:
    try:
        return orjson.dumps(body).decode()
    except TypeError:
        return "".join(_pieces(body, _escaped))


def _may_have_surrogates(data: bytes) -> bool:
    # Python finds one byte, given as a number, more than twenty times as fast as several, and many answers have no escape.
    return _BACKSLASH in data and _SURROGATE_ESCAPE.search(data) is not None


def has_lone_surrogates(data: bytes) -> bool:
    """Whether a JSON text has an escape of a lone surrogate, which no text in UTF-8 can hold."""
    return _may_have_surrogates(data) and any(found[1] for found in _ESCAPES.finditer(data))


def without_lone_surrogates(data: bytes) -> bytes:
    """Return a JSON text with U+FFFD for each lone surrogate, so that every reader takes it; other text is unchanged."""
    if not _may_have_surrogates(data):
        return data
    return _ESCAPES.sub(lambda found: rb"\ufffd" if found[1] else found[0], data)


def storable_json(text: str | None) -> str | None:
    """Return a JSON text with U+FFFD for each NUL: a database stores such a text, but none of its values."""
    if text is None or "\\u0000" not in text:
        return text
    return _NUL_ESCAPES.sub(lambda found: r"\ufffd" if found[1] else found[0], text)


def storable_text(value: Any) -> str | None:
    """Return a text of the provider that can be stored: NUL and lone surrogates are replaced. None for an empty one."""
    if value is None or value == "":
        return None
    text = value if isinstance(value, str) else dumps(value).decode()
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def storable_word(value: Any) -> str | None:
    """Return ``storable_text`` of a code, an id or another key, cut to 200 characters.

    The database has indexes on some of them, and an index takes only a few thousand bytes.
    """
    text = storable_text(value)
    return text if text is None else text[:_LONGEST_WORD_CHARS]


def _error_in(value: Any) -> tuple[str | None, str | None] | None:
    """Return code and message of an ``error`` member, an object or any other value; None when it is empty."""
    if not value or (isinstance(value, dict) and not any(value.values())):
        return None
    if isinstance(value, dict):
        code = storable_word(value.get("code")) or storable_word(value.get("type"))
        return code, storable_text(value.get("message")) or storable_text(value)
    return None, storable_text(value)


def read_output_line(record: Any) -> OutputLine | None:
    """Read one line of an output or error file; None when it names no request.

    The error may be at the top level or inside the response body: a 4xx comes with a top-level error of null.
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
        body = _unwrapped(response.get("body"))
        if isinstance(body, float) and not math.isfinite(body):
            body = None  # as ``dumps`` writes it
    error = _error_in(record.get("error"))
    if error is None and isinstance(body, dict):
        error = _error_in(body.get("error"))
    code, message = error or (None, None)
    return OutputLine(custom_id, status, request_id, body, code, message, has_error=error is not None)


def _unwrapped(body: Any) -> Any:
    """Return a body that a server wrote as the text of a JSON object (OGX does) as that object; any other text is an answer itself."""
    if not isinstance(body, str) or not body.startswith("{"):
        return body
    try:
        found = loads_leniently(body.encode(errors="surrogatepass"))
    except MalformedJson:
        return body
    return found if isinstance(found, dict) else body


def content_text(content: Any) -> str | None:
    """Return the text of a message's content: a text, or the texts of its parts one after the other; None without a text.

    Parts of other types, such as a reasoning model's thoughts, are left out.
    """
    if not isinstance(content, list):
        return content if isinstance(content, str) else None
    texts = [text for part in content if (text := _part_text(part)) is not None]
    return "".join(texts) if texts else None


def _part_text(part: Any) -> str | None:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("type", "text") not in _TEXT_PARTS:
        return None
    text = part.get("text")
    return text if isinstance(text, str) else None


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] | None = None
    text: str | None = None


_read_answer = msgspec.json.Decoder(_Answer).decode


def answer_text(body: bytes | None) -> str | None:
    """Return the text of a stored answer: a chat message's content, a transcript, the text of a response, or the path of a file.

    None when it has none.

    Lone surrogates become U+FFFD. An answer of the usual shape is not parsed whole, which saves two thirds of the time.
    """
    if body is None:
        return None
    body = without_lone_surrogates(body)
    try:
        answer = _read_answer(body)
    except (msgspec.DecodeError, RecursionError):
        return _odd_answer_text(body)
    if not answer.choices:
        return _odd_answer_text(body) if answer.text is None else answer.text
    message = answer.choices[0].message
    return None if message is None else message.content


def _odd_answer_text(body: bytes) -> str | None:
    value = loads_leniently(body)
    if not isinstance(value, dict):
        return value if isinstance(value, str) else None
    choices = value.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        message = choices[0].get("message")
        return content_text(message.get("content")) if isinstance(message, dict) else None
    if isinstance(output := value.get("output"), list):
        said = [item.get("content") for item in output if isinstance(item, dict) and item.get("type") == "message"]
        texts = [text for content in said if (text := content_text(content)) is not None]
        return "".join(texts) if texts else None
    text = value.get("text", value.get("path"))
    return text if isinstance(text, str) else None
