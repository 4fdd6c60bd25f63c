"""Recognises plain text chats by the million: the parser checks them and builds no dictionaries.

``inspect`` has no reason and no warning for a line that is recognised here; a property test compares the two. Every string of a
line is decoded into text, because the parser validates UTF-8 only in what it decodes, and no unknown member is skipped.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from batchkit.files import jsonl
from batchkit.preflight.envelope import PARTICULAR_MODELS
from batchkit.preflight.facts import CHAT, REASONING_EFFORTS_OF_MODELS

_MAX_ID_CHARS: Final = 64
_ID_BYTES: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-"
_EFFORTS: Final = {model: {None, *words} for model, words in REASONING_EFFORTS_OF_MODELS.items()}
_Positive = Annotated[int, Meta(ge=1, le=2**62)]


class _Message(Struct, forbid_unknown_fields=True, gc=False):
    role: Literal["system", "user", "assistant"]
    content: str


class _Body(Struct, forbid_unknown_fields=True, gc=False):
    model: str
    messages: Annotated[list[_Message], Meta(min_length=1)]
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.0
    top_p: Annotated[float, Meta(ge=0, le=1)] = 0.0
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] = 0.0
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] = 0.0
    max_completion_tokens: _Positive = 1
    max_tokens: _Positive = 1
    seed: _Positive = 1
    reasoning_effort: Literal["none", "default", "low", "medium", "high"] | None = None


class PlainChat(Struct, forbid_unknown_fields=True, gc=False):
    """A request line with only text messages and numbers in their ranges."""

    custom_id: str
    method: Literal["POST"]
    url: Literal["/v1/chat/completions"]
    body: _Body


#: The url of every plain chat.
PLAIN_ENDPOINT: Final = CHAT

_read: Final = jsonl.typed_lines_reader(PlainChat)


def plain_ids(block: bytes, lines: list[bytes], models: set[str] | None = None) -> list[str] | None:
    r"""Return the custom_ids of a block of ``lines``, each followed by ``\n`` in the block; None unless all are plain chats.

    The models of plain chats are added to ``models``.

    None only means that ``inspect`` must examine each line.
    """
    chats = jsonl.read_typed_lines(_read, block, lines)
    if not chats:
        return None
    custom_ids = [chat.custom_id for chat in chats]
    lengths = set(map(len, custom_ids))
    efforts: dict[str, set[str | None]] = {}
    for model, effort in {(chat.body.model, chat.body.reasoning_effort) for chat in chats}:
        efforts.setdefault(model.lower(), {None}).add(effort)
    are_plain = (
        min(lengths) > 0
        and max(lengths) <= _MAX_ID_CHARS
        and not "".join(custom_ids).encode().translate(None, _ID_BYTES)
        and "" not in efforts
        and efforts.keys().isdisjoint(PARTICULAR_MODELS)
        and all(words.issubset(_EFFORTS.get(model, words)) for model, words in efforts.items())
    )
    if not are_plain:
        return None
    if models is not None:
        models.update(chat.body.model for chat in chats)
    return custom_ids
