"""The bar that shows requests by state."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from batchkit.cli.render.bar import Shares, StateBar, StateLegend, share_cells
from batchkit.models import RequestCountsByState

COUNTS = RequestCountsByState(total=100, pending=20, in_flight=40, succeeded=35, failed=4, cancelled=1)


def drawn(renderable, width=50, encoding="utf-8"):
    """Render something as plain text at a width."""
    console = Console(width=width, record=True, file=open("/dev/null", "w", encoding=encoding))  # noqa: SIM115, PTH123 - closed below
    try:
        console.print(renderable, end="")
        return console.export_text()
    finally:
        console.file.close()


@given(st.lists(st.integers(0, 10_000_000), min_size=1, max_size=6), st.integers(0, 200))
def test_every_existing_state_has_a_cell_and_the_bar_is_full(counts, width):
    """One failure in ten million is visible, and the cells add up to the width when there is room for all states."""
    cells = share_cells(counts, width)
    assert all(cell >= 0 for cell in cells)
    present = sum(1 for count in counts if count)
    if present and width >= present:
        assert sum(cells) == width
        assert all((cell > 0) == (count > 0) for cell, count in zip(cells, counts, strict=True))
    if not present or not width:
        assert sum(cells) == 0


def test_cells_are_proportional():
    """Half of the requests fill half of the bar."""
    assert share_cells([50, 25, 25], 8) == [4, 2, 2]


def test_each_state_has_its_own_glyph():
    """The states can be distinguished without colour."""
    bar = drawn(StateBar(COUNTS, Shares(10, 5, 5, 5))).rstrip("\n")
    assert len(bar) == 50
    assert len(set(bar)) == 8


def test_a_terminal_without_unicode_gets_ascii():
    """The bar and its legend work in an ASCII locale."""
    text = drawn(StateBar(COUNTS), encoding="ascii") + drawn(StateLegend(COUNTS), encoding="ascii")
    assert text.isascii()
    assert "# 35 succeeded" in text


@pytest.mark.parametrize("width", [20, 30, 40, 80])
def test_the_legend_breaks_between_its_entries_only(width):
    """A count and its state stay on one line where they fit."""
    lines = drawn(StateLegend(COUNTS, Shares(not_fetched=10)), width).splitlines()
    assert all(len(line) <= width for line in lines)
    for entry in ("35 succeeded", "4 failed", "1 cancelled", "30 in flight", "20 to send again"):
        assert sum(entry in line for line in lines) == 1


def test_an_empty_workload_has_a_legend_too():
    """An empty workload shows zero succeeded."""
    assert "0 succeeded" in drawn(StateLegend(RequestCountsByState()))
