"""A cheap estimate of a request's tokens, for a dry run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from batchkit.preflight.findings import is_integer
from batchkit.preflight.messages import texts
from batchkit.preflight.rules import EMBEDDINGS, RESPONSES, SPEECH

_BYTES_PER_TOKEN: Final = 4
_TOKENS_PER_MESSAGE: Final = 4
_TOKENS_PER_IMAGE: Final = 1_500


class TokenEstimate(NamedTuple):
    """Tokens of one request.

    ``prompt`` is an estimate, within about a third for prose. ``max_completion`` is the largest number of output tokens that the
    request allows; None if it sets no limit. ``characters`` are those of a text that is to be spoken, which is billed by them.
    """

    prompt: int
    max_completion: int | None
    characters: int = 0


@dataclass(slots=True)
class ModelShare:
    """The requests to one model, and the sums of their estimates.

    ``completion_tokens`` is the most that they can return: a sum of the limits that they set. ``unlimited`` requests set none.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unlimited: int = 0
    characters: int = 0

    def add(self, estimate: TokenEstimate, *, sign: int = 1) -> None:
        """Add a request; with ``sign`` -1 it is taken off again."""
        self.requests += sign
        self.prompt_tokens += sign * estimate.prompt
        self.completion_tokens += sign * (estimate.max_completion or 0)
        self.unlimited += sign * (estimate.max_completion is None)
        self.characters += sign * estimate.characters


def estimate_tokens(record: Any) -> TokenEstimate:
    """Estimate the tokens of one parsed line without a tokenizer; never raises for a value that a JSON parser returned.

    The prompt counts one token for four bytes of UTF-8 in message texts, tool definitions and JSON schemas, four for
    each message, and 1,500 for each image, whatever its size. It counts bytes and not characters, because scripts with
    three bytes for a character also have about one token for it. Audio requests count 0 and 0: they are billed by the
    length of the audio. Speech counts its characters; ``input`` of other endpoints counts as a text.
    """
    body = record.get("body") if isinstance(record, dict) else None
    if not isinstance(body, dict) or "messages" not in body:
        return _without_messages(body, record.get("url")) if isinstance(body, dict) else TokenEstimate(0, 0)
    messages = body["messages"]
    size = sum(map(_utf8_bytes, texts(messages)))
    for name in ("tools", "response_format"):
        if body.get(name) is not None:
            size += _json_bytes(body[name])
    count = len(messages) if isinstance(messages, list) else 0
    prompt = -(-size // _BYTES_PER_TOKEN) + count * _TOKENS_PER_MESSAGE + _count_images(messages) * _TOKENS_PER_IMAGE
    limit = body.get("max_completion_tokens")
    if limit is None:
        limit = body.get("max_tokens")
    return TokenEstimate(prompt, max(limit, 0) if isinstance(limit, int) and is_integer(limit) else None)


def _without_messages(body: dict[str, Any], url: Any) -> TokenEstimate:
    given = body.get("input")
    if url == SPEECH:
        return TokenEstimate(0, 0, len(given) if isinstance(given, str) else 0)
    if url not in (RESPONSES, EMBEDDINGS) or given is None:
        return TokenEstimate(0, 0)
    size = _utf8_bytes(given) if isinstance(given, str) else _json_bytes(given)
    limit: Any = body.get("max_output_tokens") if url == RESPONSES else 0
    return TokenEstimate(-(-size // _BYTES_PER_TOKEN), max(int(limit), 0) if is_integer(limit) else None)


def _utf8_bytes(text: str) -> int:
    # A lenient JSON parser can return halves of surrogate pairs, which a strict encoder refuses.
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _count_images(messages: Any) -> int:
    if not isinstance(messages, list):
        return 0
    return sum(
        1
        for message in messages
        if isinstance(message, dict) and isinstance(parts := message.get("content"), list)
        for part in parts
        if isinstance(part, dict) and part.get("type") == "image_url"
    )


def _json_bytes(value: Any) -> int:
    """Return the approximate length of the value as compact JSON; uses its own stack, because nesting may be deep."""
    size = 0
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            size += _utf8_bytes(item) + 2
        elif isinstance(item, dict):
            size += 2 * len(item) + 2
            stack.extend(item)
            stack.extend(item.values())
        elif isinstance(item, list):
            size += len(item) + 2
            stack.extend(item)
        else:
            size += 4
    return size
