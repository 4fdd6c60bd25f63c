"""A whole workload in simulated time: the real runner, steps and store, and a provider whose days pass in moments.

All shards with their files, batches, calls, transitions, events, waits and merges are real. Only the number of requests per
shard is not: ``lines`` instead of 1,000 to 50,000, because the benchmarks measure the cost of requests.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from batchkit.engine.runtime import Runner
from batchkit.files import jsonl
from batchkit.settings import load_settings
from batchkit.steps.split import SplitOptions
from batchkit.store.tables import batches as batch_rows
from batchkit.store.tables import events, shards
from tests.clock import FakeClock
from tests.observing import Watching
from tests.scale.simulated_provider import SimulatedProvider
from tests.scale.temporary_databases import table_sizes
from tests.workloads import chat_line

if TYPE_CHECKING:
    from pathlib import Path

    from batchkit.engine.progress import Progress
    from batchkit.engine.waves import Wait, Wave
    from batchkit.steps.context import StepReport
    from tests.scale.temporary_databases import TableSize, TemporaryDatabase

_NAME = "scale"


@dataclass
class Figures:
    """The figures of a simulated workload: ``shards`` is the number of shards of the split, ``batches`` that of all batches.

    Seconds are CPU seconds of this process, hours those of the simulated clock. ``idle_seconds`` are passes that only polled,
    ``busy_seconds`` passes with a wave of work.
    """

    database: str
    shards: int
    progress: Progress
    batches: int
    split_seconds: float
    total_seconds: float
    hours: float
    calls: Counter[str]
    events: Counter[str]
    sizes: dict[str, TableSize]
    idle_seconds: list[float] = field(default_factory=list)
    busy_seconds: list[float] = field(default_factory=list)

    @property
    def transitions(self) -> int:
        """Return the number of state transitions of all shards."""
        return sum(count for kind, count in self.events.items() if "->" in kind)

    @property
    def bytes_per_batch(self) -> float:
        """Return the bytes of one batch with its shard and events, without its requests."""
        own = (self.sizes[name] for name in ("shards", "batches", "events"))
        return sum(size.rows + size.indexes for size in own) / self.batches


class _Stopwatch:
    """Measures passes, and separates those with a wave from those without."""

    def __init__(self) -> None:
        self.idle: list[float] = []
        self.busy: list[float] = []
        self._began = time.process_time()
        self._is_busy = False

    def wave(self, _wave: Wave, _report: StepReport) -> None:
        """Record that this pass has work."""
        self._is_busy = True

    def wait(self, _wait: Wait) -> None:
        """Record the end of a pass."""
        now = time.process_time()
        (self.busy if self._is_busy else self.idle).append(now - self._began)
        self._began, self._is_busy = now, False


def simulate(
    database: TemporaryDatabase, *, batches: int, lines: int, poll_seconds: float | None = None, seed: int = 1
) -> Figures:
    """Run a workload of ``batches`` shards until it is finished; polls come every ``poll_seconds``, by default as for users."""
    source = _write_input(database.folder / "input.jsonl", batches * lines)
    clock = FakeClock()
    provider = SimulatedProvider(clock, seed)
    settings = load_settings(
        home=database.folder / "home",
        database_url=database.url,
        api_key="gsk_none",
        poll_interval_seconds=poll_seconds,
        max_poll_interval_seconds=poll_seconds,
    )
    with Runner(settings, provider=provider, clock=clock, wait=clock.advance) as runner:
        began = time.process_time()
        workload = runner.split([source], name=_NAME, options=SplitOptions(shard_lines=lines))
        split_at, from_hour = time.process_time(), clock()
        watch = _Stopwatch()
        progress = runner.process(workload.id, observer=Watching(on_wave=watch.wave, on_wait=watch.wait))
        ended_at = time.process_time()
        with runner.store.read() as connection:
            kinds = connection.execute(select(events.c.kind, func.count()).group_by(events.c.kind)).all()
            made = connection.execute(select(func.count()).select_from(batch_rows)).scalar_one()
            assert made == connection.execute(select(func.count(shards.c.batch_id))).scalar_one()
        return Figures(
            database=database.database,
            shards=batches,
            progress=progress,
            batches=made,
            split_seconds=split_at - began,
            total_seconds=ended_at - split_at,
            hours=(clock() - from_hour) / 3_600,
            calls=provider.calls,
            events=Counter({kind: count for kind, count in kinds}),  # noqa: C416 - rows are not pairs to Counter()
            sizes=table_sizes(runner.store),
            idle_seconds=watch.idle,
            busy_seconds=watch.busy,
        )


def _write_input(path: Path, count: int) -> Path:
    with path.open("wb") as handle:
        handle.writelines(jsonl.dumps(chat_line(f"request-{number:09d}")) + b"\n" for number in range(count))
    return path
