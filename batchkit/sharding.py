"""The size of shards and the length of their windows: pure arithmetic.

Groq takes 50,000 lines a file and recommends about 1,000 to avoid expiry (console.groq.com/docs/batch); one status call
covers 200 batches. So a workload is cut into as many small shards as one status call can poll.
"""

from __future__ import annotations

import re

MAX_SHARD_LINES = 50_000
#: The documented maximum; files of this size have been refused, so shards stay below 100 MB by default.
MAX_FILE_BYTES = 200_000_000
MIN_DEFAULT_SHARD_LINES = 1_000
BATCHES_PER_STATUS_CALL = 200
#: Resubmission after expiry never makes smaller shards: they would only make more batches.
MIN_RESUBMIT_LINES = 100

_MIN_WINDOW_HOURS = 24
_MAX_WINDOW_HOURS = 7 * 24
_WINDOW = re.compile(r"([1-9][0-9]{0,2})([hd])")


def parse_window(window: str) -> int:
    """Read a completion window such as ``24h`` or ``7d`` as hours. Raises ``ValueError`` outside 24h to 7d."""
    match = _WINDOW.fullmatch(window)
    hours = int(match[1]) * (24 if match[2] == "d" else 1) if match else 0
    if not _MIN_WINDOW_HOURS <= hours <= _MAX_WINDOW_HOURS:
        raise ValueError("a completion window is 24h to 7d, written in hours or days such as 24h, 48h, 7d")
    return hours


def format_window(hours: int) -> str:
    """Return hours as a completion window: the two documented spellings ``24h`` and ``7d``, hours in between."""
    return "7d" if hours == _MAX_WINDOW_HOURS else f"{hours}h"


def longer_window(window: str, max_window: str) -> str:
    """Return twice the window, at most ``max_window``."""
    hours, allowed = parse_window(window), parse_window(max_window)
    if hours >= allowed:
        return window
    return format_window(min(hours * 2, allowed))


def default_shard_lines(total: int) -> int:
    """Return the requests per shard for a workload of ``total`` requests."""
    return min(max(-(-total // BATCHES_PER_STATUS_CALL), MIN_DEFAULT_SHARD_LINES), MAX_SHARD_LINES)


def smaller_shard(lines: int) -> int:
    """Return half the shard size, for use after expiry: at least ``MIN_RESUBMIT_LINES``, and never larger than before."""
    return min(lines, max(lines // 2, MIN_RESUBMIT_LINES))


def is_full(*, lines: int, size_bytes: int, next_bytes: int, max_lines: int, max_bytes: int) -> bool:
    """Whether the next line (with its newline) must go into another shard."""
    return lines >= max_lines or (lines > 0 and size_bytes + next_bytes > max_bytes)
