"""One bar for the requests of a workload, divided by state. Every state has its own glyph, so that colour is not needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.measure import Measurement
from rich.segment import Segment
from rich.text import Text

from batchkit.engine import situation

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from batchkit.models import RequestCountsByState

_MIN_WIDTH = 10
_MAX_WIDTH = 72
_GAP = "   "


@dataclass(frozen=True, slots=True)
class Appearance:
    """How a state of requests is drawn."""

    label: str
    style: str
    glyph: str
    ascii_glyph: str

    def glyph_for(self, options: ConsoleOptions) -> str:
        """Return the glyph that the terminal can show."""
        return self.ascii_glyph if options.ascii_only else self.glyph


SUCCEEDED = Appearance("succeeded", "green", "█", "#")
FAILED = Appearance("failed", "red", "▚", "x")
CANCELLED = Appearance("cancelled", "magenta", "▞", "/")
ANSWERED = Appearance("answered, not downloaded", "cyan", "▓", "+")
IN_FLIGHT = Appearance("in flight", "cyan", "▒", "=")
UNANSWERED = Appearance("unanswered in ended batches", "bright_black", "▪", ":")
NOT_SENT = Appearance("not sent", "bright_black", "·", "-")
FOLLOWING = Appearance(situation.FOLLOWING, "bright_black", "▫", "~")
PENDING = Appearance("to send again", "bright_black", "░", ".")


@dataclass(frozen=True, slots=True)
class Shares:
    """The true states of the requests that the store counts as in flight.

    ``not_fetched`` ones are answered according to the provider; ``unanswered`` ones are in batches that have ended; ``not_sent``
    ones were never sent; ``send_again`` ones were sent once and are in no batch.
    """

    not_fetched: int = 0
    unanswered: int = 0
    not_sent: int = 0
    send_again: int = 0

    @property
    def total(self) -> int:
        """Return their sum: the rest is really in flight."""
        return self.not_fetched + self.unanswered + self.not_sent + self.send_again


def by_state(counts: RequestCountsByState, shares: Shares) -> list[tuple[Appearance, int]]:
    """Return all states in the order in which they are drawn: finished ones first."""
    return [
        (SUCCEEDED, counts.succeeded),
        (FAILED, counts.failed),
        (CANCELLED, counts.cancelled),
        (ANSWERED, shares.not_fetched),
        (IN_FLIGHT, counts.in_flight - counts.following - shares.total),
        (UNANSWERED, shares.unanswered),
        (NOT_SENT, shares.not_sent),
        (PENDING, counts.pending + shares.send_again),
        (FOLLOWING, counts.following),
    ]


_NO_SHARES = Shares()


def share_cells(counts: list[int], width: int) -> list[int]:
    """Divide ``width`` cells by the counts; each count above zero gets a cell, so that one failure in a million is visible."""
    total = sum(counts)
    if total <= 0 or width <= 0:
        return [0] * len(counts)
    exact = [count * width / total for count in counts]
    cells = [max(int(share), 1 if count else 0) for share, count in zip(exact, counts, strict=True)]
    # Cells left by rounding go to the counts that lost most; missing cells are taken from those that gained most.
    while (left := width - sum(cells)) != 0:
        shortfall = [share - given for share, given in zip(exact, cells, strict=True)]
        if left > 0:
            cells[shortfall.index(max(shortfall))] += 1
            continue
        spendable = [gap if given > 1 else float("inf") for gap, given in zip(shortfall, cells, strict=True)]
        if min(spendable) == float("inf"):
            break
        cells[spendable.index(min(spendable))] -= 1
    return cells


class StateBar:
    """A rich renderable that is as wide as it may be."""

    def __init__(
        self, counts: RequestCountsByState, shares: Shares = _NO_SHARES, *, max_width: int = _MAX_WIDTH
    ) -> None:
        self._parts = by_state(counts, shares)
        self._max_width = max_width

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the bar; rich calls this."""
        width = min(options.max_width, self._max_width)
        cells = share_cells([count for _, count in self._parts], width)
        for (appearance, _), count in zip(self._parts, cells, strict=True):
            if count:
                yield Segment(appearance.glyph_for(options) * count, console.get_style(appearance.style))
        yield Segment.line()

    def __rich_measure__(self, _console: Console, options: ConsoleOptions) -> Measurement:
        """Return the minimum and maximum width of the bar; rich calls this."""
        return Measurement(min(_MIN_WIDTH, options.max_width), min(options.max_width, self._max_width))


class StateLegend:
    """The counts behind a ``StateBar``, each with its glyph; states without requests are left out."""

    def __init__(self, counts: RequestCountsByState, shares: Shares = _NO_SHARES) -> None:
        self._parts = by_state(counts, shares)

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Write the counts, broken between them only; rich calls this."""
        line = Text()
        for appearance, count in [part for part in self._parts if part[1]] or self._parts[:1]:
            entry = Text.assemble((appearance.glyph_for(options), appearance.style), f" {count:,} {appearance.label}")
            if line and line.cell_len + len(_GAP) + entry.cell_len > options.max_width:
                yield line
                line = Text()
            line = Text(_GAP if line else "").join([line, entry])
        yield line
