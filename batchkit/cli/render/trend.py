"""A metric over the runs of a suite: a line for each run, with its mean and its interval on one scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from batchkit import formatting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

_LONGEST_NAME = 30
_SHORTEST_NAME = 8
_SHORTEST_CHART = 10
_LONGEST_CHART = 60
#: Space, mean, space, change, space, mark, space.
_FIGURES = 1 + 5 + 1 + 6 + 1 + 6 + 1
_FELL, _ROSE, _SAME, _ALARM = "fell", "rose", "", "ALARM"
_SURE = 0.05


@dataclass(frozen=True, slots=True)
class TrendPoint:
    """One run of a trend; ``difference`` is the change since the previous run, None if nothing was compared.

    ``is_sure`` is whether the change is larger than chance explains (p below 0.05).
    """

    run: str
    mean: float
    low: float
    high: float
    difference: float | None
    is_sure: bool
    is_alarm: bool

    @property
    def mark(self) -> str:
        """A word about the change."""
        if self.is_alarm:
            return _ALARM
        if self.difference is None or not self.is_sure:
            return _SAME
        return _FELL if self.difference < 0 else _ROSE


@dataclass(frozen=True, slots=True)
class _Glyphs:
    line: str
    left: str
    right: str
    mean: str


_DRAWN = _Glyphs("─", "├", "┤", "●")
_ASCII = _Glyphs("-", "|", "|", "o")
_STYLES = {_ALARM: "bold red", _FELL: "red", _ROSE: "green", _SAME: ""}


class Trend:
    """A rich renderable: the chart of one metric, as wide as the terminal allows."""

    def __init__(self, title: str, points: Sequence[TrendPoint]) -> None:
        self._title = title
        self._points = points

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the chart; rich calls this."""
        yield from self._lines(options.max_width, _ASCII if options.ascii_only else _DRAWN)

    def _lines(self, width: int, glyphs: _Glyphs) -> Iterator[Text]:
        names = [formatting.printable(point.run) for point in self._points]
        room = width - _FIGURES - _SHORTEST_CHART
        name_width = max(min(max(map(len, names)), _LONGEST_NAME, room), _SHORTEST_NAME)
        chart = min(width - name_width - _FIGURES, _LONGEST_CHART)
        low, high = _scale(self._points)
        yield Text(formatting.printable(self._title), style="bold", overflow="fold")
        if chart >= _SHORTEST_CHART:
            ends = f"{low:.2f}".ljust(chart - 4) + f"{high:.2f}"
            yield Text(" " * (name_width + _FIGURES) + ends[:chart], style="dim", no_wrap=True, overflow="crop")
        for name, point in zip(names, self._points, strict=True):
            change = "" if point.difference is None else f"{point.difference:+.3f}"
            line = Text(no_wrap=True, overflow="crop")
            line.append(_cut(name, name_width).ljust(name_width))
            line.append(f" {point.mean:5.3f} {change:>6} ")
            line.append(f"{point.mark:<6}", style=_STYLES[point.mark])
            if chart >= _SHORTEST_CHART:
                line.append(" ")
                line.append(_interval(point, low, high, chart, glyphs).rstrip(), style="cyan")
            yield line


def _scale(points: Sequence[TrendPoint]) -> tuple[float, float]:
    """Return the ends of the scale: tenths around all intervals."""
    low, high = min(point.low for point in points), max(point.high for point in points)
    first, last = _floor_tenth(low), -_floor_tenth(-high)
    return (first, last) if last > first else (first - 0.1, last + 0.1)


def _floor_tenth(value: float) -> float:
    return (value * 10 + 1e-9) // 1 / 10


def _interval(point: TrendPoint, low: float, high: float, width: int, glyphs: _Glyphs) -> str:
    def place(value: float) -> int:
        return min(max(round((value - low) / (high - low) * (width - 1)), 0), width - 1)

    cells = [" "] * width
    first, middle, last = place(point.low), place(point.mean), place(point.high)
    cells[first : last + 1] = [glyphs.line] * (last - first + 1)
    cells[first], cells[last] = glyphs.left, glyphs.right
    cells[middle] = glyphs.mean
    return "".join(cells)


def _cut(name: str, width: int) -> str:
    """Shorten a name in its middle: the number of the run is at its end."""
    if len(name) <= width:
        return name
    behind = (width - 1) // 2
    return f"{name[: width - 1 - behind]}~{name[len(name) - behind :]}"
