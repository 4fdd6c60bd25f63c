"""The table that a run of the benchmarks prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.benchmarks.clock import Figure

    Earlier = Mapping[tuple[str, str], Mapping[str, float]]

_MEGABYTE = 1_000_000


def as_table(figures: Sequence[Figure], earlier: Earlier) -> str:
    """Write the figures as a Markdown table."""
    head = "| Part | Floor | s / floor s | Ratio (spread) | Goal | Lines/s | Peak memory |"
    rule = "|---|---|---:|---:|---:|---:|---:|"
    if earlier:
        head, rule = f"{head} Before |", f"{rule}---:|"
    return "\n".join([head, rule, *(as_row(figure, earlier) for figure in figures)])


def as_row(figure: Figure, earlier: Earlier) -> str:
    """Write one figure as a line of the table."""
    cells = [
        f"{figure.part}, {figure.database}",
        figure.floor_name,
        f"{figure.seconds:.2f} / {figure.floor_seconds:.2f}",
        f"{figure.ratio:.2f} ({figure.lowest:.2f}-{figure.highest:.2f})",
        f"{figure.goal:g}",
        f"{figure.lines / figure.seconds:,.0f}",
        f"{figure.peak_bytes / _MEGABYTE:.0f} MB",
    ]
    if earlier:
        before = earlier.get((figure.part, figure.database))
        cells.append("-" if before is None else f"{before['ratio']:.2f}")
    return f"| {' | '.join(cells)} |"
