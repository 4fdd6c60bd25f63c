"""Conversations in a column of a table (``--messages``): what was said before the question."""

from __future__ import annotations

from typing import Any, Final

from batchkit.files import jsonl

_ROLES: Final = ("system", "user", "assistant")
_SHOWN_CHARACTERS: Final = 60
#: Groq takes longer requests, but no chat has more turns.
_MOST_MESSAGES: Final = 2_000


class InvalidConversation(ValueError):
    """A cell that is no conversation; the message says why."""


class NoConversation(InvalidConversation):
    """A cell without any message."""


def conversation(value: Any) -> list[dict[str, str]]:
    """Return the messages of a cell: a list of objects with ``role`` and ``content``, or its JSON as text.

    Roles are ``system``, ``user`` and ``assistant``, contents are texts; members that are null are left out. Raises
    ``InvalidConversation``.
    """
    if isinstance(value, str) and value.strip():
        try:
            value = jsonl.loads(value)
        except jsonl.MalformedJson as error:
            raise InvalidConversation(f"not a conversation (a list of messages): {error}") from None
    if value is None or value in ("", []) or (isinstance(value, str) and not value.strip()):
        raise NoConversation("the conversation is empty")
    if not isinstance(value, list):
        raise InvalidConversation(f"not a conversation (a list of messages): {_shown(value)}")
    if len(value) > _MOST_MESSAGES:
        raise InvalidConversation(f"the conversation has {len(value):,} messages; {_MOST_MESSAGES:,} are taken")
    return [_message(message, number) for number, message in enumerate(value, 1)]


def _message(value: Any, number: int) -> dict[str, str]:
    if not isinstance(value, dict):
        raise InvalidConversation(f"message {number} is no object with role and content: {_shown(value)}")
    given = {name: member for name, member in value.items() if member is not None}
    role, content = given.pop("role", None), given.pop("content", None)
    if role not in _ROLES:
        raise InvalidConversation(f"message {number} has the role {_shown(role)}; roles are {', '.join(_ROLES)}")
    if not isinstance(content, str) or not content.strip():
        raise InvalidConversation(f"message {number} has no text as its content: {_shown(content)}")
    if given:
        raise InvalidConversation(
            f"message {number} has {', '.join(map(_shown, given))}; only role and content are sent"
        )
    return {"role": role, "content": content}


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else jsonl.dumps(value).decode()
    cut = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
    return repr(cut) if isinstance(value, str) else cut
