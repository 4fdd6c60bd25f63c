"""A server that works on so many calls at once: the state of one ``limited-capacity`` fault."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.emulator.faults.replies import LimitedCapacity

_Call = TypeVar("_Call")


class Room(Generic[_Call]):
    """Holds the calls that are worked on and those that wait, in the order in which they came.

    ``elapsed`` returns the provider seconds since the scenario was set; ``finish`` gets each call when its work is done;
    ``is_wanted`` is whether somebody still waits for a call; otherwise the queue gives it to ``abandon``, unexecuted.
    """

    def __init__(
        self,
        capacity: LimitedCapacity,
        elapsed: Callable[[], float],
        finish: Callable[[_Call], None],
        is_wanted: Callable[[_Call], bool],
        abandon: Callable[[_Call], None],
    ) -> None:
        self._capacity = capacity
        self._elapsed = elapsed
        self._finish = finish
        self._is_wanted = is_wanted
        self._abandon = abandon
        self._working = 0
        self._waiting: deque[_Call] = deque()

    def enter(self, call: _Call) -> bool:
        """Work on a call now or later. Returns False if it is refused because all places are taken."""
        slots = self._capacity.slots(self._elapsed())
        if self._working < slots or self._capacity.above == "slow":
            self._work(call, max(1.0, (self._working + 1) / slots))
            return True
        if self._capacity.above == "refuse":
            return False
        self._waiting.append(call)
        return True

    def _work(self, call: _Call, slowed: float) -> None:
        self._working += 1
        asyncio.get_running_loop().call_later(self._capacity.seconds * slowed, self._end, call)

    def _end(self, call: _Call) -> None:
        self._working -= 1
        self._finish(call)
        slots = self._capacity.slots(self._elapsed())
        while self._waiting and self._working < slots:
            following = self._waiting.popleft()
            if self._is_wanted(following):
                self._work(following, 1.0)
            else:
                self._abandon(following)
