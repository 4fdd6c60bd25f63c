"""Two answers to one row, judged against each other in both orders: the better one, and how far the order decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from batchkit.stats.intervals import Interval, mean_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What a judge says about the two answers in the order that it saw.
Preferred = Literal["first", "second", "tie"]
_PREFERRED: Final[tuple[Preferred, ...]] = ("first", "second", "tie")
#: What each judgement is worth for the answer that was shown first.
WORTH: Final[dict[str, float]] = {"first": 1.0, "tie": 0.5, "second": 0.0}
WON, TIED, LOST = 1.0, 0.5, 0.0


class JudgedPair(NamedTuple):
    """The judgements of one pair: the one in which the answer to score was shown first, and the one in which it was shown second."""

    shown_first: Preferred
    shown_second: Preferred

    @property
    def score(self) -> float:
        """1 if both orders prefer the answer, 0 if both prefer the other one, and 0.5 for a tie or orders that contradict each other."""
        match (self.shown_first, self.shown_second):
            case ("first", "second"):
                return WON
            case ("second", "first"):
                return LOST
        return TIED

    @property
    def is_of_order(self) -> bool:
        """Whether the order decided: the judgement was another one in the other order."""
        return WORTH[self.shown_first] != 1 - WORTH[self.shown_second]

    @property
    def for_first(self) -> float:
        """The share of both judgements that prefer the first place; a tie is half a preference, so that 0.5 is none."""
        return (WORTH[self.shown_first] + WORTH[self.shown_second]) / 2


#: The nine possible ones by their words: millions of pairs are these nine objects.
JUDGED_PAIRS: Final = {(first, second): JudgedPair(first, second) for first in _PREFERRED for second in _PREFERRED}


class PositionBias(NamedTuple):
    """How far the order decided, with 95 % intervals.

    ``changed`` is the share of the pairs whose judgement changed with the order. ``for_first`` is the share of judgements for the first
    place: 0.5 is no bias, 1 a judge that always takes the first answer, 0 one that always takes the second.
    """

    pairs: int
    changed: Interval
    for_first: Interval


def position_bias(pairs: Sequence[JudgedPair], clusters: Sequence[int] | None = None) -> PositionBias | None:
    """Return how far the order decided; None without pairs. ``clusters`` numbers the pairs that belong together."""
    changed = mean_interval([float(pair.is_of_order) for pair in pairs], clusters)
    for_first = mean_interval([pair.for_first for pair in pairs], clusters)
    if changed is None or for_first is None:
        return None
    # Student's interval of a few pairs can be wider than the scale.
    low, high = max(for_first.low, 0.0), min(for_first.high, 1.0)
    return PositionBias(len(pairs), changed, for_first._replace(low=low, high=high))
