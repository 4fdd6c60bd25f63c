"""How a call of ``batchkit.api`` works, as far as it is not about what the call does: for whom it works and how it drives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchkit.api import driving
from batchkit.engine.observer import DO_NOTHING, Observer, Observers

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.engine.progress import Progress


@dataclass(frozen=True, slots=True)
class RunMode:
    """``verb`` is what others see who ask for the status; ``timeout_seconds`` is how long a call drives, None without a limit.

    ``drive`` drives one workload, as ``batchkit.api.driving.drive`` does; where a flow leads it is another function. What ``observer``
    raises is logged.
    """

    verb: str = "python"
    timeout_seconds: float | None = None
    observer: Observer = DO_NOTHING
    drive: Callable[..., Progress] = driving.drive

    def __post_init__(self) -> None:
        object.__setattr__(self, "observer", Observers(self.observer))

    def stop_at(self, now: float) -> float | None:
        """Return when a drive that begins ``now`` stops, in Unix seconds; None when there is no limit."""
        return None if self.timeout_seconds is None else now + self.timeout_seconds
