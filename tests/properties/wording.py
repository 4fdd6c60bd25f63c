"""Many spellings of the same line: the meaning stays, and a number selects the spelling."""

from __future__ import annotations

import json  # noqa: TID251 - the provider's side; it must not share a writer with the code under test
from typing import Any

from tests.properties.ideal import Line, Says

#: Tokens of every answer: prompt and completion.
TOKENS = (10, 5)

_EMPTY_ERRORS: tuple[dict[str, Any], ...] = (
    {"error": None},
    {},
    {"error": ""},
    {"error": {}},
    {"error": {"code": None, "message": None}},
)
_PASSING = (0, 408, 409, 425, 429, 498, 500, 503, 599)
# 401, 402 and 403 concern the account, and no line fails because of them: they have their own tests.
_FINAL = (400, 404, 413, 422)

#: Lines that concern no request: broken, torn, of other shapes, or blank.
NOISE = (
    b"garbage",
    b'{"custom_id": "',
    b"{",
    b"[]",
    b"null",
    b"17",
    b'"a"',
    b"{}",
    b'{"custom_id": null}',
    b'{"custom_id": 7, "response": {"status_code": 200, "body": {"a": 1}}}',
    b'{"custom_id": ["a"]}',
    b"\xff\xfe",
    b"\x00",
    b"",
    b" \t",
    b"\xef\xbb\xbf",
    b"[" * 5_000,
)


def chat_body(text: str) -> dict[str, Any]:
    """Return a chat completion."""
    prompt, completion = TOKENS
    return {
        "id": "chatcmpl-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion},
    }


def _dumped(record: Any, variant: int) -> bytes:
    """Return JSON: escaped or in UTF-8, compact or with spaces, keys in either order."""
    if isinstance(record, dict) and variant & 4:
        record = dict(reversed(list(record.items())))
    separators = (",", ":") if variant & 2 else None
    return json.dumps(record, ensure_ascii=bool(variant & 1), separators=separators).encode()


def write(line: Line, variant: int) -> bytes:
    """Return a line, without its end."""
    record: dict[str, Any] = {"id": "batch_req_1", "custom_id": line.custom_id}
    pick = variant // 8
    match line.says:
        case Says.ANSWER:
            response = {"status_code": (200, 201, 299)[pick % 3], "request_id": "req_1", "body": line.answer}
            record |= {"response": response} | _EMPTY_ERRORS[pick % len(_EMPTY_ERRORS)]
        case Says.REFUSAL:
            record |= _refusal(pick)
        case Says.TROUBLE:
            record |= _trouble(pick)
        case Says.EXPIRED:
            record |= {"response": None, "error": {"code": "batch_expired", "message": "not in time"}}
        case Says.STOPPED:
            record |= {"response": None, "error": {"code": "batch_cancelled", "message": "stopped"}}
    return _dumped(record, variant)


def _refusal(pick: int) -> dict[str, Any]:
    status = _FINAL[pick % len(_FINAL)]
    error = {"message": "no", "type": "invalid_request_error", "code": "invalid"}
    spellings: tuple[dict[str, Any], ...] = (
        {"response": {"status_code": status, "request_id": "r", "body": {"error": error}}, "error": None},
        {"response": {"status_code": status, "body": None}, "error": error},
        {"response": None, "error": error},
        {"response": {"status_code": 200, "body": chat_body("not an answer")}, "error": error},
        {"response": {"status_code": 200, "body": {"error": error}}, "error": None},
        {"response": {"status_code": status, "body": "a page"}},
    )
    return spellings[pick % len(spellings)]


def _trouble(pick: int) -> dict[str, Any]:
    status = _PASSING[pick % len(_PASSING)]
    error = {"message": "later", "type": "server_error", "code": "server_error"}
    spellings: tuple[dict[str, Any], ...] = (
        {"response": {"status_code": status, "request_id": "r", "body": {"error": error}}, "error": None},
        {"response": {"status_code": status, "body": None}, "error": error},
        {"response": None, "error": {"code": "connection_error", "message": "reset"}},
        {"response": {"status_code": 200, "body": None}, "error": None},
        {"response": {"status_code": 200, "body": {}}, "error": None},
        {"response": None, "error": None},
        {},
        {"response": {"status_code": status, "body": "a page"}},
    )
    return spellings[pick % len(spellings)]
