"""The messages of a chat request: what Groq refuses in them.

The members of a role are those of the official SDK's message types; the texts are those of Groq's own replies
(ServiceStack/llms#17, run-llama/llama_index#14701).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from batchkit.emulator.contract.refusals import RequestRefused, refused

_MAX_IMAGES = 5
_TALK = frozenset({"role", "content"})
_MEMBERS = {
    "system": _TALK,
    "developer": _TALK,
    "user": _TALK,
    "assistant": _TALK | {"tool_calls", "function_call", "reasoning"},
    "tool": _TALK | {"tool_call_id", "name"},
    "function": _TALK | {"name"},
}
_KNOWN = frozenset().union(*_MEMBERS.values())
_TEXT_ONLY = frozenset({"system", "developer", "assistant"})
_PARTS = {"text": ("text", str, "a string"), "image_url": ("image_url", dict, "an object"), "document": ("document", dict, "an object")}  # fmt: skip


class _MessageProblem(NamedTuple):
    where: str
    text: str


def check_messages(messages: Any) -> None:
    """Refuse messages that Groq refuses. Raises ``RequestRefused``."""
    if not isinstance(messages, list):
        raise refused(400, "'messages' : value must be an array", param="messages")
    if not messages:
        raise refused(400, "'messages' : minimum number of items is 1", param="messages")
    for index, message in enumerate(messages):
        _check_message(message, f"messages.{index}")


def _check_message(message: Any, where: str) -> None:
    if not isinstance(message, dict):
        raise refused(400, f"'{where}' : value must be an object", param=where)
    if "role" not in message:
        raise _without_role(message, where)
    role = message["role"]
    if not isinstance(role, str) or role not in _MEMBERS:
        raise refused(400, f"'{where}' : discriminator property 'role' has invalid value", param=f"{where}.role")
    problem = _problem(message, role, where)
    if problem is not None:
        message_text = (
            f"'{where}' : for 'role:{role}' the following must be satisfied[('{problem.where}' : {problem.text})]"
        )
        raise refused(400, message_text, param=problem.where)


def _without_role(message: dict[str, Any], where: str) -> RequestRefused:
    unknown = next((name for name in message if name not in _KNOWN), None)
    if unknown is not None:
        return refused(400, f"'{where}.{unknown}' : property '{unknown}' is unsupported", param=f"{where}.{unknown}")
    return refused(400, f"'{where}.role' : property 'role' is missing", param=f"{where}.role")


def _problem(message: dict[str, Any], role: str, where: str) -> _MessageProblem | None:
    unknown = next((name for name in message if name not in _MEMBERS[role]), None)
    if unknown is not None:
        return _MessageProblem(where, f"property '{unknown}' is unsupported")
    if role == "tool" and (found := _string(message, "tool_call_id", where)):
        return found
    if role == "function" and (found := _string(message, "name", where)):
        return found
    calls = message.get("tool_calls")
    if calls is not None and (found := _of_calls(calls, f"{where}.tool_calls")):
        return found
    return _of_content(message, role, where)


def _string(holder: dict[str, Any], name: str, where: str) -> _MessageProblem | None:
    if name not in holder:
        return _MessageProblem(f"{where}.{name}", f"property '{name}' is missing")
    if not isinstance(holder[name], str):
        return _MessageProblem(f"{where}.{name}", "value must be a string")
    return None


def _of_calls(calls: Any, where: str) -> _MessageProblem | None:
    if not isinstance(calls, list):
        return _MessageProblem(where, "value must be an array")
    for index, call in enumerate(calls):
        at = f"{where}.{index}"
        if not isinstance(call, dict):
            return _MessageProblem(at, "value must be an object")
        found = _string(call, "id", at) or _string(call, "type", at)
        if found is not None:
            return found
        function = call.get("function")
        if not isinstance(function, dict):
            return _MessageProblem(f"{at}.function", "value must be an object")
        found = _string(function, "name", f"{at}.function") or _string(function, "arguments", f"{at}.function")
        if found is not None:
            return found
    return None


def _of_content(message: dict[str, Any], role: str, where: str) -> _MessageProblem | None:
    at = f"{where}.content"
    content = message.get("content")
    if content is None:
        return _of_no_content(message, role, at)
    if isinstance(content, list) and content and role != "function":
        return _of_parts(content, role, at)
    if content == []:
        return _MessageProblem(at, "minimum number of items is 1")
    return None if isinstance(content, str) else _MessageProblem(at, "value must be a string")


def _of_no_content(message: dict[str, Any], role: str, at: str) -> _MessageProblem | None:
    if role == "assistant" and (message.get("tool_calls") or message.get("function_call")):
        return None
    if "content" not in message or role == "assistant":
        return _MessageProblem(at, "property 'content' is missing")
    return None if role == "function" else _MessageProblem(at, "Value is not nullable")


def _of_parts(content: list[Any], role: str, at: str) -> _MessageProblem | None:
    for index, part in enumerate(content):
        found = _of_part(part, role, f"{at}.{index}")
        if found is not None:
            return found
    images = sum(part["type"] == "image_url" for part in content)
    if images > _MAX_IMAGES:
        raise refused(400, f"Too many images provided. This model supports up to {_MAX_IMAGES} images", param=at)
    return None


def _of_part(part: Any, role: str, where: str) -> _MessageProblem | None:
    if not isinstance(part, dict):
        return _MessageProblem(where, "value must be an object")
    kind = part.get("type")
    if not isinstance(kind, str) or kind not in _PARTS or (kind != "text" and role in _TEXT_ONLY):
        return _MessageProblem(where, "discriminator property 'type' has invalid value")
    name, shape, expected = _PARTS[kind]
    if name not in part:
        return _MessageProblem(f"{where}.{name}", f"property '{name}' is missing")
    if not isinstance(part[name], shape):
        return _MessageProblem(f"{where}.{name}", f"value must be {expected}")
    if kind == "image_url":
        return _string(part["image_url"], "url", f"{where}.image_url")
    return None
