"""The size of shards and the length of their windows: pure arithmetic over a provider's limits.

Small shards expire less often, but each batch costs a place in a status call: a workload is cut into as many small shards as can be
polled cheaply.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: The requests of a shard of the sync lane: few, because a machine that is lost takes the answers of its shards with it.
SYNC_SHARD_LINES = 200
#: With ``--lane auto``, an input of at most so many requests is sent one by one.
SMALL_REQUESTS = 100
#: Resubmission after expiry never makes smaller shards: they would only make more batches.
MIN_RESUBMIT_LINES = 100

_WINDOW = re.compile(r"([1-9][0-9]{0,2})([hd])")
_HOURS_PER_DAY = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardLimits:
    """A provider's limits of one input file, and the sizes to prefer.

    ``max_lines`` and ``max_bytes`` are what the provider documents. ``default_bytes`` is the size up to which files are known to be
    accepted. ``min_default_lines`` is the smallest shard that is cut by default, and ``polled_batches`` the number of batches to
    which a workload is cut then.
    """

    max_lines: int
    max_bytes: int
    default_bytes: int
    min_default_lines: int
    polled_batches: int

    def default_lines(self, total: int) -> int:
        """Return the requests per shard for a workload of ``total`` requests."""
        return min(max(-(-total // self.polled_batches), self.min_default_lines), self.max_lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The completion windows of a provider, in whole hours from ``shortest_hours`` to ``longest_hours``.

    ``spellings`` has those that are written in another way than in hours.
    """

    shortest_hours: int = 24
    longest_hours: int = 24
    spellings: tuple[tuple[int, str], ...] = ()

    @property
    def shortest(self) -> str:
        """The shortest window."""
        return self.written(self.shortest_hours)

    @property
    def longest(self) -> str:
        """The longest window."""
        return self.written(self.longest_hours)

    @property
    def described(self) -> str:
        """The windows for people: ``24h``, or ``24h to 7d``."""
        return self.shortest if self.shortest == self.longest else f"{self.shortest} to {self.longest}"

    def hours(self, window: str) -> int:
        """Read a window such as ``24h`` or ``7d``. Raises ``ValueError`` for one that the provider does not have."""
        hours = hours_of(window)
        if not self.shortest_hours <= hours <= self.longest_hours:
            raise ValueError(f"a completion window is {self.described} here")
        return hours

    def written(self, hours: int) -> str:
        """Return hours as a window, as the provider spells it."""
        return dict(self.spellings).get(hours, f"{hours}h")

    def longer(self, window: str, max_window: str) -> str:
        """Return twice the window, at most ``max_window`` and what the provider has; never a shorter one."""
        hours = hours_of(window)
        allowed = min(hours_of(max_window), self.longest_hours)
        return window if hours >= allowed else self.written(min(hours * 2, allowed))


def hours_of(window: str) -> int:
    """Read a completion window in hours or days, whoever accepts it. Raises ``ValueError`` for another text."""
    match = _WINDOW.fullmatch(window)
    if match is None:
        raise ValueError("a completion window is written in hours or days, such as 24h, 48h, 7d")
    return int(match[1]) * (_HOURS_PER_DAY if match[2] == "d" else 1)


def smaller_shard(lines: int) -> int:
    """Return half the shard size, for use after expiry: at least ``MIN_RESUBMIT_LINES``, and never larger than before."""
    return min(lines, max(lines // 2, MIN_RESUBMIT_LINES))


def is_full(*, lines: int, size_bytes: int, next_bytes: int, max_lines: int, max_bytes: int) -> bool:
    """Whether the next line (with its newline) must go into another shard."""
    return lines >= max_lines or (lines > 0 and size_bytes + next_bytes > max_bytes)
