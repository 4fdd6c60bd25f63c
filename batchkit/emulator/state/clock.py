"""The emulated clock: provider seconds that pass ``speed`` times as fast as real seconds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """The Unix time of the emulated provider.

    It starts at ``start`` (Unix seconds) and is never set back. While no emulator runs, no provider time passes: a directory that is
    opened again continues from the latest time that a client has seen, or from the real time if that is later.
    """

    def __init__(self, *, speed: float, start: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        if not speed > 0:
            raise ValueError(f"speed must be above 0, not {speed}")
        self.speed = speed
        self._start = start
        self._monotonic = monotonic
        self._origin = monotonic()

    def now(self) -> float:
        """Return the provider's Unix time in seconds."""
        return self._start + (self._monotonic() - self._origin) * self.speed

    def real_seconds(self, provider_seconds: float) -> float:
        """Convert a provider duration to the real seconds it takes."""
        return provider_seconds / self.speed
