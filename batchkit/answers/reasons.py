"""Why an answer is rejected."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

_BAD_REQUEST: Final = 400


class Reason(StrEnum):
    """Why an answer is rejected; the error code of its attempt. The package's docstring says what each means."""

    TRUNCATED = "answer_truncated"
    INVALID = "answer_invalid"
    EMPTY = "answer_empty"
    REFUSED = "answer_refused"
    FILTERED = "answer_filtered"
    GENERATION_FAILED = "generation_failed"


class InvalidAnswer(ValueError):
    """An answer that breaks the rules; the message says how."""

    def __init__(self, message: str, reason: Reason = Reason.INVALID) -> None:
        super().__init__(message)
        self.reason = reason


def is_final(code: str | None) -> bool:
    """Whether another try is not worth its price: a model that refuses a question refuses it with another seed too."""
    return code == Reason.REFUSED


def reason_of_refusal(status_code: int | None, code: str | None, message: str | None) -> Reason | None:
    """Return the reason if the provider refused a request because it could not parse the model's answer, else None.

    Groq answers 400 with these codes if the model's text is not JSON or not a tool call (console.groq.com/docs/text-chat,
    /docs/tool-use), also if the token limit cut the JSON off.
    """
    if status_code != _BAD_REQUEST or code not in {"json_validate_failed", "tool_use_failed"}:
        return None
    return Reason.TRUNCATED if "max completion tokens" in (message or "").lower() else Reason.GENERATION_FAILED
