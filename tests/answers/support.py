"""Bodies of chat completions, and their reading by rules."""

from __future__ import annotations

from typing import Any

from batchkit.answers.check import AnswerCheck, Reading
from batchkit.answers.rules import AnswerRules
from batchkit.files import jsonl


def said(content: Any, *, finish_reason: str | None = "stop", **message: Any) -> bytes:
    """Write the body of a chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}}
    return jsonl.dumps({"id": "1", "choices": [{**choice, "finish_reason": finish_reason}]})


def read(body: bytes, **rules: Any) -> Reading:
    """Read a body by rules."""
    return AnswerCheck(AnswerRules(**rules)).read(body)
