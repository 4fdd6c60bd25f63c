"""``python -m tests.benchmarks``: measures every part beside its floor and prints the table that the README carries."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from batchkit import jsonl
from tests.benchmarks.clock import Figure, measure
from tests.benchmarks.lab import Lab
from tests.benchmarks.parts import PARTS
from tests.benchmarks.table import as_row, as_table
from tests.postgres import running_server


def main(
    lines: Annotated[int, typer.Option(help="How many requests.")] = 1_000_000,
    rounds: Annotated[int, typer.Option(help="How often each figure is taken; the median counts.")] = 3,
    only: Annotated[str | None, typer.Option(help="Only parts whose name holds this.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where the data lies, to be used again.")] = None,
    json: Annotated[Path | None, typer.Option(help="Where to write the figures for a later comparison.")] = None,
    compare: Annotated[Path | None, typer.Option(help="The figures of an earlier run to compare with.")] = None,
) -> None:
    """Say how far each part is from the least that the same bytes can cost."""
    err = Console(stderr=True)
    earlier = {(old["part"], old["database"]): old for old in jsonl.loads(compare.read_bytes())} if compare else {}
    figures: list[Figure] = []
    with ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="batchkit-bench-")))
        for server_url in (None, stack.enter_context(running_server()).server_url):
            lab = Lab(place, lines, server_url)
            err.print(f"preparing {lines:,} requests on {lab.database}")
            lab.prepare()
            stack.callback(lab.clear)
            for part in PARTS:
                if only is None or only in part.name:
                    figures.append(measure(part, lab, rounds=rounds))
                    err.print(as_row(figures[-1], earlier), markup=False)
    if json is not None:
        json.write_bytes(jsonl.dumps([asdict(figure) for figure in figures]))
    Console(width=10_000).print(as_table(figures, earlier), markup=False, highlight=False)


if __name__ == "__main__":
    typer.run(main)
