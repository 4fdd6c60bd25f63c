"""The table of all workloads, a line each. Names are copied from it, so the bars give way to them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from batchkit import formatting
from batchkit.cli.render.bar import StateBar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from batchkit.cli.render.bar import Shares
    from batchkit.engine.progress import Progress, WorkloadState

_NAMES = "workload"
_SHORTEST_BAR = 6
_LONGEST_BAR = 24
#: What the box draws between two columns.
_GAP = 3
_NO_VERDICTS: Final[Mapping[str, Text]] = MappingProxyType({})


class Overview:
    """A rich renderable of the table; ``style_of`` and ``shares_of`` give the style of a state and the shares of a bar.

    ``verdicts`` are those of evaluation runs, by the names of their workloads; without any there is no column for them.
    """

    def __init__(
        self,
        snapshots: Sequence[Progress],
        *,
        style_of: Callable[[WorkloadState], str],
        shares_of: Callable[[Progress], Shares],
        verdicts: Mapping[str, Text] = _NO_VERDICTS,
    ) -> None:
        self._snapshots = snapshots
        self._shares_of = shares_of
        self._names = [Text(formatting.printable(shown.workload.name)) for shown in snapshots]
        self._states = [Text(shown.state.label, style=style_of(shown.state)) for shown in snapshots]
        self._verdicts = [verdicts.get(shown.workload.name, Text()) for shown in snapshots] if verdicts else []
        self._answered = [Text(formatting.percent(shown.answered, shown.counts.total)) for shown in snapshots]
        self._fetched = [Text(formatting.percent(shown.fetched, shown.counts.total)) for shown in snapshots]
        lost = [shown.counts.failed + shown.counts.cancelled for shown in snapshots]
        self._lost = [Text(formatting.short_count(count), style="red" if count else "dim") for count in lost]
        self._totals = [Text(formatting.short_count(shown.counts.total)) for shown in snapshots]
        self._lost_title = "failed or\ncancelled" if any(shown.counts.cancelled for shown in snapshots) else "failed"

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the table; rich calls this."""
        figures = {
            "state": self._states,
            **({"verdict": self._verdicts} if self._verdicts else {}),
            "answered": self._answered,
            "downloaded": self._fetched,
            self._lost_title: self._lost,
            "of": self._totals,
        }
        room = (
            options.max_width
            - sum(_width(title, cells) for title, cells in figures.items())
            - _GAP * (len(figures) + 1)
        )
        names = min(_width(_NAMES, self._names), max(room - _SHORTEST_BAR, len(_NAMES)))
        bar = min(max(room - names, _SHORTEST_BAR), _LONGEST_BAR)
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        table.add_column(_NAMES, overflow="fold", width=names)
        table.add_column("state", no_wrap=True)
        if self._verdicts:
            table.add_column("verdict", no_wrap=True)
        table.add_column("answered", justify="right", no_wrap=True)
        table.add_column("downloaded", justify="right", no_wrap=True)
        table.add_column("", width=bar)
        table.add_column(self._lost_title, justify="right", no_wrap=True)
        table.add_column("of", justify="right", no_wrap=True)
        bars = [StateBar(shown.counts, self._shares_of(shown), max_width=bar) for shown in self._snapshots]
        verdicts = [self._verdicts] if self._verdicts else []
        for row in zip(
            self._names,
            self._states,
            *verdicts,
            self._answered,
            self._fetched,
            bars,
            self._lost,
            self._totals,
            strict=True,
        ):
            table.add_row(*row)
        yield table


def _width(title: str, cells: Sequence[Text]) -> int:
    return max(*(len(line) for line in title.split("\n")), *(cell.cell_len for cell in cells), 0)
