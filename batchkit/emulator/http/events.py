"""A chat completion as server-sent events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.emulator.answers.model_request import ModelRequest

_PIECE_CHARACTERS = 16


def events(body: dict[str, Any], asked: ModelRequest) -> Iterator[bytes]:
    """Yield the chunks of an answer: the role, the text, then the finish reason with the usage."""
    message = body["choices"][0]["message"]
    head = {key: body[key] for key in ("id", "created", "model", "system_fingerprint")} | {
        "object": "chat.completion.chunk"
    }

    def event(delta: dict[str, Any], finish_reason: str | None = None, **extra: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return b"data: " + orjson.dumps({**head, "choices": [choice], **extra}) + b"\n\n"

    is_groq = asked.dialect.shape == "groq"
    first: dict[str, Any] = {"x_groq": {"id": asked.request_id}} if is_groq else {}
    yield event({"role": "assistant", "content": ""}, **first)
    if message.get("reasoning"):
        yield event({"reasoning": message["reasoning"]})
    content = message.get("content") or ""
    for start in range(0, len(content), _PIECE_CHARACTERS):
        yield event({"content": content[start : start + _PIECE_CHARACTERS]})
    if message.get("tool_calls"):
        yield event({"tool_calls": [{"index": index, **made} for index, made in enumerate(message["tool_calls"])]})
    final: dict[str, Any] = {"x_groq": {"id": asked.request_id, "usage": body["usage"]}} if is_groq else {}
    yield event({}, body["choices"][0]["finish_reason"], **final)
    if (asked.body.get("stream_options") or {}).get("include_usage"):
        yield b"data: " + orjson.dumps({**head, "choices": [], "usage": body["usage"]}) + b"\n\n"
    yield b"data: [DONE]\n\n"
