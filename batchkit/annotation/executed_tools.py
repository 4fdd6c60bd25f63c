"""The tools that a compound system has run for an answer (console.groq.com/docs/compound)."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pyarrow as pa

from batchkit.files import jsonl

#: The columns: the kinds of the tools in the order in which they ran, how many there were, and all that is told of them, as JSON.
TOOL_COLUMNS: Final = (
    ("tools", pa.list_(pa.string())),
    ("tool_count", pa.int64()),
    ("executed_tools", pa.string()),
)


class _Message(msgspec.Struct):
    executed_tools: list[Any] | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] = []


_read: Final = jsonl.typed_reader(_Answer)


def executed_tools(body: bytes | None) -> list[Any]:
    """Return the tools that a stored answer tells, each as the server wrote it; none for any other body."""
    if body is None:
        return []
    try:
        answer = _read(jsonl.without_lone_surrogates(body))
    except jsonl.UNREADABLE:
        return []
    message = answer.choices[0].message if answer.choices else None
    return [] if message is None else message.executed_tools or []


def tool_cells(tools: list[Any] | None) -> tuple[list[str | None] | None, int | None, str | None]:
    """Return the cells of ``TOOL_COLUMNS``; all null where there is no answer."""
    if tools is None:
        return None, None, None
    return [_kind(tool) for tool in tools], len(tools), jsonl.dumps(tools).decode()


def _kind(tool: Any) -> str | None:
    """Return the name of a tool, or else its kind."""
    if not isinstance(tool, dict):
        return None
    found = tool.get("name") or tool.get("type")
    return found if isinstance(found, str) else None
