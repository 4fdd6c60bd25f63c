"""``python -m tests.benchmarks``: measure every part and its floor, and print the table of the README."""

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
from tests.benchmarks.benchmark_stores import BenchmarkStores
from tests.benchmarks.file_server import serving
from tests.benchmarks.measurements import MEASUREMENTS
from tests.benchmarks.table import as_row, as_table, growth_table
from tests.benchmarks.timing import Figure, measure
from tests.benchmarks.transfers import LARGEST_LINES, TRANSFERS, Line, largest_file
from tests.postgres import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.benchmarks.table import Earlier

_GROWING = ("split", "merge", "export to JSONL")


@dataclass(frozen=True)
class BenchmarkOptions:
    """What to measure: the parts whose names contain one of ``only`` (all if empty), and how often."""

    folder: Path
    lines: int
    lines_per_shard: int | None
    rounds: int
    run_rounds: int
    only: tuple[str, ...]
    databases: tuple[str, ...]

    def wants(self, name: str) -> bool:
        """Return whether a part is selected."""
        return not self.only or any(word in name for word in self.only)


def main(
    lines: Annotated[int, typer.Option(min=1_000, help="The number of requests; thousands.")] = 1_000_000,
    rounds: Annotated[int, typer.Option(min=1, help="How often each part is measured; the median counts.")] = 3,
    run_rounds: Annotated[int, typer.Option(min=1, help="The same for runs of the whole command.")] = 1,
    only: Annotated[
        list[str] | None, typer.Option(help="Only parts whose name contains this; may be repeated.")
    ] = None,
    database: Annotated[list[str] | None, typer.Option(help="sqlite or postgres (default both).")] = None,
    growth: Annotated[
        int,
        typer.Option(
            max=3, help="2 adds a table of growth from a tenth of the lines; 3 also measures ten times the lines."
        ),
    ] = 0,
    shard_lines: Annotated[
        int | None, typer.Option(help="Requests per shard (default: the same as for users).")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="The folder of the data, to be used again.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Also write the tables to this file.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the figures to this file, for a later comparison.")] = None,
    compare: Annotated[Path | None, typer.Option(help="Compare with the figures of an earlier run.")] = None,
) -> None:
    """Measure each part of batchkit as a ratio to the shortest time for the same bytes."""
    err = Console(stderr=True)
    earlier = _earlier(compare)
    figures: list[Figure] = []
    steps: list[list[Figure]] = []
    with ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="batchkit-bench-")))
        options = BenchmarkOptions(
            place,
            lines - lines % 1_000,
            shard_lines,
            rounds,
            run_rounds,
            tuple(only or ()),
            tuple(database or ("sqlite", "postgres")),
        )
        server_url = stack.enter_context(running_server()).server_url if "postgres" in options.databases else None
        known = machine.facts(server_url)

        def show(figure: Figure) -> None:
            figures.append(figure)
            err.print(as_row(figure, earlier), markup=False)

        err.print(f"| {machine.in_a_sentence(known)} |", markup=False)
        _transfers(options, show)
        for url in _server_urls(options, server_url):
            _on_a_database(options, url, show)
        if growth > 1:
            factors = (0.1, 1, 10)[:growth]
            steps = [_growth_step(options, int(options.lines * factor), server_url, err.print) for factor in factors]
    if not figures and not steps:
        raise typer.BadParameter("no part of this name on this database", param_hint="--only, --database")
    tables = [as_table(figures, earlier)] if figures else []
    tables += [growth_table(steps)] if steps else []
    report = "\n\n".join([f"{options.lines:,} lines; {machine.in_a_sentence(known)}.", *tables])
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


def _server_urls(options: BenchmarkOptions, server_url: str | None) -> Iterator[str | None]:
    """Yield the URLs of the databases; None is SQLite."""
    if "sqlite" in options.databases:
        yield None
    if server_url is not None:
        yield server_url


def _transfers(options: BenchmarkOptions, show: Callable[[Figure], object]) -> None:
    wanted = [part for part in TRANSFERS if options.wants(part.name)]
    if not wanted:
        return
    lines = min(LARGEST_LINES, options.lines)
    file = largest_file(options.folder, lines)
    with serving(file) as url:
        for part in wanted:
            show(measure(part, Line(options.folder, file, url, lines), rounds=options.rounds))


def _on_a_database(options: BenchmarkOptions, server_url: str | None, show: Callable[[Figure], object]) -> None:
    stores = BenchmarkStores(options.folder, options.lines, server_url, options.lines_per_shard)
    with _prepared(
        stores, [part.stage for part in MEASUREMENTS if part.stage is not None and options.wants(part.name)]
    ):
        for part in MEASUREMENTS:
            if options.wants(part.name):
                show(measure(part, stores, rounds=options.rounds))
    names = [name for name in runs.RUNS if options.wants(name)]
    if names:
        for figure in runs.figures(stores, names, rounds=options.run_rounds):
            show(figure)


def _growth_step(
    options: BenchmarkOptions, lines: int, server_url: str | None, report: Callable[[str], object]
) -> list[Figure]:
    step: list[Figure] = []
    growing = [part for part in MEASUREMENTS if part.name in _GROWING]
    for url in _server_urls(options, server_url):
        stores = BenchmarkStores(options.folder, lines, url, options.lines_per_shard)
        with _prepared(stores, [part.stage for part in growing if part.stage is not None]):
            step += [measure(part, stores, rounds=options.rounds) for part in growing]
    report(f"{lines:,} lines: {', '.join(f'{figure.part} {figure.value:.2f}' for figure in step)}")
    return step


@contextmanager
def _prepared(stores: BenchmarkStores, stages: Sequence[str]) -> Iterator[None]:
    """Make the template stores that are needed, and delete them afterwards: another version must not use them."""
    try:
        stores.prepare(stages)
        yield
    finally:
        stores.clear()


if __name__ == "__main__":
    typer.run(main)
