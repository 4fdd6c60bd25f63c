"""Answers to the endpoints that other providers than Groq run in batches: completions, embeddings, moderations, responses.

Shapes: OpenAI's reference.
"""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING, Any

from batchkit.emulator.answers.model_request import check_served, count_tokens
from batchkit.emulator.contract.ids import completion_id, stable_hash
from batchkit.emulator.contract.refusals import refused
from batchkit.emulator.requests.chat_requests import check_model_name

if TYPE_CHECKING:
    from batchkit.emulator.answers.model_request import ModelRequest

_ECHO_CHARACTERS = 4_000
_DIMENSIONS = 8
_FLAGGED = ("bomb", "kill", "steal")


def completion_body(asked: ModelRequest) -> dict[str, Any]:
    """Answer a completion of the old kind. Raises ``RequestRefused``."""
    prompt = _texts(asked, "prompt")
    choices: list[dict[str, Any]] = [
        {"index": index, "text": _echo(text), "logprobs": None, "finish_reason": "stop"}
        for index, text in enumerate(prompt)
    ]
    return {
        "id": f"cmpl-{completion_id(asked.entropy).removeprefix('chatcmpl-')}",
        "object": "text_completion",
        "created": asked.created,
        "model": asked.body["model"],
        "choices": choices,
        "usage": _usage(prompt, [choice["text"] for choice in choices]),
    }


def embeddings_body(asked: ModelRequest) -> dict[str, Any]:
    """Answer embeddings with short vectors that depend on the text alone, as numbers or in base64. Raises ``RequestRefused``."""
    texts = _texts(asked, "input")
    written = _base64 if asked.body.get("encoding_format") == "base64" else _same
    tokens = sum(map(count_tokens, texts))
    return {
        "object": "list",
        "model": asked.body["model"],
        "data": [
            {"object": "embedding", "index": index, "embedding": written(_vector(text))}
            for index, text in enumerate(texts)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def moderation_body(asked: ModelRequest) -> dict[str, Any]:
    """Answer a moderation: texts with one of a few words are flagged. Raises ``RequestRefused``."""
    verdicts = [any(word in text.lower() for word in _FLAGGED) for text in _texts(asked, "input")]
    return {
        "id": f"modr-{asked.entropy:032x}",
        "model": asked.body["model"],
        "results": [
            {
                "flagged": flagged,
                "categories": {"violence": flagged},
                "category_scores": {"violence": 0.99 if flagged else 0.01},
            }
            for flagged in verdicts
        ],
    }


def response_body(asked: ModelRequest) -> dict[str, Any]:
    """Answer a request of the responses API. Raises ``RequestRefused``."""
    given = asked.body.get("input")
    text = given if isinstance(given, str) else _last_text(given)
    check_model_name(asked.body)
    check_served(asked)
    said = _echo(text)
    usage = _usage([text], [said])
    part = {"type": "output_text", "text": said, "annotations": []}
    message = {
        "id": f"msg_{asked.entropy:032x}",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [part],
    }
    return {
        "id": f"resp_{asked.entropy:032x}",
        "object": "response",
        "created_at": asked.created,
        "status": "completed",
        "error": None,
        "model": asked.body["model"],
        "output": [message],
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "output_tokens": usage["completion_tokens"],
            "total_tokens": usage["total_tokens"],
        },
    }


def _texts(asked: ModelRequest, name: str) -> list[str]:
    """Return a text, or a list of texts, as a list; checks the model too. Raises ``RequestRefused``."""
    check_model_name(asked.body)
    check_served(asked)
    given = asked.body.get(name)
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise refused(400, f"'{name}' : value must be a string or an array of strings", param=name)
    return texts


def _last_text(items: Any) -> str:
    """Return the text of the last input item of a response."""
    content = items[-1].get("content")
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content)


def _echo(text: str) -> str:
    return f"Echo: {text[:_ECHO_CHARACTERS]}"


def _vector(text: str) -> list[float]:
    bits = stable_hash("embedding", text)
    return [((bits >> shift * 16) & 0xFFFF) / 0x8000 - 1 for shift in range(_DIMENSIONS)]


def _same(vector: list[float]) -> list[float]:
    return vector


def _base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _usage(read: list[str], written: list[str]) -> dict[str, int]:
    prompt, completion = sum(map(count_tokens, read)), sum(map(count_tokens, written))
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
