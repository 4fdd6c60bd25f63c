"""Charts as small SVG images: pure functions from numbers to markup.

A chart fills the width of its container and its text is never scaled: horizontal positions are percentages, heights pixels.
Colours are classes of the page's style sheet. Charts beside their own numbers are hidden from screen readers; the others
have a sentence that describes them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

from batchkit import formatting

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
TIME_STEPS = (
    *(1, 2, 5, 10, 15, 30),
    *(_MINUTE * n for n in (1, 2, 5, 10, 15, 30)),
    *(_HOUR * n for n in (1, 2, 3, 6, 12)),
    *(_DAY * n for n in (1, 2, 7, 14, 28, 91, 364)),
)
_NICE = (1.0, 2.0, 5.0, 10.0)
#: Rounding errors below this do not extend a scale: 0.1 * 3 is not exactly 0.3.
_ROUNDING = 1e-9
_PLOT_HEIGHT = 168
_LABEL_SPACE = 22
_TOP_SPACE = 16


class Part(NamedTuple):
    """A piece of a bar; ``tone`` is a class of the style sheet."""

    tone: str
    amount: float


class Tick(NamedTuple):
    """A place on an axis and its label."""

    value: float
    label: str


@dataclass(frozen=True, slots=True)
class Domain:
    """The two ends of an axis."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """Return the position of a value, from 0 to 1; values outside are on the edge."""
        width = self.high - self.low
        return min(max((value - self.low) / width, 0.0), 1.0) if width > 0 else 0.0


def bar(parts: Iterable[Part], whole: float, *, height: int = 10) -> Markup:
    """Draw the parts of a whole one after another."""
    pieces, start = [], 0.0
    for tone, amount in parts:
        if whole > 0 and amount > 0:
            width = amount / whole
            pieces.append(_rect(start, width, 0, height, tone))
            start += width
    return _svg(pieces, height, "bar")


def span(domain: Domain, pieces: Sequence[tuple[str, float, float]], *, height: int = 12) -> Markup:
    """Draw pieces (tone, from, to) on a common axis; each is long enough to be visible."""
    drawn = [
        _rect(domain.place(start), max(domain.place(end) - domain.place(start), 0.003), 0, height, tone)
        for tone, start, end in pieces
    ]
    return _svg(drawn, height, "span")


def whisker(domain: Domain, low: float, middle: float, high: float, *, reference: float | None = None) -> Markup:
    """Draw an estimate as a dot with its interval, and a line at ``reference``."""
    height, centre = 18, 9
    pieces = [_line(0, 1, centre, centre, "grid")]
    if reference is not None:
        pieces.append(_line(domain.place(reference), domain.place(reference), 0, height, "reference"))
    pieces += [
        _line(domain.place(low), domain.place(high), centre, centre, "whisker"),
        *(_line(domain.place(end), domain.place(end), centre - 4, centre + 4, "whisker") for end in (low, high)),
        Markup('<circle cx="{}" cy="{}" r="4" class="dot"/>').format(_percent(domain.place(middle)), centre),
    ]
    return _svg(pieces, height, "estimate")


def columns(bins: Sequence[tuple[str, int]], *, description: str, every: int = 1) -> Markup:
    """Draw a histogram; every ``every``-th column is labelled below."""
    most = max((count for _, count in bins), default=0)
    plot = _PLOT_HEIGHT - _LABEL_SPACE - _TOP_SPACE
    width = 1 / max(len(bins), 1)
    pieces = []
    for number, (label, count) in enumerate(bins):
        height = max(plot * count / most, 1.5) if count else 0
        left, top = number * width, _TOP_SPACE + plot - height
        pieces.append(_rect(left + width * 0.08, width * 0.84, top, height, "fill-main"))
        if count:
            pieces.append(_text(left + width / 2, top - 4, formatting.short_count(count), "middle", "value"))
        if number % every == 0:
            pieces.append(_text(left + width / 2, _PLOT_HEIGHT - 6, label, "middle", "tick"))
    pieces.append(_line(0, 1, _TOP_SPACE + plot, _TOP_SPACE + plot, "axis"))
    return _svg(pieces, _PLOT_HEIGHT, "columns", description=description)


def staircase(
    domain: Domain, lines: Sequence[tuple[str, Sequence[tuple[float, float]]]], most: float, *, description: str
) -> Markup:
    """Draw counts that only grow over time: each line has a tone and its (time, count), in order of time.

    The area below the first line is filled. ``most`` is the upper end of the scale.
    """
    plot = _PLOT_HEIGHT - _LABEL_SPACE - _TOP_SPACE
    base = _TOP_SPACE + plot
    pieces = []
    for tick in number_ticks(most):
        y = base - plot * tick.value / most
        pieces += [_line(0, 1, y, y, "axis" if tick.value == 0 else "grid")]
        if tick.value:
            pieces.append(_text(0, y - 4, tick.label, "start", "tick"))
    shapes = []
    for number, (tone, steps) in enumerate(lines):
        path = _stairs([(domain.place(at) * 1000, plot * (1 - count / most)) for at, count in steps], plot)
        if number == 0:
            shapes.append(Markup('<path d="{}V{}H0Z" class="area {}"/>').format(path, plot, tone))
        shapes.append(Markup('<path d="{}" class="line {}"/>').format(path, tone))
    pieces.append(
        Markup(
            '<svg x="0" y="{}" width="100%" height="{}" viewBox="0 0 1000 {}" preserveAspectRatio="none">{}</svg>'
        ).format(_TOP_SPACE, plot, plot, Markup("").join(shapes))
    )
    pieces += time_labels(domain, y=_PLOT_HEIGHT - 6)
    return _svg(pieces, _PLOT_HEIGHT, "plot", description=description)


def time_axis(domain: Domain) -> Markup:
    """Draw the times below rows of spans."""
    return _svg(time_labels(domain, y=14), 18, "axis-row")


def number_axis(domain: Domain, label: str = "{:g}") -> Markup:
    """Draw the scale below rows of whiskers: its ends and its middle."""
    middle = (domain.low + domain.high) / 2
    places = ((domain.low, "start"), (middle, "middle"), (domain.high, "end"))
    pieces = [
        _text(domain.place(value), 14, label.format(value) if value else "0", anchor, "tick")
        for value, anchor in places
    ]
    return _svg(pieces, 18, "axis-row")


def round_domain(values: Sequence[float]) -> Domain:
    """Return a scale with round ends that includes all values."""
    low, high = min(values), max(values)
    step = 10 ** math.floor(math.log10(high - low)) if high > low else 0.1
    first, last = math.floor(low / step + _ROUNDING), math.ceil(high / step - _ROUNDING)
    return Domain(first * step, max(last, first + 1) * step)


def time_labels(domain: Domain, *, y: float) -> list[Markup]:
    """Return the times of an axis; a narrow screen hides every second one."""
    return [
        _text(domain.place(value), y, label, _anchor(domain.place(value)), "tick minor" if number % 2 else "tick")
        for number, (value, label) in enumerate(time_ticks(domain))
    ]


def time_ticks(domain: Domain, *, about: int = 6) -> list[Tick]:
    """Return round times (UTC), about ``about`` of them."""
    width = domain.high - domain.low
    step = next((step for step in TIME_STEPS if width / step <= about), TIME_STEPS[-1])
    if width <= 0:
        return [Tick(domain.low, _time_label(domain.low, 1, 1))]
    first = math.ceil(domain.low / step) * step
    values = [first + number * step for number in range(int((domain.high - first) / step) + 1)]
    return [Tick(value, _time_label(value, step, width)) for value in values if value <= domain.high]


def number_ticks(most: float, *, about: int = 4) -> list[Tick]:
    """Return round counts from 0 to ``most``."""
    step = nice_step(most / about)
    values = [number * step for number in range(int(most / step) + 1)]
    return [Tick(value, formatting.short_count(round(value)).replace(".0", "")) for value in values]


def nice_step(least: float) -> float:
    """Return the smallest round number that is not below ``least``, and at least 1."""
    if least <= 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * nice for nice in _NICE if power * nice >= least * (1 - 1e-9))


def _time_label(at: float, step: float, width: float) -> str:
    moment = datetime.fromtimestamp(at, UTC)
    if step >= _DAY:
        return f"{moment.day} {moment:%b}"
    if step < _MINUTE:
        return f"{moment:%H:%M:%S}"
    return f"{moment:%H:%M}" if width < _DAY else f"{moment.day} {moment:%b %H:%M}"


def _anchor(place: float) -> str:
    if place < 0.06:  # noqa: PLR2004 - near an edge half of the label would be hidden
        return "start"
    return "end" if place > 0.94 else "middle"  # noqa: PLR2004 - as above


def _stairs(points: Sequence[tuple[float, float]], bottom: float) -> str:
    path = [f"M0 {bottom:g}"]
    for x, y in points:
        path.append(f"H{x:.1f}V{y:.1f}")
    path.append("H1000")
    return "".join(path)


def _svg(pieces: Iterable[Markup], height: int, kind: str, *, description: str | None = None) -> Markup:
    role = (
        Markup('aria-hidden="true"')
        if description is None
        else Markup('role="img" aria-label="{}"').format(description)
    )
    return Markup('<svg class="{}" width="100%" height="{}" {}>{}</svg>').format(
        kind, height, role, Markup("").join(pieces)
    )


def _rect(x: float, width: float, y: float, height: float, tone: str) -> Markup:
    return Markup('<rect x="{}" width="{}" y="{}" height="{}" class="{}"/>').format(
        _percent(x), _percent(width), _number(y), _number(height), tone
    )


def _line(x1: float, x2: float, y1: float, y2: float, kind: str) -> Markup:
    return Markup('<line x1="{}" x2="{}" y1="{}" y2="{}" class="{}"/>').format(
        _percent(x1), _percent(x2), _number(y1), _number(y2), kind
    )


def _text(x: float, y: float, text: str, anchor: str, kind: str) -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}" class="{}">{}</text>').format(
        _percent(x), _number(y), anchor, kind, text
    )


def _percent(share: float) -> str:
    return f"{share * 100:.2f}".rstrip("0").rstrip(".") + "%"


def _number(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")
