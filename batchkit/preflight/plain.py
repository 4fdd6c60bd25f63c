"""Recognises plain text chats by the million: the parser checks them and builds no dictionaries.

``inspect`` has no reason and no warning for a line that is recognised here; a property test compares the two. Every string of a
line is decoded into text, because the parser validates UTF-8 only in what it decodes, and no unknown member is skipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

from msgspec import Meta, Struct

from batchkit.files import jsonl
from batchkit.preflight.rules import CHAT

if TYPE_CHECKING:
    from batchkit.preflight.rules import LineRules

_MAX_ID_CHARS: Final = 64
_ID_BYTES: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-"
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


def plain_chats(block: bytes, lines: list[bytes], rules: LineRules) -> list[PlainChat] | None:
    r"""Return the chats of a block of ``lines``, each followed by ``\n`` in the block; None unless all are plain chats.

    None only means that ``inspect`` must examine each line.
    """
    if CHAT not in rules.endpoints:
        return None
    if rules.max_line_bytes is not None and max(map(len, lines), default=0) > rules.max_line_bytes:
        return None
    chats = jsonl.read_typed_lines(_read, block, lines)
    if not chats:
        return None
    custom_ids = [chat.custom_id for chat in chats]
    lengths = set(map(len, custom_ids))
    efforts: dict[str, set[str | None]] = {}
    for model, effort in {(chat.body.model, chat.body.reasoning_effort) for chat in chats}:
        efforts.setdefault(model.lower(), {None}).add(effort)
    known = rules.reasoning_efforts
    are_plain = (
        min(lengths) > 0
        and max(lengths) <= min(_MAX_ID_CHARS, rules.max_custom_id_chars)
        and not "".join(custom_ids).encode().translate(None, _ID_BYTES)
        and "" not in efforts
        and efforts.keys().isdisjoint(rules.particular_models)
        and all(words.issubset({None, *known.get(model, words)}) for model, words in efforts.items())
    )
    return chats if are_plain else None
