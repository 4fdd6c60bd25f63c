"""``python -m tests.scale.reuse``: what a table that has grown costs when most of its answers are here.

Three splits, each in a process of its own: the earlier table without reuse, the same with reuse, and the grown one, of which the
answers of all rows but one in a hundred are known. Prints seconds, those of the processor (without a server's), peak memory, and
bytes in the database.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from sqlalchemy import text

from batchkit.engine.runtime import Runner
from batchkit.models import ReuseMode
from batchkit.settings import load_settings
from batchkit.steps.split import SplitOptions
from batchkit.store.engine import Store
from tests.scale.fill import Filling, analyse, merge
from tests.scale.temporary_databases import DATABASES, table_sizes, temporary_database

if TYPE_CHECKING:
    from pathlib import Path

#: Of so many rows of the grown table one is new.
ONE_NEW_IN = 100

_LINE = (
    '{"custom_id":"row-%d","method":"POST","url":"/v1/chat/completions","body":{"model":"openai/gpt-oss-20b",'
    '"messages":[{"role":"system","content":"Answer with one word."},{"role":"user","content":"What kind is number %d?'
    ' It came with the parcel that was sent on Monday and opened on Tuesday."}],"temperature":0}}\n'
)


def write_input(path: Path, count: int) -> Path:
    """Write requests that all differ."""
    with path.open("w") as out:
        for start in range(0, count, 10_000):
            out.write("".join(_LINE % (number, number) for number in range(start, min(start + 10_000, count))))
    return path


def split(url: str, home: Path, source: Path, name: str, mode: ReuseMode) -> tuple[float, float, int, int]:
    """Split an input; returns seconds, those of the processor, peak memory in bytes, and how many requests are sent."""
    settings = load_settings(home=home, database_url=url, api_key="gsk_none", base_url="http://127.0.0.1:9/openai/v1")
    with Runner(settings) as runner:
        began = time.perf_counter()
        workload = runner.split([source], name=name, options=SplitOptions(reuse=mode))
        seconds = time.perf_counter() - began
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    peak = own.ru_maxrss * 1024
    return seconds, processor, peak, (workload.request_count or 0) - workload.unsent_requests


def answer_all(url: str, name: str, count: int) -> None:
    """Give every request of a workload an answer, as merges do."""
    store = Store(url)
    try:
        with store.write() as connection:
            of_name = {"name": name}
            query = text("SELECT id FROM workloads WHERE name = :name")
            workload_id = connection.execute(query, of_name).scalar_one()
            connection.execute(
                text(
                    "UPDATE shards SET state = 'merged', merged_at = 0, batch_id = 'batch-' || id, input_file_id = 'file'"
                )
            )
        lines = 50_000
        merge(store, workload_id, Filling(merged=-(-count // lines), lines=lines, body_bytes=1_000))
        analyse(store)
    finally:
        store.close()


def main(
    requests: Annotated[list[int] | None, typer.Option(help="Rows of the grown table; may be repeated.")] = None,
    database: Annotated[list[str] | None, typer.Option(help="sqlite or postgres; default both.")] = None,
) -> None:
    """Print a table of the three splits."""
    console = Console(width=10_000)
    head = ("rows", "database", "split", "seconds", "of the processor", "peak memory", "sent", "database afterwards")
    for line in (f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"):
        console.print(line, markup=False, highlight=False)
    spawn = multiprocessing.get_context("spawn")
    for count in requests or [100_000, 1_000_000]:
        for kind in database or DATABASES:
            with temporary_database(kind) as place:
                known = count - count // ONE_NEW_IN
                earlier = write_input(place.folder / "earlier.jsonl", known)
                grown = write_input(place.folder / "grown.jsonl", count)

                for what, source, mode in (
                    ("without reuse", earlier, ReuseMode.OFF),
                    ("with reuse", earlier, ReuseMode.ON),
                    ("grown", grown, ReuseMode.ON),
                ):
                    name = what.replace(" ", "-")
                    if what == "grown":
                        answer_all(place.url, "with-reuse", known)
                    with spawn.Pool(1) as pool:
                        seconds, processor, peak, sent = pool.apply(
                            split, (place.url, place.folder / "home", source, name, mode)
                        )
                    store = Store(place.url)
                    size = sum(table.rows + table.indexes for table in table_sizes(store).values())
                    store.close()
                    cells = (
                        f"{source.name.removesuffix('.jsonl')} {known if source == earlier else count:,}",
                        kind,
                        what,
                        f"{seconds:.1f}",
                        f"{processor:.1f}",
                        f"{peak / 1e6:.0f} MB",
                        f"{sent:,}",
                        f"{size / 1e6:,.0f} MB",
                    )
                    console.print(f"| {' | '.join(cells)} |", markup=False, highlight=False)


if __name__ == "__main__":
    typer.run(main)
