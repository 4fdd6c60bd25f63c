"""Reads an answer: its value, or the reason why it is rejected."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec import structs

from batchkit.answers.bounded_check import CheckEnded, check_by_model
from batchkit.answers.chat import complete_message
from batchkit.answers.file_answers import file_answer
from batchkit.answers.patterns import BoundedPattern, TookTooLong
from batchkit.answers.reasons import InvalidAnswer, Reason
from batchkit.answers.schemas import ClosedSchema
from batchkit.answers.tool_calls import ToolChecks
from batchkit.answers.transcripts import read_transcript
from batchkit.answers.wording import Choices, plain_number, unfenced, without_thoughts
from batchkit.errors import BatchkitError
from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.answers.rules import AnswerRules

_MAX_MESSAGE_CHARS: Final = 500
_QUOTED_CHARS: Final = 80
_NUMBER: Final = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
_INTEGER: Final = re.compile(r"[-+]?\d{1,18}", re.ASCII)
_CATEGORY: Final = re.compile(r"S\d{1,2}", re.ASCII)


logger = logging.getLogger(__name__)


class Reading(NamedTuple):
    """The result of reading an answer: its ``value``, or the ``code`` (a ``Reason``) and message of its rejection.

    By the rules' format the value is: ``any`` and ``pattern`` a text; ``json`` the parsed document; ``choice`` one of the choices as
    the rules spell it; ``number`` an int or float; ``tools`` a list of ``{"name", "arguments"}``; ``transcript`` see
    ``read_transcript``; ``speech`` ``{"path", "bytes", "sha256", "content_type", "characters"}`` of its file in the spool; ``safety`` ``{"safe": bool, "categories": ["S1", ...]}``.
    """

    value: Any
    code: str | None = None
    message: str = ""


class AnswerCheck:
    """Reads answers by rules. Raises ``ConfigurationError`` for an invalid schema or a model that cannot be imported."""

    def __init__(self, rules: AnswerRules) -> None:
        self.rules = rules
        self._choices = Choices(rules.choices)
        self._pattern = BoundedPattern(rules.pattern) if rules.pattern is not None else None
        self._tools = ToolChecks(rules.tools)
        self._validate = _validator(rules)
        self._has_failed = False

    def read(self, body: bytes | str) -> Reading:
        """Read the body of a response, JSON as the provider sent it; lone surrogates are read as U+FFFD.

        Any error of a check, also of the user's own model, rejects this answer only.
        """
        try:
            data = jsonl.without_lone_surrogates(body.encode() if isinstance(body, str) else body)
            return Reading(self._read(data))
        except InvalidAnswer as invalid:
            return Reading(None, invalid.reason, _message(str(invalid)))
        except CheckEnded as ended:
            if ended.trace is not None:
                self._log_once("the model of the answers failed; further answers are not logged\n%s", ended.trace)
            return Reading(None, Reason.INVALID, _message(str(ended)))
        except (KeyboardInterrupt, SystemExit, BatchkitError):
            # No fault of the answer: a process that cannot be started, for one.
            raise
        except BaseException as error:  # noqa: BLE001 - a library of Rust panics with one
            self._log_once("an answer could not be checked; further ones are not logged", exc_info=error)
            return Reading(None, Reason.INVALID, _message(f"checking it failed: {type(error).__name__}: {error}"))

    def _log_once(self, message: str, *values: object, exc_info: BaseException | None = None) -> None:
        """Log the first failure: a million answers may cause the same error."""
        if not self._has_failed:
            self._has_failed = True
            logger.warning(message, *values, exc_info=exc_info)

    def _read(self, data: bytes) -> Any:
        if self.rules.format == "transcript":
            return _transcript(data)
        if self.rules.format == "speech":
            return _spoken(data)
        message = complete_message(data)
        if self.rules.format == "tools":
            return self._tools.values(message.calls)
        text = without_thoughts(message.text or "")
        if text.strip():
            return self._value(text)
        if self.rules.format == "any" and message.calls:
            return message.text
        raise InvalidAnswer("the answer is empty", Reason.EMPTY)

    def _value(self, text: str) -> Any:
        match self.rules.format:
            case "json":
                return self._document(text)
            case "choice":
                chosen = self._choices.find(text)
                if chosen is None:
                    raise InvalidAnswer(f"{_quoted(text)} is none of: {', '.join(self.rules.choices)}")
                return chosen
            case "pattern":
                return self._matching(text)
            case "number":
                return self._number(text)
            case "safety":
                return _safety(text)
            case _:
                return text

    def _matching(self, text: str) -> str:
        for variant in dict.fromkeys((text.strip(), unfenced(text))):
            try:
                if self._pattern is None or self._pattern.matches(variant):
                    return variant
            except TookTooLong as gave_up:
                raise InvalidAnswer(str(gave_up)) from None
        raise InvalidAnswer(f"{_quoted(text)} does not match {self.rules.pattern}")

    def _document(self, text: str) -> Any:
        content = jsonl.without_lone_surrogates(unfenced(text.removeprefix("\ufeff")).encode())
        try:
            value = jsonl.loads_exactly(content)
        except jsonl.MalformedJson as error:
            raise InvalidAnswer(f"not JSON: {error}") from None
        return self._validate(value, content)

    def _number(self, text: str) -> int | float:
        word = plain_number(unfenced(text))
        if _NUMBER.fullmatch(word) is None:
            raise InvalidAnswer(f"{_quoted(text)} is not a number")
        value = int(word) if _INTEGER.fullmatch(word) else float(word)
        low, high = self.rules.minimum, self.rules.maximum
        if (low is not None and value < low) or (high is not None and value > high) or abs(value) == float("inf"):
            raise InvalidAnswer(f"{word[:_QUOTED_CHARS]} is not between {low} and {high}")
        return value


def schema_of_values(rules: AnswerRules) -> dict[str, Any]:
    """Return the JSON Schema of the values of valid JSON answers, which a model of the user's may change; empty without one.

    Raises ``ConfigurationError`` as ``AnswerCheck``.
    """
    if rules.model_path is not None:
        return check_by_model(rules.model_path).schema
    return rules.json_schema or {}


def _validator(rules: AnswerRules) -> Callable[[Any, bytes], Any]:
    """Return the function that checks a parsed document and its text, and returns its value; it raises ``InvalidAnswer``."""
    if rules.model_path is not None:
        model = check_by_model(rules.model_path)
        return lambda _value, text: model.check(text)
    if rules.json_schema is None:
        return lambda value, _text: value
    return _schema_validator(ClosedSchema(rules.json_schema))


def _schema_validator(schema: ClosedSchema) -> Callable[[Any, bytes], Any]:
    def validate(value: Any, _text: bytes) -> Any:
        problem = schema.problem(value)
        if problem is not None:
            raise InvalidAnswer(problem)
        return value

    return validate


def _message(text: str) -> str:
    return (jsonl.storable_text(text) or "")[:_MAX_MESSAGE_CHARS]


def _quoted(text: str) -> str:
    stripped = " ".join(text.split())
    return repr(stripped if len(stripped) <= _QUOTED_CHARS else stripped[: _QUOTED_CHARS - 1] + "…")


def _safety(text: str) -> dict[str, Any]:
    """Return Llama Guard's verdict: ``safe``, or ``unsafe`` and a line of categories (console.groq.com/docs/content-moderation)."""
    first, *rest = text.split(maxsplit=1)
    if first == "safe" and not rest:
        return {"safe": True, "categories": []}
    categories = [word.strip() for word in rest[0].split(",")] if rest else []
    if first != "unsafe" or not all(_CATEGORY.fullmatch(category) for category in categories):
        raise InvalidAnswer(f"{_quoted(text)} is neither safe nor unsafe with its categories")
    return {"safe": False, "categories": categories}


def _transcript(data: bytes) -> dict[str, Any]:
    try:
        body = jsonl.loads_leniently(data)
    except jsonl.MalformedJson as error:
        raise InvalidAnswer(f"not JSON: {error}") from None
    transcript = read_transcript(body)
    if transcript is None:
        raise InvalidAnswer("the answer is not a transcript")
    return transcript


def _spoken(data: bytes) -> dict[str, Any]:
    answer = file_answer(data)
    if answer is None:
        raise InvalidAnswer("the answer is not audio")
    if not answer.bytes:
        raise InvalidAnswer("the audio is empty", Reason.EMPTY)
    return structs.asdict(answer)
