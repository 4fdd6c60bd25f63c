"""Runners on their own emulator, with waits so short that tests do not notice them."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from batchkit.emulator import Emulator, Scenario
from batchkit.engine.runtime import Runner
from batchkit.settings import load_settings
from batchkit.steps.split import SplitOptions
from tests.steps.timed import TimedRun
from tests.workloads import read_lines, write_mixed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batchkit.engine.progress import Progress
    from batchkit.models import Workload

#: One provider day takes a fifth of a second.
SPEED = 432_000.0

QUICK = {
    "poll_interval_seconds": 0.05,
    "max_poll_interval_seconds": 0.2,
    "settle_seconds": 0.6,
    "stuck_seconds": 0.6,
    "capacity_wait_seconds": 0.05,
    "resubmit_linger_seconds": 0.0,
    "lease_seconds": 30.0,
    "outage_seconds": 5.0,
    "http_attempts": 3,
}


class Harness:
    """One emulator, one database and one home, with any number of runners on them."""

    def __init__(self, emulator: Emulator, database_url: str, home: Path, stack: ExitStack) -> None:
        self.emulator = emulator
        self.database_url = database_url
        self.home = home
        self._stack = stack
        self.runner = self.open_runner()

    def open_runner(self, **overrides: Any) -> Runner:
        """Open a runner; it is closed at the end of the test."""
        emulator = self.emulator
        server = {"provider": emulator.dialect.name, "api_key": emulator.api_key, "base_url": emulator.base_url}
        given = {**QUICK, **server, **overrides}
        settings = load_settings(home=self.home, database_url=self.database_url, **given)
        return self._stack.enter_context(Runner(settings))

    def split(self, source: Path, *, name: str = "work", **options: Any) -> Workload:
        """Split an input under a name."""
        return self.runner.split([source], name=name, options=SplitOptions(**options))

    def run(self, count: int = 60, **options: Any) -> Progress:
        """Run a mixed workload of ``count`` requests in shards of 20 lines to its end."""
        source = write_mixed(self.home.parent / "input.jsonl", count)
        workload = self.split(source, **{"shard_lines": 20, **options})
        return self.runner.process(workload.id)

    def export(self, name: str = "work") -> list[dict[str, Any]]:
        """Export a workload and read it back."""
        target = self.home.parent / "out.jsonl"
        self.runner.export(name, target)
        return read_lines(target)


@pytest.fixture
def timed(database_url, tmp_path) -> Iterator[TimedRun]:
    """Return a workload on a test clock; runs once per kind of database."""
    with ExitStack() as stack:
        yield TimedRun(stack, database_url, tmp_path)


@pytest.fixture
def open_harness(database_url, tmp_path) -> Iterator[Any]:
    """Return a function that starts an emulator with faults and returns a harness on it; runs once per kind of database."""
    with ExitStack() as stack:

        def start(*faults: Any, speed: float = SPEED, provider: str | None = None, **scenario: Any) -> Harness:
            emulator = stack.enter_context(
                Emulator(tmp_path / "emulator", Scenario(faults=faults, **scenario), speed=speed, provider=provider)
            )
            return Harness(emulator, database_url, tmp_path / "home", stack)

        yield start
