"""Refusals as each provider writes them: the HTTP status and the body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchkit.emulator.dialects.dialect import Dialect

_BAD_REQUEST = 400
_UNPROCESSABLE = 422
_WITH_DETAIL = (401, 404)


def refusal_body(dialect: Dialect, status: int, error: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return the status and the body for an error, of which Groq leaves out what it does not know and OpenAI writes null."""
    match dialect.shape:
        case "groq":
            return status, {"error": error}
        case "openai" | "together":
            return status, {"error": {"message": None, "type": None, "param": None, "code": None} | error}
        case "mistral":
            return _mistral(status, error)


def _mistral(status: int, error: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    if status in _WITH_DETAIL:
        return status, {"detail": error["message"]}
    if status == _BAD_REQUEST and error.get("param"):
        # A malformed request is refused by the framework before the API sees it.
        problem = {"type": error.get("code") or "value_error", "loc": ["body", error["param"]], "msg": error["message"]}
        return _UNPROCESSABLE, {"detail": [problem]}
    return status, {"object": "error", "param": None, "code": None} | error
