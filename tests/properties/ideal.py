"""The expected result of a history, from the promises alone: a dictionary of requests, without files, database or JSON.

Written from the rules: matching is by custom_id alone; a success beats all other lines of a batch for the same request,
otherwise its first line counts; unexecuted requests have a separate budget; nothing is sent after a cancel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Says(Enum):
    """The meaning of one line for its request."""

    ANSWER = auto()
    REFUSAL = auto()
    TROUBLE = auto()
    EXPIRED = auto()
    STOPPED = auto()


@dataclass(frozen=True)
class Line:
    """One line of a batch's files with its intended meaning; ``answer`` is the response body of a success."""

    custom_id: str
    says: Says
    answer: Any = None


@dataclass
class Fate:
    """The state of one request: open, succeeded, failed or cancelled. ``lost`` counts attempts without an answer."""

    state: str = "open"
    attempts: int = 0
    expiries: int = 0
    lost: int = 0
    answer: Any = None


@dataclass
class Ideal:
    """All requests of a workload by custom_id, in input order."""

    max_attempts: int
    max_expiries: int
    fates: dict[str, Fate] = field(default_factory=dict)
    is_cancelling: bool = False

    def in_state(self, state: str) -> set[str]:
        """Return the requests in a state."""
        return {custom_id for custom_id, fate in self.fates.items() if fate.state == state}

    def batch_ran(
        self, shard_requests: Sequence[str], lines: Iterable[Line], silence: Says, named: Iterable[int] = ()
    ) -> None:
        """A batch ran with ``shard_requests``: ``lines`` came back, and ``named`` are the places, from 1, that its errors name."""
        best: dict[str, Line] = {}
        for line in lines:
            if line.custom_id not in best or (
                line.says is Says.ANSWER and best[line.custom_id].says is not Says.ANSWER
            ):
                best[line.custom_id] = line
        refused = {shard_requests[place - 1] for place in named if 0 < place <= len(shard_requests)}
        for custom_id in shard_requests:
            silent = Line(custom_id, Says.REFUSAL if custom_id in refused else silence)
            self._count_attempt(self.fates[custom_id], best.get(custom_id, silent))

    def _count_attempt(self, fate: Fate, line: Line) -> None:
        assert fate.state == "open"
        says = line.says
        fate.attempts += 1
        fate.lost += says is not Says.ANSWER
        fate.expiries += says in (Says.EXPIRED, Says.STOPPED)
        if says is Says.ANSWER:
            fate.state, fate.answer = "succeeded", line.answer
        elif says is Says.REFUSAL or (says is Says.TROUBLE and fate.attempts - fate.expiries >= self.max_attempts):
            fate.state = "failed"
        elif self.is_cancelling:
            fate.state = "cancelled"
        elif fate.expiries >= self.max_expiries and says is not Says.TROUBLE:
            fate.state = "failed"

    def batch_was_refused(self, shard_requests: Sequence[str], failing: Iterable[str]) -> None:
        """A batch failed validation: nothing ran and no attempt counts; the requests in ``failing`` fail with the refusal."""
        condemned = set(failing)
        for custom_id in shard_requests:
            if custom_id in condemned:
                self.fates[custom_id].state = "failed"
            elif self.is_cancelling:
                self.fates[custom_id].state = "cancelled"

    def cancel(self, at_the_provider: set[str]) -> None:
        """The user cancels: requests that are not at the provider are final."""
        self.is_cancelling = True
        for custom_id in self.in_state("open") - at_the_provider:
            self.fates[custom_id].state = "cancelled"

    def reopen(self, *, failed: bool) -> None:
        """The user reopens the lost requests, with fresh budgets."""
        self.is_cancelling = False
        for state in ("cancelled", "failed") if failed else ("cancelled",):
            for custom_id in self.in_state(state):
                self.fates[custom_id] = Fate(lost=self.fates[custom_id].lost)
