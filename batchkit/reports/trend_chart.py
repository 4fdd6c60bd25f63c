"""The chart of a metric over several runs: means with their intervals, and a mark whose shape says what is known of the metric."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.reports.charts import Domain

_HEIGHT = 132
_TOP, _BOTTOM = 10, 10
#: The scale's numbers stand left of the runs, in a ninth of the width.
_LEFT = 0.11
#: Shapes around 0, 0: colours alone are not enough for everybody, or on paper.
_SHAPES = {"alarm": ("bad", "M-5-4H5L0 5Z"), "incomparable": ("open", "M0-5L5 0L0 5L-5 0Z")}
_DOT = ("main", "M-4 0A4 4 0 1 0 4 0A4 4 0 1 0-4 0Z")


class TrendPoint(NamedTuple):
    """A run: its ``place`` in the series, the mean with its interval, and a ``label`` for those who point at it.

    ``state`` is ``alarm`` if one of this metric went off, ``incomparable`` if the run was compared with none.

    ``is_changed`` says that the suite is another one than in the run before.
    """

    place: int
    low: float
    middle: float
    high: float
    state: str
    label: str
    is_changed: bool = False


def trend(domain: Domain, points: Sequence[TrendPoint], *, places: int, description: str) -> Markup:
    """Draw the points from left to right on a series of ``places`` runs."""

    def across(place: int) -> str:
        return f"{(_LEFT + (1 - _LEFT) * (place + 0.5) / places) * 100:.2f}%"

    def down(value: float) -> str:
        return f"{_TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - domain.place(value)):.1f}"

    pieces = []
    for value in (domain.low, (domain.low + domain.high) / 2, domain.high):
        y = down(value)
        pieces.append(Markup('<line x1="{}%" x2="100%" y1="{}" y2="{}" class="grid"/>').format(_LEFT * 100, y, y))
        pieces.append(Markup('<text x="0" y="{}" dy="4" class="tick">{}</text>').format(y, f"{value:.3g}"))
    for point in points:
        if point.is_changed:
            x = f"{(_LEFT + (1 - _LEFT) * point.place / places) * 100:.2f}%"
            pieces.append(Markup('<line x1="{}" x2="{}" y1="0" y2="{}" class="reference"/>').format(x, x, _HEIGHT))
    for before, after in pairwise(points):
        pieces.append(
            Markup('<line x1="{}" x2="{}" y1="{}" y2="{}" class="path"/>').format(
                across(before.place), across(after.place), down(before.middle), down(after.middle)
            )
        )
    for point in points:
        x = across(point.place)
        tone, shape = _SHAPES.get(point.state, _DOT)
        pieces.append(
            Markup('<line x1="{}" x2="{}" y1="{}" y2="{}" class="interval"/>').format(
                x, x, down(point.low), down(point.high)
            )
        )
        pieces.append(
            Markup('<svg x="{}" y="{}"><path d="{}" class="fill-{}"><title>{}</title></path></svg>').format(
                x, down(point.middle), shape, tone, point.label
            )
        )
    return Markup('<svg class="trend" width="100%" height="{}" role="img" aria-label="{}">{}</svg>').format(
        _HEIGHT, description, Markup("").join(pieces)
    )
