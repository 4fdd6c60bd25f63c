"""The table that a run of the benchmarks prints, and the table of growth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.benchmarks.timing import MEGABYTE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.benchmarks.timing import Figure

    Earlier = Mapping[tuple[str, str], Mapping[str, Any]]

_HEAD = (
    "| Part | Database | Floor | Floor s | Ours s | Ratio (spread) | Goal | Rows/s | MB/s | CPU s | Peak MB (grown) |"
)
_RULE = "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|"
_GROWTH_GOAL = 1.1
#: With fewer lines the fixed cost of a run hides the cost per line.
_FEWEST_JUDGED_LINES = 10_000


def as_table(figures: Sequence[Figure], earlier: Earlier) -> str:
    """Return the figures as a Markdown table, and their notes below it."""
    head, rule = (f"{_HEAD} Before |", f"{_RULE}---:|") if earlier else (_HEAD, _RULE)
    notes = [f"- {figure.part}, {figure.database}: {figure.note}" for figure in figures if figure.note]
    table = [head, rule, *(as_row(figure, earlier) for figure in figures)]
    return "\n".join([*table, *([""] if notes else []), *notes])


def as_row(figure: Figure, earlier: Earlier) -> str:
    """Return one figure as a row of the table."""
    cells = [figure.part, figure.database, figure.floor_name or "-"]
    if figure.failure:
        cells += ["-", "-", f"not measured: {figure.failure}", *["-"] * 5]
    else:
        cells += [
            "-" if figure.floor_seconds is None else _seconds(figure.floor_seconds),
            _seconds(figure.seconds),
            _value(figure),
            _goal(figure),
            "-" if figure.floor_seconds is None else f"{figure.lines / figure.seconds:,.0f}",
            f"{figure.size_bytes / MEGABYTE / figure.seconds:,.0f}" if figure.size_bytes else "-",
            _seconds(figure.cpu_seconds),
            f"{figure.peak_bytes / MEGABYTE:.0f} (+{figure.grown_bytes / MEGABYTE:.0f})",
        ]
    if earlier:
        cells.append(_before(figure, earlier.get((figure.part, figure.database))))
    return f"| {' | '.join(cells)} |"


def growth_table(steps: Sequence[Sequence[Figure]]) -> str:
    """Return a table of the time per line, in units of the floor, for each number of lines."""
    rows = ["| Part | Database | Lines | Floor us/line | Ours us/line | Ratio | To the step before | Goal |"]
    rows.append("|---|---|---:|---:|---:|---:|---:|---:|")
    for figures in zip(*steps, strict=True):
        before: Figure | None = None
        for figure in figures:
            factor = figure.value / before.value if before is not None and before.value else None
            cells = [
                figure.part,
                figure.database,
                f"{figure.lines:,}",
                f"{(figure.floor_seconds or 0) / figure.lines * 1e6:.2f}",
                f"{figure.seconds / figure.lines * 1e6:.2f}",
                f"{figure.value:.2f}",
                "-" if factor is None else f"{factor:.2f}",
                "-" if factor is None else _judged(_GROWTH_GOAL, is_met=factor <= _GROWTH_GOAL),
            ]
            rows.append(f"| {' | '.join(cells)} |")
            before = figure
    return "\n".join(rows)


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds >= 1 else f"{seconds:.3f}"


def _number(figure: Figure, value: float) -> str:
    match figure.unit:
        case "x":
            return f"{value:.2f}"
        case "s":
            return f"{value:.3f} s"
        case "MB":
            return f"{value:.0f} MB"


def _value(figure: Figure) -> str:
    spread = f"{_number(figure, figure.lowest).partition(' ')[0]}-{_number(figure, figure.highest).partition(' ')[0]}"
    return f"{_number(figure, figure.value)} ({spread})"


def _goal(figure: Figure) -> str:
    is_met = figure.goal is None or figure.value <= figure.goal or figure.lines < _FEWEST_JUDGED_LINES
    return "-" if figure.goal is None else _judged(figure.goal, is_met=is_met)


def _judged(goal: float, *, is_met: bool) -> str:
    return f"{goal:g}" if is_met else f"{goal:g}, missed"


def _before(figure: Figure, before: Mapping[str, Any] | None) -> str:
    """Return the earlier value for as many lines, and whether the change exceeds both spreads."""
    if before is None or figure.failure or before["failure"] or before["lines"] != figure.lines:
        return "-"
    was = _number(figure, before["value"])
    if figure.highest < before["lowest"]:
        return f"{was}, better"
    return f"{was}, worse" if figure.lowest > before["highest"] else f"{was}, same"
