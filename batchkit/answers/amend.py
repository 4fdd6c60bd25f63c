"""Asking again, differently: the request line of the next try."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from batchkit.answers.check import Reason
from batchkit.files import jsonl

if TYPE_CHECKING:
    from batchkit.answers.rules import AnswerRules

_CHAT: Final = "/v1/chat/completions"
_MORE: Final = 4
#: A greedy model answers every seed with the same words.
_LEAST_TEMPERATURE: Final = 0.2


def amended(line: bytes, reason: str, rules: AnswerRules, *, attempt_key: int) -> bytes:
    """Give the line for the next try of a request whose answer did not count, without a newline.

    A truncated answer gets four times the tokens, up to the cap; everything else, and a truncated answer that had the cap
    already, another seed, and at a temperature of 0 a little warmth. ``attempt_key`` tells this attempt from others: the same line,
    reason and key give the same bytes. Requests that are no chat are asked again as they are.
    """
    record = jsonl.loads(line)
    body = record.get("body")
    if record.get("url") != _CHAT or not isinstance(body, dict):
        return line
    if reason != Reason.TRUNCATED or not _give_tokens(body, rules.cap_for(str(body.get("model")))):
        _reseed(body, f"{record.get('custom_id')}:{attempt_key}")
    return jsonl.dumps(record)


def _give_tokens(body: dict[str, Any], cap: int) -> bool:
    """Raise the token limit; False when it is at the cap already."""
    name = (
        "max_tokens"
        if body.get("max_completion_tokens") is None and body.get("max_tokens")
        else "max_completion_tokens"
    )
    given = body.get(name)
    wanted = cap if given is None else min(given * _MORE, cap)
    if given is not None and wanted <= given:
        return False
    body[name] = wanted
    return True


def _reseed(body: dict[str, Any], salt: str) -> None:
    body["seed"] = int.from_bytes(hashlib.sha256(salt.encode()).digest()[:4]) & 0x7FFFFFFF
    if (temperature := body.get("temperature")) is not None and temperature < _LEAST_TEMPERATURE:
        body["temperature"] = _LEAST_TEMPERATURE
