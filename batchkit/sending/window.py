"""The window gate: how many requests may be in flight, found by trying (additive increase, multiplicative decrease).

Sources: slow start, and one cut for each round trip, are TCP's (RFC 5681, RFC 6582); growth only while the window is used is RFC 7661;
the quick return to just below where it was refused is that of RFC 9438 (CUBIC): without it a window that is cut to 0.7 and
grows by 5 % uses 85 % of the capacity on average.
"""

from __future__ import annotations

_CUT = 0.7
_GROWTH = 0.05
_USED_SHARE = 0.8
#: Just below the last refusal; there the window rests for so many clean windows before it grows further.
_RETURN_SHARE = 0.98
_RESTS = 24


class Window:
    """The number of requests that may be in flight; ``round`` counts cuts, and belongs into the ticket of each admission.

    A round ends with a cut: refusals and answers of requests that were admitted before it change nothing, because they tell of the
    old window.
    """

    def __init__(self, *, start: int = 8, floor: int = 1, most: int = 1_000) -> None:
        self.round = 0
        self._floor = min(floor, most)
        self._most = most
        self._size = float(min(max(start, self._floor), most))
        self._is_slow_start = True
        self._ceiling: float | None = None
        self._clean = 0
        self._rests = 0
        self._peak = 0

    @property
    def size(self) -> int:
        """Return how many requests may be in flight."""
        return round(self._size)

    @property
    def is_at_floor(self) -> bool:
        """Return whether it cannot become smaller."""
        return self.size <= self._floor

    def admitted(self, in_flight: int) -> None:
        """Note that a request was admitted; ``in_flight`` counts it."""
        self._peak = max(self._peak, in_flight)

    def succeeded(self, of_round: int, in_flight: int) -> None:
        """Note an answer. After as many as the window has it grows, if at least four fifths of it were used."""
        if of_round != self.round:
            return
        self._clean += 1
        if self._clean < self.size:
            return
        is_used = self._peak >= _USED_SHARE * self.size
        self._clean, self._peak = 0, in_flight
        if is_used:
            self._grow()

    def refused(self, of_round: int, in_flight: int) -> bool:
        """Note a sign of congestion, and cut the window once a round; return whether it was cut. ``in_flight`` are the others."""
        if of_round != self.round:
            if self._ceiling is not None:
                # The rest of the same refusal: what is in flight still is what the server has taken.
                self._ceiling = max(self._size, min(self._ceiling, in_flight))
            return False
        self._ceiling = self._size
        self._size = max(float(self._floor), self._size * _CUT)
        self._is_slow_start = False
        self.next_round()
        return True

    def next_round(self) -> None:
        """Begin a round: what was admitted before says nothing of the window from now on."""
        self.round += 1
        self._clean = self._peak = self._rests = 0

    def restart(self) -> None:
        """Begin slow start again from the current size: an outage is over, which says nothing of the capacity."""
        self._is_slow_start = True
        self._ceiling = None
        self.next_round()

    def failed(self) -> None:
        """Note an error that is no sign of congestion: it takes back a quarter of a clean window, so that many of them stop the growth."""
        self._clean = max(0, self._clean - max(1, self.size // 4))

    def _grow(self) -> None:
        if self._is_slow_start:
            self._size = min(self._most, self._size * 2)
            return
        if self._ceiling is not None:
            if self._size < _RETURN_SHARE * self._ceiling:
                self._size = _RETURN_SHARE * self._ceiling
                return
            if self._rests < _RESTS:
                self._rests += 1
                return
            self._ceiling = None
        self._size = min(float(self._most), self._size + max(1.0, _GROWTH * self._size))
