"""Completion windows: how long a provider lets a batch run, and how a client writes it."""

from __future__ import annotations

import re
from dataclasses import dataclass

_WINDOW = re.compile(r"([1-9][0-9]{0,3})([hd])")
_SECONDS = {"h": 3_600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows from ``shortest`` to ``longest`` hours, in whole hours (``24h``) and days (``7d``).

    With ``only`` a single spelling is accepted. ``default`` is the window of a create that names none; None requires one.
    """

    shortest: int = 24
    longest: int = 24
    only: str | None = None
    default: str | None = None

    def seconds(self, text: str) -> int | None:
        """Return the length of a window in seconds, or None when it is malformed or not offered."""
        match = _WINDOW.fullmatch(text)
        if match is None or (self.only is not None and text != self.only):
            return None
        seconds = int(match[1]) * _SECONDS[match[2]]
        return seconds if self.shortest * 3_600 <= seconds <= self.longest * 3_600 else None

    def offered(self) -> str:
        """Return the windows as a refusal names them."""
        if self.only is not None:
            return self.only
        return f"durations from {_written(self.shortest)} to {_written(self.longest)}"


def _written(hours: int) -> str:
    return f"{hours // 24}d" if hours % 24 == 0 and hours > 24 else f"{hours}h"  # noqa: PLR2004 - hours of a day
