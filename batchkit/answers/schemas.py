"""JSON Schemas: closed, with their formats, and within bounds of time."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from batchkit.answers import moments
from batchkit.answers.bounded_check import BoundedCheck, CheckEnded
from batchkit.answers.reasons import InvalidAnswer
from batchkit.errors import ConfigurationError
from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MAX_PROBLEM_CHARS: Final = 500
_MOST_PARTS: Final = 5_000
_REFERRING: Final = ("$ref", "$dynamicRef", "$recursiveRef")


class ClosedSchema:
    """A compiled JSON Schema: nothing outside it is read, and formats are checked. Raises ``ConfigurationError``.

    The check of a schema takes a time that its size and the document's bound, unless references multiply the work: those to a part
    around them, and those to parts with references of their own. Such a schema is checked in a process that can be given up.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._validator = _compiled(schema)
        self._is_small = _is_small(schema)

    def problem(self, value: Any) -> str | None:
        """Return the first problem of a document, with its place; None for a document that conforms."""
        if self._is_small:
            return first_problem(self._validator, value)
        try:
            self._process.check(jsonl.dumps(value))
        except CheckEnded as ended:
            return str(ended)
        return None

    @cached_property
    def _process(self) -> BoundedCheck:
        return BoundedCheck.of_schema(self._schema)


def first_problem(validator: Any, value: Any) -> str | None:
    """Return the first problem that a ``jsonschema_rs`` validator finds; None without one."""
    if validator.is_valid(value):
        return None
    import jsonschema_rs  # noqa: PLC0415 - an extra

    try:
        validator.validate(value)
    except jsonschema_rs.ValidationError as error:
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path)
        return f"{where.lstrip('.') or 'the document'}: {error.message}"[:_MAX_PROBLEM_CHARS]
    return None


def _compiled(schema: dict[str, Any]) -> Any:
    try:
        import jsonschema_rs  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigurationError(
            "the schema checker is not installed", hint="pip install 'groq-batchkit[annotate]'"
        ) from None
    try:
        return validator_of(schema)
    except (ValueError, RecursionError) as error:
        outside = next((found for found in _references(schema) if not _is_inside(found)), None)
        if outside is not None and "retriev" in str(error).lower():
            raise ConfigurationError(
                f"the schema refers to {outside}, which is not in it",
                hint='put it under $defs and refer to it as "#/$defs/NAME": nothing is fetched',
            ) from None
        problem = error.message if isinstance(error, jsonschema_rs.ValidationError) else str(error)
        raise ConfigurationError(f"not a valid JSON Schema: {problem}") from None


def validator_of(schema: dict[str, Any]) -> Any:
    """Return the ``jsonschema_rs`` validator of a schema, which fetches and reads nothing. Raises ``ValueError``."""
    import jsonschema_rs  # noqa: PLC0415 - an extra

    return jsonschema_rs.validator_for(schema, validate_formats=True, formats=moments.FORMATS, offline=True)


def check_of(content: bytes) -> Callable[[bytes], bytes]:
    """Return the check of JSON texts by a schema, for the process of a ``BoundedCheck``; it raises ``InvalidAnswer``."""
    validator = validator_of(jsonl.loads(content))

    def check(text: bytes) -> bytes:
        problem = first_problem(validator, jsonl.loads_exactly(text))
        if problem is not None:
            raise InvalidAnswer(problem)
        return b""

    return check


def _references(schema: Any) -> Iterator[str]:
    """Yield every reference of a schema."""
    todo = [schema]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            yield from (item[word] for word in _REFERRING if isinstance(item.get(word), str))
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)


def _is_small(schema: dict[str, Any]) -> bool:
    """Whether a schema has few parts also with every reference replaced by what it refers to."""
    left = _MOST_PARTS

    def visit(part: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise _TooLarge
        if isinstance(part, list):
            for item in part:
                visit(item)
        elif isinstance(part, dict):
            for word, value in part.items():
                if word in _REFERRING and isinstance(value, str):
                    if not _is_inside(value):
                        raise _TooLarge
                    visit(_found(schema, value))
                else:
                    visit(value)

    try:
        visit(schema)
    except (_TooLarge, RecursionError):
        return False
    return True


class _TooLarge(Exception):
    """The schema has too many parts, or no end."""


def _found(schema: Any, reference: str) -> Any:
    """Return the part that a pointer names. Raises ``_TooLarge`` for names of other kinds."""
    for word in reference.removeprefix("#").split("/")[1:]:
        key = word.replace("~1", "/").replace("~0", "~")
        if isinstance(schema, dict) and key in schema:
            schema = schema[key]
        elif isinstance(schema, list) and key.isdecimal() and int(key) < len(schema):
            schema = schema[int(key)]
        else:
            raise _TooLarge
    if reference != "#" and not reference.startswith("#/"):
        raise _TooLarge
    return schema


def _is_inside(reference: str) -> bool:
    return reference.startswith("#")
