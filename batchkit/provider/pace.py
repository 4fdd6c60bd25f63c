"""The speed of transfers: one that is too slow is given up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class LowestSpeed:
    """A transfer is too slow below ``bytes_per_second``, on average over ``window_seconds`` or a little more."""

    bytes_per_second: float
    window_seconds: float

    def __str__(self) -> str:
        return f"{self.bytes_per_second:,.0f} bytes per second over {self.window_seconds:g} s"


#: Far below any usable connection, and long enough for one that recovers.
LOWEST_SPEED = LowestSpeed(bytes_per_second=1_000.0, window_seconds=20.0)


class Pace:
    """Measures one transfer, window by window; ``clock`` returns monotonic seconds."""

    def __init__(self, lowest: LowestSpeed, clock: Callable[[], float]) -> None:
        self._lowest = lowest
        self._clock = clock
        self._since = clock()
        self._bytes = 0

    def is_fast_enough(self, size_bytes: int) -> bool | None:
        """Count transferred bytes; return whether the window was fast enough when it ends with them, None within it."""
        self._bytes += size_bytes
        now = self._clock()
        seconds = now - self._since
        if seconds < self._lowest.window_seconds:
            return None
        verdict = self._bytes >= self._lowest.bytes_per_second * seconds
        self._since, self._bytes = now, 0
        return verdict
