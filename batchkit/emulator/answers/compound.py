"""Compound systems: chat in which the server itself runs tools (console.groq.com/docs/compound)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from batchkit.emulator.contract.ids import stable_hash

if TYPE_CHECKING:
    from collections.abc import Callable

_UNDERLYING = "openai/gpt-oss-120b"
_SUM = re.compile(r"(\d{1,9})\s*([-+*])\s*(\d{1,9})")
_OPERATORS: dict[str, Callable[[int, int], int]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
}
_QUERY_CHARACTERS = 200


def is_compound(model: str) -> bool:
    """Return whether a model is a compound system, which runs tools and is not offered in batches."""
    return model.startswith(("groq/compound", "compound-beta"))


def executed_tools(model: str, prompt: str) -> list[dict[str, Any]]:
    """Return the tools that were run for a prompt: code for a sum, else a search; the mini system runs one, the other both."""
    tools = []
    found = _SUM.search(prompt)
    if found is not None:
        left, operator, right = found.groups()
        value = str(_OPERATORS[operator](int(left), int(right)))
        code = orjson.dumps({"code": f"print({left} {operator} {right})"}).decode()
        tools.append({"type": "python", "arguments": code, "output": value, "code_results": [{"text": value}]})
    if found is None or not model.endswith("-mini"):
        tools.append(_search(prompt[:_QUERY_CHARACTERS]))
    return [{"index": index, **tool} for index, tool in enumerate(tools)]


def usage_breakdown(usage: dict[str, Any]) -> dict[str, Any]:
    """Return the tokens by the model that the system used."""
    return {"models": [{"model": _UNDERLYING, "usage": usage}]}


def _search(query: str) -> dict[str, Any]:
    place = f"https://example.com/{stable_hash('search', query) & 0xFFFFFF:06x}"
    result = {"title": f"About: {query}", "url": place, "content": f"A page about {query}", "score": 0.9}
    return {
        "type": "search",
        "arguments": orjson.dumps({"query": query}).decode(),
        "output": f"Title: {result['title']}\nURL: {place}\nContent: {result['content']}\nScore: 0.9",
        "search_results": {"results": [result]},
    }
