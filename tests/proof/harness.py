"""A harness with one emulator, one database and one folder, which runs commands and injects faults into them."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import inspect, select
from sqlalchemy.engine import make_url

from batchkit.emulator import Emulator, Scenario
from batchkit.emulator.dialects.providers import DEFAULT_PROVIDER
from batchkit.emulator.faults.batches import ListLag
from batchkit.store import tables
from batchkit.store.engine import Store
from tests.commands import QUICK
from tests.proof import command_process
from tests.proof.command_process import Launch
from tests.proof.fault_points import InjectionKind
from tests.temporary_folders import base_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from batchkit.emulator import Ledger
    from batchkit.store.engine import TransactionLimits
    from tests.proof.command_process import Trace
    from tests.proof.fault_points import FaultPoint

#: The API key; no file and no row may contain it.
KEY = "gsk_TheKeyThatMustBeNowhere7261"
KILLED = -9
#: The emulator's day takes a tenth of a second.
SPEED = 864_000.0
#: No command of the proof takes that long, even beside much other work: it hangs.
LONGEST_COMMAND_SECONDS = 300
_SETTLE_SECONDS = 0.5
_LAGGING_SETTLE_SECONDS = 2.5
_WAITS = {
    **QUICK,
    "BATCHKIT_POLL_INTERVAL_SECONDS": "0.05",
    "BATCHKIT_MAX_POLL_INTERVAL_SECONDS": "0.1",
    "BATCHKIT_CAPACITY_WAIT_SECONDS": "0.05",
}


class ProofHarness:
    """Runs the commands of one scenario. ``database_url`` names an empty or migrated database that nothing else uses.

    ``provider`` is emulated. ``speed`` is the speed of the emulator's clock, ``waits`` adds variables to the commands' environment,
    and ``limits`` are the limits of their transactions.
    """

    def __init__(
        self,
        database_url: str | None,
        scenario: Scenario,
        *,
        provider: str = DEFAULT_PROVIDER,
        planted_bug: str | None = None,
        speed: float = SPEED,
        waits: Mapping[str, str] | None = None,
        limits: TransactionLimits | None = None,
    ) -> None:
        self._scenario = scenario
        # The settle time must be long enough for several list scans, so that a lagging list has caught up.
        lags = any(isinstance(fault, ListLag) for fault in scenario.faults)
        self._settle_seconds = _LAGGING_SETTLE_SECONDS if lags else _SETTLE_SECONDS
        self._provider = provider
        self._planted_bug = planted_bug
        self._speed = speed
        self._waits = dict(waits or {})
        self._limits = limits
        self._given_url = database_url

    def __enter__(self) -> Self:
        self.root = Path(tempfile.mkdtemp(prefix="batchkit-proof-", dir=base_folder()))
        self.folder = self.root / "work"
        self.folder.mkdir()
        self.database_url = self._given_url or f"sqlite:///{self.folder / '.batchkit' / 'batchkit.db'}"
        self.emulator = Emulator(
            self.root / "emulator", self._scenario, speed=self._speed, api_key=KEY, provider=self._provider
        )
        self.emulator.__enter__()
        self.environment = {
            **_WAITS,
            "BATCHKIT_SETTLE_SECONDS": str(self._settle_seconds),
            **self._waits,
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.folder),
            "COLUMNS": "100",
            self.emulator.dialect.key_variable: KEY,
            "BATCHKIT_PROVIDER": self._provider,
            "BATCHKIT_BASE_URL": self.emulator.base_url,
            "BATCHKIT_DATABASE_URL": self.database_url,
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.emulator.__exit__(kind, error, trace)
        shutil.rmtree(self.root)

    def run(
        self, arguments: Sequence[str], *, at: FaultPoint | int | None = None, kind: InjectionKind = InjectionKind.DEATH
    ) -> int | None:
        """Run one command to its end; return its exit code: -9 if it was killed at its point, None if it exceeded the time limit."""
        process = command_process.start(self._launch(arguments, at, kind))
        process.join(LONGEST_COMMAND_SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            return None
        return process.exitcode

    def start(self, arguments: Sequence[str]) -> Any:
        """Start a command that runs beside others, and return its process."""
        return command_process.start(replace(self._launch(arguments), traced=False))

    def start_to_stop(self, arguments: Sequence[str], at: FaultPoint) -> Any:
        """Start a command that stops at a point until it receives SIGCONT, and return its process."""
        return command_process.start(self._launch(arguments, at, InjectionKind.STOP))

    def trace(self) -> Trace:
        """Return the trace of the last command that ended by itself."""
        return command_process.read_trace(self._launch(()))

    def _launch(
        self, arguments: Sequence[str], at: FaultPoint | int | None = None, kind: InjectionKind = InjectionKind.DEATH
    ) -> Launch:
        return Launch(tuple(arguments), self.folder, self.environment, at, kind, self._planted_bug, limits=self._limits)

    def change(self, scenario: Scenario) -> None:
        """Replace the emulator's scenario."""
        self.emulator.set_scenario(scenario)

    def ledger(self) -> Ledger:
        """Return the emulator's ledger."""
        return self.emulator.ledger()

    def output(self) -> str:
        """Return everything that the commands have printed."""
        path = self._launch(()).output_path
        return path.read_text(errors="replace") if path.exists() else ""

    @contextmanager
    def database(self) -> Iterator[Store | None]:
        """Open the database for reading: a copy of SQLite's file, so that the original is unchanged; None if there is no database."""
        url = make_url(self.database_url)
        if url.get_backend_name() != "sqlite":
            store = Store(self.database_url)
            try:
                yield store
            finally:
                store.close()
            return
        source = Path(url.database or "")
        if not source.exists() or not source.stat().st_size:
            yield None
            return
        with tempfile.TemporaryDirectory(prefix="batchkit-proof-copy-", dir=base_folder()) as copy:
            for suffix in ("", "-wal"):
                if (part := source.with_name(source.name + suffix)).exists():
                    shutil.copy(part, copy)
            store = Store(f"sqlite:///{copy}/{source.name}")
            try:
                yield store
            finally:
                store.close()


@dataclass(frozen=True)
class DatabaseSnapshot:
    """The contents of the database: successes by (workload, seq), every value of every table as one text, and the workloads."""

    successes: dict[tuple[int, int], tuple[Any, ...]]
    text: str
    workload_ids: frozenset[int] = frozenset()


def take_snapshot(harness: ProofHarness) -> DatabaseSnapshot:
    """Return the contents of the whole database."""
    with harness.database() as store:
        if store is None:
            return DatabaseSnapshot({}, "")
        with store.read() as connection:
            present = set(_table_names(connection))
            rows = {
                table.name: [tuple(row) for row in connection.execute(select(table))]
                for table in tables.metadata.sorted_tables
                if table.name in present
            }
            if "results" not in rows:
                return DatabaseSnapshot({}, repr(rows))
            query = (
                select(tables.results)
                .join(
                    tables.requests,
                    (tables.requests.c.workload_id == tables.results.c.workload_id)
                    & (tables.requests.c.seq == tables.results.c.seq),
                )
                .where(tables.requests.c.state == "succeeded")
            )
            found = [row._asdict() for row in connection.execute(query)]
            workload_ids = frozenset(connection.scalars(select(tables.workloads.c.id)))
    successes = {(row["workload_id"], row["seq"]): tuple(row.values()) for row in found}
    return DatabaseSnapshot(successes, repr(rows), workload_ids)


def _table_names(connection: Any) -> list[str]:
    return list(inspect(connection).get_table_names())
