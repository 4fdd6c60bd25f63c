"""What one attempt may use, and what it did use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batchkit.provider.rate_limits import LimitDimension

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchkit.provider.rate_limits import LimitPeriod

    #: What a limit counts, over which time.
    MeterKey = tuple[LimitDimension, LimitPeriod]


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """Numbers of what limits count; one request unless it says otherwise."""

    requests: float = 1.0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    audio_seconds: float = 0.0

    @property
    def tokens(self) -> float:
        """Return all tokens, of the input and of the output."""
        return self.input_tokens + self.output_tokens

    def of(self, dimension: LimitDimension) -> float:
        """Return how much of a dimension these are."""
        match dimension:
            case LimitDimension.REQUESTS:
                return self.requests
            case LimitDimension.TOKENS:
                return self.tokens
            case LimitDimension.INPUT_TOKENS:
                return self.input_tokens
            case LimitDimension.OUTPUT_TOKENS:
                return self.output_tokens
            case LimitDimension.AUDIO_SECONDS:
                return self.audio_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """The admission of one attempt, for ``Gates`` to find out what its end means.

    ``amounts`` were charged. ``round`` is that of the window, ``trip`` that of the breaker. ``totals`` has what each meter had admitted
    by then.
    """

    amounts: Amounts
    round: int
    trip: int
    is_probe: bool = False
    totals: Mapping[MeterKey, float] = field(default_factory=dict)


@dataclass(slots=True)
class Reservation:
    """What one attempt may use at most: its estimated input, the most output that it asks for. ``Gates`` sets the ticket."""

    amounts: Amounts
    ticket: Ticket | None = None
