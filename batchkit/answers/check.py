"""Reads an answer: its value, or the reason why it is rejected."""

from __future__ import annotations

import logging
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from batchkit.answers.importing import import_by_path
from batchkit.answers.transcripts import read_transcript
from batchkit.errors import ConfigurationError
from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.answers.rules import AnswerRules

_MAX_MESSAGE_CHARS: Final = 500
_QUOTED_CHARS: Final = 80
_BAD_REQUEST: Final = 400
_THOUGHTS: Final = re.compile(r"\s*<think>.*?</think>\s*", re.DOTALL)
_FENCE: Final = re.compile(r"\s*```[A-Za-z]*\n(.*?)\n?```\s*", re.DOTALL)
_NUMBER: Final = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
_INTEGER: Final = re.compile(r"[-+]?\d{1,18}", re.ASCII)
_AROUND: Final = " \t\r\n.\"'`*"
_CATEGORY: Final = re.compile(r"S\d{1,2}", re.ASCII)


logger = logging.getLogger(__name__)


class Reason(StrEnum):
    """Why an answer is rejected; the error code of its attempt."""

    TRUNCATED = "answer_truncated"
    INVALID = "answer_invalid"
    EMPTY = "answer_empty"
    GENERATION_FAILED = "generation_failed"


class Reading(NamedTuple):
    """The result of reading an answer: its ``value``, or the ``code`` (a ``Reason``) and message of its rejection.

    By the rules' format the value is: ``any`` and ``pattern`` a text; ``json`` the parsed document; ``choice`` one of the choices as
    the rules spell it; ``number`` an int or float; ``tools`` a list of ``{"name", "arguments"}``; ``transcript`` see
    ``read_transcript``; ``safety`` ``{"safe": bool, "categories": ["S1", ...]}``.
    """

    value: Any
    code: str | None = None
    message: str = ""


class _Function(msgspec.Struct):
    name: str
    arguments: str = "{}"


class _ToolCall(msgspec.Struct):
    function: _Function


class _Message(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    finish_reason: str | None = None


class _Chat(msgspec.Struct):
    choices: list[_Choice]


_read_chat: Final = jsonl.typed_reader(_Chat)


class _InvalidAnswer(ValueError):
    """An answer that breaks the rules; the message says how."""

    def __init__(self, message: str, reason: Reason = Reason.INVALID) -> None:
        super().__init__(message)
        self.reason = reason


class AnswerCheck:
    """Reads answers by rules. Raises ``ConfigurationError`` for an invalid schema or a model that cannot be imported."""

    def __init__(self, rules: AnswerRules) -> None:
        self.rules = rules
        self._choices = {choice.strip().casefold(): choice for choice in rules.choices}
        self._pattern = re.compile(rules.pattern) if rules.pattern is not None else None
        self._validate = _validator(rules)
        self._has_failed = False

    def read(self, body: bytes | str) -> Reading:
        """Read the body of a response, JSON as the provider sent it; lone surrogates are read as U+FFFD.

        Any error of a check, also of the user's own model, rejects this answer only.
        """
        try:
            data = jsonl.without_lone_surrogates(body.encode() if isinstance(body, str) else body)
            return Reading(self._read(data))
        except _InvalidAnswer as invalid:
            return Reading(None, invalid.reason, _message(str(invalid)))
        except Exception as error:
            if not self._has_failed:
                # Once: a million answers may cause the same error.
                self._has_failed = True
                logger.warning("an answer could not be checked; further ones are not logged", exc_info=error)
            return Reading(None, Reason.INVALID, _message(f"checking it failed: {type(error).__name__}: {error}"))

    def _read(self, data: bytes) -> Any:
        if self.rules.format == "transcript":
            return _transcript(data)
        message = _complete_message(data)
        if self.rules.format == "tools":
            return _tool_calls(message)
        text = _without_thoughts(message.content or "")
        if text.strip():
            return self._value(text)
        if self.rules.format == "any" and message.tool_calls:
            return message.content
        raise _InvalidAnswer("the answer is empty", Reason.EMPTY)

    def _value(self, text: str) -> Any:
        match self.rules.format:
            case "json":
                return self._document(text)
            case "choice":
                chosen = self._choices.get(text.strip(_AROUND).casefold())
                if chosen is None:
                    raise _InvalidAnswer(f"{_quoted(text)} is none of: {', '.join(self.rules.choices)}")
                return chosen
            case "pattern":
                if self._pattern is not None and self._pattern.fullmatch(text.strip()) is None:
                    raise _InvalidAnswer(f"{_quoted(text)} does not match {self.rules.pattern}")
                return text.strip()
            case "number":
                return self._number(text)
            case "safety":
                return _safety(text)
            case _:
                return text

    def _document(self, text: str) -> Any:
        fenced = _FENCE.fullmatch(text)
        try:
            value = jsonl.loads(jsonl.without_lone_surrogates((fenced[1] if fenced else text).encode()))
        except jsonl.MalformedJson as error:
            raise _InvalidAnswer(f"not JSON: {error}") from None
        return self._validate(value)

    def _number(self, text: str) -> int | float:
        word = text.strip(" \t\r\n\"'`*").rstrip(".")
        if _NUMBER.fullmatch(word) is None:
            raise _InvalidAnswer(f"{_quoted(text)} is not a number")
        value = int(word) if _INTEGER.fullmatch(word) else float(word)
        low, high = self.rules.minimum, self.rules.maximum
        if (low is not None and value < low) or (high is not None and value > high) or abs(value) == float("inf"):
            raise _InvalidAnswer(f"{word} is not between {low} and {high}")
        return value


def reason_of_refusal(status_code: int | None, code: str | None, message: str | None) -> Reason | None:
    """Return the reason if the provider refused a request because it could not parse the model's answer, else None.

    Groq answers 400 with these codes if the model's text is not JSON or not a tool call (console.groq.com/docs/text-chat,
    /docs/tool-use), also if the token limit cut the JSON off.
    """
    if status_code != _BAD_REQUEST or code not in {"json_validate_failed", "tool_use_failed"}:
        return None
    return Reason.TRUNCATED if "max completion tokens" in (message or "").lower() else Reason.GENERATION_FAILED


def _validator(rules: AnswerRules) -> Callable[[Any], Any]:
    """Return the function that checks a parsed document, by the user's model or the schema; it raises ``_InvalidAnswer``."""
    if rules.model_path is not None:
        return _model_validator(rules.model_path)
    if rules.json_schema is None:
        return lambda value: value
    return _schema_validator(rules.json_schema)


def compiled_schema(schema: dict[str, Any]) -> Any:
    """Return the ``jsonschema_rs`` validator of a JSON Schema. Raises ``ConfigurationError``."""
    try:
        import jsonschema_rs  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigurationError(
            "the schema checker is not installed", hint="pip install 'groq-batchkit[annotate]'"
        ) from None
    try:
        return jsonschema_rs.validator_for(schema)
    except ValueError as error:
        raise ConfigurationError(f"not a valid JSON Schema: {error}") from None


def _schema_validator(schema: dict[str, Any]) -> Callable[[Any], Any]:
    validator = compiled_schema(schema)

    def validate(value: Any) -> Any:
        if not validator.is_valid(value):
            first = next(iter(validator.iter_errors(value)))
            where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first.instance_path)
            raise _InvalidAnswer(f"{where.lstrip('.') or 'the document'}: {first.message}")
        return value

    return validate


def _model_validator(path: str) -> Callable[[Any], Any]:
    from pydantic import BaseModel, TypeAdapter, ValidationError  # noqa: PLC0415 - only where a model is used

    found = import_by_path(path)
    if not isinstance(found, type):
        raise ConfigurationError(
            f"{path} is not a type", hint="name a pydantic model or another type that pydantic knows"
        )
    adapter: TypeAdapter[Any] = TypeAdapter(found)

    def validate(value: Any) -> Any:
        try:
            made = adapter.validate_python(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the document"
            raise _InvalidAnswer(f"{where}: {first['msg']}") from None
        return made.model_dump(mode="json") if isinstance(made, BaseModel) else adapter.dump_python(made, mode="json")

    return validate


def _message(text: str) -> str:
    return (jsonl.storable_text(text) or "")[:_MAX_MESSAGE_CHARS]


def _without_thoughts(text: str) -> str:
    """Return the text without a reasoning model's thoughts (console.groq.com/docs/reasoning, ``reasoning_format: raw``)."""
    thoughts = _THOUGHTS.match(text)
    return text[thoughts.end() :] if thoughts else text


def _quoted(text: str) -> str:
    stripped = " ".join(text.split())
    return repr(stripped if len(stripped) <= _QUOTED_CHARS else stripped[: _QUOTED_CHARS - 1] + "…")


def _tool_calls(message: _Message) -> list[dict[str, Any]]:
    if not message.tool_calls:
        raise _InvalidAnswer("the model called no tool")
    calls = []
    for call in message.tool_calls:
        try:
            arguments = jsonl.loads(jsonl.without_lone_surrogates((call.function.arguments or "{}").encode()))
        except jsonl.MalformedJson as error:
            raise _InvalidAnswer(f"the arguments of {call.function.name} are not JSON: {error}") from None
        calls.append({"name": call.function.name, "arguments": arguments})
    return calls


def _safety(text: str) -> dict[str, Any]:
    """Return Llama Guard's verdict: ``safe``, or ``unsafe`` and a line of categories (console.groq.com/docs/content-moderation)."""
    first, *rest = text.split(maxsplit=1)
    if first == "safe" and not rest:
        return {"safe": True, "categories": []}
    categories = [word.strip() for word in rest[0].split(",")] if rest else []
    if first != "unsafe" or not all(_CATEGORY.fullmatch(category) for category in categories):
        raise _InvalidAnswer(f"{_quoted(text)} is neither safe nor unsafe with its categories")
    return {"safe": False, "categories": categories}


def _complete_message(data: bytes) -> _Message:
    try:
        choices = _read_chat(data).choices
    except jsonl.UNREADABLE:
        raise _InvalidAnswer("the answer is not a chat completion") from None
    if not choices or (message := choices[0].message) is None:
        raise _InvalidAnswer("the answer has no message", Reason.EMPTY)
    if choices[0].finish_reason == "length":
        raise _InvalidAnswer("the answer was cut off at its token limit", Reason.TRUNCATED)
    return message


def _transcript(data: bytes) -> dict[str, Any]:
    try:
        body = jsonl.loads_leniently(data)
    except jsonl.MalformedJson as error:
        raise _InvalidAnswer(f"not JSON: {error}") from None
    transcript = read_transcript(body)
    if transcript is None:
        raise _InvalidAnswer("the answer is not a transcript")
    return transcript
