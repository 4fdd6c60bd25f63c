"""Answers to instructions in a system message: one of several choices, a number, a text for a pattern, a document for a schema.

batchkit writes these instructions where a request has no parameter for the kind of answer. Only these exact texts are understood.
"""

from __future__ import annotations

import math
import re
from typing import Any

import orjson

from batchkit.emulator.answers.patterns import PatternUnsupported, matching_whole
from batchkit.emulator.answers.schema_answers import SchemaUnsupported, conforming
from batchkit.emulator.contract.ids import stable_hash

_INSTRUCTION = re.compile(
    r"Answer with (?:"
    r"exactly one of these, and with nothing else:(?: (?P<choices>[^\n]+)|(?P<listed>(?:\n- [^\n]+)+))"
    r"|one number(?P<bounds>[^\n,]*), and with nothing else\."
    r"|a text that this regular expression matches as a whole, and with nothing else: (?P<pattern>.+)"
    r"|JSON that conforms to this JSON Schema, and with nothing else:\n(?P<schema>[^\n]+)"
    r")",
    re.DOTALL,
)
_NUMBER = r"(-?[\d.]+(?:e[-+]?\d+)?)"
_BOUNDS = re.compile(rf" from {_NUMBER} to {_NUMBER}| of at least {_NUMBER}| of at most {_NUMBER}")
_SPAN = 100


def instructed(messages: list[dict[str, Any]], prompt: str) -> str | None:
    """Return an answer that follows the instruction of a system message; None without one, or for one that is not supported."""
    texts = [message.get("content") for message in messages if message.get("role") in {"system", "developer"}]
    found = _INSTRUCTION.search("\n".join(text for text in texts if isinstance(text, str)))
    if found is None:
        return None
    if found["choices"] or found["listed"]:
        choices = found["choices"].split("; ") if found["choices"] else found["listed"].split("\n- ")[1:]
        return choices[stable_hash(prompt, "choice") % len(choices)]
    try:
        if found["pattern"]:
            return matching_whole(found["pattern"], stable_hash(prompt, "pattern"))
        if found["schema"]:
            return orjson.dumps(conforming(orjson.loads(found["schema"]), prompt)).decode()
    except (PatternUnsupported, SchemaUnsupported, orjson.JSONDecodeError):
        return None
    return _number(found["bounds"], prompt)


def _number(bounds: str, prompt: str) -> str:
    """Return a number between bounds: an integer if there is one between them."""
    found = _BOUNDS.fullmatch(bounds)
    low, high, at_least, at_most = found.groups() if found else (None,) * 4
    least = _as_float(low or at_least)
    most = _as_float(high or at_most)
    if least is None:
        least = 0.0 if most is None or most >= 0 else most - _SPAN
    if most is None:
        most = least + _SPAN
    first, last = math.ceil(least), math.floor(most)
    if first <= last:
        return str(first + stable_hash(prompt, "number") % (last - first + 1))
    return repr(least + (most - least) * (stable_hash(prompt, "number") % 101) / 100)


def _as_float(text: str | None) -> float | None:
    return None if text is None else float(text)
