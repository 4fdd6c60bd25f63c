"""Strangers' text, made fit to be looked at: what cannot be seen is shown, what could mislead is named, what is long is cut.

Nothing here escapes for HTML: the template does that, for every value alike.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# What ends a line in Unicode (UAX 14, class BK and its like), of which browsers know one.
_LINE_END = re.compile("\r\n|[\x85\u2028\u2029]")
# C0 and C1 without tab and newline: browsers show nothing for them, or a box.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# What turns the order of the signs around (Unicode 9.0, "Bidirectional Formatting Characters"). Marks (U+200E, U+200F) and
# isolates stay: they belong to ordinary Arabic and Hebrew, and end with their paragraph.
_OVERRIDE = re.compile("[\u202a-\u202e]")
_CONTROL_PICTURES = 0x2400
_DELETE = "\x7f"


@dataclass(frozen=True, slots=True)
class Cut:
    """The beginning of a text, and how many characters are missing behind it."""

    text: str
    missing: int = 0


def shown(text: str) -> str:
    """Make a text visible: every line's end as one, control characters as their pictures, overrides of the direction by their code."""
    if text.isascii() and text.isprintable():
        return text
    text = _LINE_END.sub("\n", text.encode("utf-8", "replace").decode())
    return _OVERRIDE.sub(_named, _CONTROL.sub(_pictured, text))


def cut(text: str | None, most_bytes: int) -> Cut:
    """Make the beginning of a text visible: as much as takes up ``most_bytes`` in the page."""
    if not text:
        return Cut("")
    # No character takes less than a byte, so that a text of megabytes is not looked through.
    head = shown(text[:most_bytes])
    kept = _fitting(head, most_bytes)
    beyond = max(len(text) - most_bytes, 0)
    return Cut(head[:kept], len(head) - kept + beyond)


def escaped_bytes(text: str) -> int:
    """Say how many bytes a text takes up in the page, at most: some signs are written as five characters."""
    return len(text.encode("utf-8", "replace")) + 4 * sum(text.count(sign) for sign in "&<>'\"")


def _fitting(text: str, most_bytes: int) -> int:
    if escaped_bytes(text) <= most_bytes:
        return len(text)
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if escaped_bytes(text[:middle]) <= most_bytes else (low, middle - 1)
    return low


def _pictured(found: re.Match[str]) -> str:
    sign = found[0]
    if sign == _DELETE:
        return "\N{SYMBOL FOR DELETE}"
    return chr(_CONTROL_PICTURES + ord(sign)) if sign < " " else "\N{REPLACEMENT CHARACTER}"


def _named(found: re.Match[str]) -> str:
    return f"[U+{ord(found[0]):04X}]"
