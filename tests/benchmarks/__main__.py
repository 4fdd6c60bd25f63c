"""``python -m tests.benchmarks``: measures every part beside its floor and prints the table that the README carries."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from batchkit.files import jsonl
from tests.benchmarks import machine, runs
from tests.benchmarks.clock import Figure, measure
from tests.benchmarks.file_server import serving
from tests.benchmarks.lab import Lab
from tests.benchmarks.parts import PARTS
from tests.benchmarks.table import as_row, as_table, growth_table
from tests.benchmarks.transfers import LARGEST_LINES, TRANSFERS, Line, largest_file
from tests.postgres import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.benchmarks.table import Earlier

_GROWING = ("split", "merge", "export to JSONL")


@dataclass(frozen=True)
class Order:
    """What is to be measured: the parts whose names hold one of ``only`` (all, when there are none), and how often."""

    folder: Path
    lines: int
    lines_per_shard: int | None
    rounds: int
    run_rounds: int
    only: tuple[str, ...]
    databases: tuple[str, ...]

    def wants(self, name: str) -> bool:
        """Whether a part is asked for."""
        return not self.only or any(word in name for word in self.only)


def main(
    lines: Annotated[int, typer.Option(min=1_000, help="How many requests; thousands.")] = 1_000_000,
    rounds: Annotated[int, typer.Option(min=1, help="How often each figure is taken; the median counts.")] = 3,
    run_rounds: Annotated[int, typer.Option(min=1, help="The same for what runs the whole command.")] = 1,
    only: Annotated[list[str] | None, typer.Option(help="Only parts whose name holds this; may be repeated.")] = None,
    database: Annotated[list[str] | None, typer.Option(help="sqlite or postgres (default both).")] = None,
    growth: Annotated[
        int, typer.Option(max=3, help="2 adds a table of growth from a tenth of the lines; 3 to ten times them, too.")
    ] = 0,
    shard_lines: Annotated[int | None, typer.Option(help="Requests per shard (default as for users).")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where the data lies, to be used again.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Where to write the tables, too.")] = None,
    json: Annotated[Path | None, typer.Option(help="Where to write the figures for a later comparison.")] = None,
    compare: Annotated[Path | None, typer.Option(help="The figures of an earlier run to compare with.")] = None,
) -> None:
    """Say how far each part is from the least that the same bytes can cost."""
    err = Console(stderr=True)
    earlier = _earlier(compare)
    figures: list[Figure] = []
    steps: list[list[Figure]] = []
    with ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="batchkit-bench-")))
        order = Order(
            place,
            lines - lines % 1_000,
            shard_lines,
            rounds,
            run_rounds,
            tuple(only or ()),
            tuple(database or ("sqlite", "postgres")),
        )
        server_url = stack.enter_context(running_server()).server_url if "postgres" in order.databases else None
        known = machine.facts(server_url)

        def show(figure: Figure) -> None:
            figures.append(figure)
            err.print(as_row(figure, earlier), markup=False)

        err.print(f"| {machine.in_a_sentence(known)} |", markup=False)
        _transfers(order, show)
        for url in _server_urls(order, server_url):
            _on_a_database(order, url, show)
        if growth > 1:
            factors = (0.1, 1, 10)[:growth]
            steps = [_growth_step(order, int(order.lines * factor), server_url, err.print) for factor in factors]
    if not figures and not steps:
        raise typer.BadParameter("no part of this name on this database", param_hint="--only, --database")
    tables = [as_table(figures, earlier)] if figures else []
    tables += [growth_table(steps)] if steps else []
    report = "\n\n".join([f"{order.lines:,} lines; {machine.in_a_sentence(known)}.", *tables])
    if markdown is not None:
        markdown.write_text(report + "\n")
    if json is not None:
        every = [asdict(figure) for figure in figures]
        grown = [[asdict(figure) for figure in step] for step in steps]
        json.write_bytes(jsonl.dumps({"machine": known, "rounds": rounds, "figures": every, "growth": grown}))
    Console(width=10_000).print(report, markup=False, highlight=False)


def _earlier(path: Path | None) -> Earlier:
    if path is None:
        return {}
    return {(old["part"], old["database"]): old for old in jsonl.loads(path.read_bytes())["figures"]}


def _server_urls(order: Order, server_url: str | None) -> Iterator[str | None]:
    """Name the databases: None is SQLite."""
    if "sqlite" in order.databases:
        yield None
    if server_url is not None:
        yield server_url


def _transfers(order: Order, show: Callable[[Figure], object]) -> None:
    wanted = [part for part in TRANSFERS if order.wants(part.name)]
    if not wanted:
        return
    lines = min(LARGEST_LINES, order.lines)
    file = largest_file(order.folder, lines)
    with serving(file) as url:
        for part in wanted:
            show(measure(part, Line(order.folder, file, url, lines), rounds=order.rounds))


def _on_a_database(order: Order, server_url: str | None, show: Callable[[Figure], object]) -> None:
    lab = Lab(order.folder, order.lines, server_url, order.lines_per_shard)
    with _prepared(lab, [part.stage for part in PARTS if part.stage is not None and order.wants(part.name)]):
        for part in PARTS:
            if order.wants(part.name):
                show(measure(part, lab, rounds=order.rounds))
    names = [name for name in runs.RUNS if order.wants(name)]
    if names:
        for figure in runs.figures(lab, names, rounds=order.run_rounds):
            show(figure)


def _growth_step(order: Order, lines: int, server_url: str | None, say: Callable[[str], object]) -> list[Figure]:
    step: list[Figure] = []
    growing = [part for part in PARTS if part.name in _GROWING]
    for url in _server_urls(order, server_url):
        lab = Lab(order.folder, lines, url, order.lines_per_shard)
        with _prepared(lab, [part.stage for part in growing if part.stage is not None]):
            step += [measure(part, lab, rounds=order.rounds) for part in growing]
    say(f"{lines:,} lines: {', '.join(f'{figure.part} {figure.value:.2f}' for figure in step)}")
    return step


@contextmanager
def _prepared(lab: Lab, stages: Sequence[str]) -> Iterator[None]:
    """Make the golden stores that are needed, and remove them afterwards: another version would not trust them."""
    try:
        lab.prepare(stages)
        yield
    finally:
        lab.clear()


if __name__ == "__main__":
    typer.run(main)
