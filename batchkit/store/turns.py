"""Turns: threads go in one after the other, in the order in which they came."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(eq=False, slots=True)
class _Ticket:
    thread: int = field(default_factory=threading.get_ident)
    called: threading.Event = field(default_factory=threading.Event)


class Turns:
    """A lock that nobody is passed over for.

    SQLite lets whoever asks at the right moment be the next writer, and its waiters only ask every tenth of a second: behind a
    thread that writes one long transaction after the other they would wait until their time-out. An ordinary lock is no
    better, as whoever gives it back may take it again before the others have woken up.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: The first one has the turn, the others wait.
        self._line: list[_Ticket] = []

    @contextmanager
    def turn(self, longest_wait_seconds: float) -> Iterator[None]:
        """Go in after everybody who came before, but wait no longer than that; those who come later wait. Not to be nested."""
        ticket = _Ticket()
        try:
            if not self._stand_in_line(ticket):
                ticket.called.wait(longest_wait_seconds)
            yield
        finally:
            self._leave(ticket)

    def _stand_in_line(self, ticket: _Ticket) -> bool:
        """Come last; says whether that is first. What a Ctrl-C kept this thread from giving back, it does not wait for."""
        with self._lock:
            self._line = [other for other in self._line if other.thread != ticket.thread] + [ticket]
            self._line[0].called.set()
            return self._line[0] is ticket

    def _leave(self, ticket: _Ticket) -> None:
        with self._lock:
            self._line = [other for other in self._line if other is not ticket]
            if self._line:
                self._line[0].called.set()
