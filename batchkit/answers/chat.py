"""Reads the message of a chat completion: its text, its calls of tools, and whether it is complete."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from batchkit.answers.reasons import InvalidAnswer, Reason
from batchkit.files import jsonl

#: The words of several servers for an answer that ran into its token limit, that a filter cut, and that broke off otherwise.
_TRUNCATED: Final = frozenset({"length", "max_tokens", "model_length"})
_FILTERED: Final = frozenset(
    {"content_filter", "safety", "sensitive", "recitation", "blocklist", "prohibited_content", "spii"}
)
_BROKEN_OFF: Final = frozenset({"error", "abort", "network_error", "insufficient_system_resource", "other"})


class ToolCall(NamedTuple):
    """A call of a tool: ``arguments`` is JSON text, or already a value."""

    name: str
    arguments: Any


class Message(NamedTuple):
    """A complete message: ``text`` is its content, None without one."""

    text: str | None
    calls: tuple[ToolCall, ...]


class _Function(msgspec.Struct):
    name: str
    arguments: Any = None


class _ToolCall(msgspec.Struct):
    function: _Function


class _Message(msgspec.Struct):
    content: str | list[Any] | None = None
    tool_calls: list[_ToolCall] | None = None
    refusal: Any = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    finish_reason: str | None = None


class _Chat(msgspec.Struct):
    choices: list[_Choice]


_read_chat: Final = jsonl.typed_reader(_Chat)


def complete_message(data: bytes) -> Message:
    """Return the first message of a chat completion. Raises ``InvalidAnswer`` for one that is refused, filtered or cut off."""
    try:
        choices = _read_chat(data).choices
    except jsonl.UNREADABLE:
        raise InvalidAnswer("the answer is not a chat completion") from None
    if not choices or (message := choices[0].message) is None:
        raise InvalidAnswer("the answer has no message", Reason.EMPTY)
    _check_finish(choices[0].finish_reason)
    refusal = _refusal_of(message)
    if refusal is not None:
        raise InvalidAnswer(f"the model refuses: {refusal}", Reason.REFUSED)
    calls = tuple(ToolCall(call.function.name, call.function.arguments) for call in message.tool_calls or ())
    return Message(jsonl.content_text(message.content), calls)


def _check_finish(finish_reason: str | None) -> None:
    """Raise ``InvalidAnswer`` for an answer that is not complete. A word that is not known here says nothing."""
    word = (finish_reason or "").lower()
    if word in _TRUNCATED:
        raise InvalidAnswer("the answer was cut off at its token limit", Reason.TRUNCATED)
    if word in _FILTERED:
        raise InvalidAnswer(f"a filter of the provider cut the answer off ({finish_reason})", Reason.FILTERED)
    if word in _BROKEN_OFF:
        raise InvalidAnswer(f"the answer broke off ({finish_reason})")


def _refusal_of(message: _Message) -> str | None:
    """Return the words of a refusal, in its own member or in a part of the content; None without any."""
    parts = message.content if isinstance(message.content, list) else ()
    in_parts = (part.get("refusal") for part in parts if isinstance(part, dict) and part.get("type") == "refusal")
    found = (words.strip() for words in (message.refusal, *in_parts) if isinstance(words, str))
    return next(filter(None, found), None)
