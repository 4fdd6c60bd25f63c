"""The request line of the next try after a rejected answer."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from batchkit.answers.reasons import Reason
from batchkit.files import jsonl

if TYPE_CHECKING:
    from batchkit.answers.rules import AnswerRules

_CHAT: Final = "/v1/chat/completions"
_TOKEN_FACTOR: Final = 4
#: At temperature 0 a model answers every seed with the same text.
_LEAST_TEMPERATURE: Final = 0.2


def amended(line: bytes, reason: str, rules: AnswerRules, *, attempt_key: int) -> bytes:
    """Return the line for the next try of a request whose answer was rejected, without a newline.

    After a truncated answer the line has four times the tokens, up to the cap. Otherwise, and if the cap was reached already, it
    has another seed, and a temperature above 0. The same line, reason and ``attempt_key`` (which identifies the attempt) give the
    same bytes. Requests other than chats are not changed.
    """
    record = jsonl.loads(line)
    body = record.get("body")
    if record.get("url") != _CHAT or not isinstance(body, dict):
        return line
    if reason != Reason.TRUNCATED or not _raise_limit(body, rules.cap_for(str(body.get("model")))):
        _reseed(body, f"{record.get('custom_id')}:{attempt_key}")
    return jsonl.dumps(record)


def _raise_limit(body: dict[str, Any], cap: int) -> bool:
    """Raise the token limit; False if it has reached the cap."""
    name = (
        "max_tokens"
        if body.get("max_completion_tokens") is None and body.get("max_tokens")
        else "max_completion_tokens"
    )
    given = body.get(name)
    wanted = cap if given is None else min(given * _TOKEN_FACTOR, cap)
    if given is not None and wanted <= given:
        return False
    body[name] = wanted
    return True


def _reseed(body: dict[str, Any], salt: str) -> None:
    body["seed"] = int.from_bytes(hashlib.sha256(salt.encode()).digest()[:4]) & 0x7FFFFFFF
    if (temperature := body.get("temperature")) is not None and temperature < _LEAST_TEMPERATURE:
        body["temperature"] = _LEAST_TEMPERATURE
