"""Makes foreign text safe to read: invisible characters are shown, misleading ones are named, long texts are cut.

Nothing here escapes for HTML: the template escapes every value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# The line ends of Unicode (UAX 14, class BK and similar); browsers know only one of them.
_LINE_END = re.compile("\r\n|[\x85\u2028\u2029]")
# C0 and C1 without tab and newline: browsers show nothing for them, or a box.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Characters that reverse the order of text (Unicode 9.0, "Bidirectional Formatting Characters"). Marks (U+200E, U+200F) and
# isolates are kept: they occur in ordinary Arabic and Hebrew, and end with their paragraph.
_OVERRIDE = re.compile("[\u202a-\u202e]")
_CONTROL_SYMBOLS = 0x2400
_DELETE = "\x7f"


@dataclass(frozen=True, slots=True)
class Cut:
    """The beginning of a text, and the number of characters that are missing after it."""

    text: str
    missing: int = 0


def shown(text: str) -> str:
    """Return a visible text: one kind of line end, symbols for control characters, codes for direction overrides."""
    if text.isascii() and text.isprintable():
        return text
    text = _LINE_END.sub("\n", text.encode("utf-8", "replace").decode())
    return _OVERRIDE.sub(_code, _CONTROL.sub(_symbol, text))


def cut(text: str | None, most_bytes: int) -> Cut:
    """Return the beginning of a visible text that fits in ``most_bytes`` of the page."""
    if not text:
        return Cut("")
    # Every character takes at least a byte, so only the beginning of a text of megabytes is read.
    head = shown(text[:most_bytes])
    kept = _fitting(head, most_bytes)
    beyond = max(len(text) - most_bytes, 0)
    return Cut(head[:kept], len(head) - kept + beyond)


def escaped_bytes(text: str) -> int:
    """Return the largest size of a text in the page: some characters are escaped as five."""
    return len(text.encode("utf-8", "replace")) + 4 * sum(text.count(sign) for sign in "&<>'\"")


def _fitting(text: str, most_bytes: int) -> int:
    if escaped_bytes(text) <= most_bytes:
        return len(text)
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if escaped_bytes(text[:middle]) <= most_bytes else (low, middle - 1)
    return low


def _symbol(found: re.Match[str]) -> str:
    sign = found[0]
    if sign == _DELETE:
        return "\N{SYMBOL FOR DELETE}"
    return chr(_CONTROL_SYMBOLS + ord(sign)) if sign < " " else "\N{REPLACEMENT CHARACTER}"


def _code(found: re.Match[str]) -> str:
    return f"[U+{ord(found[0]):04X}]"
