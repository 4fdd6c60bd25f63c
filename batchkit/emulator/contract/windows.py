"""Completion windows: ``24h`` to ``7d`` (console.groq.com/docs/batch)."""

from __future__ import annotations

import re

_WINDOW = re.compile(r"([1-9][0-9]{0,3})([hd])")
_SECONDS = {"h": 3_600, "d": 86_400}
SHORTEST_SECONDS = 24 * 3_600
LONGEST_SECONDS = 7 * 86_400


def window_seconds(text: str) -> int | None:
    """Return the length of a completion window in seconds, or None when it is malformed or outside 24h to 7d."""
    match = _WINDOW.fullmatch(text)
    if match is None:
        return None
    seconds = int(match[1]) * _SECONDS[match[2]]
    return seconds if SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS else None
