"""One emulator, one database, one folder, and commands that run there one after the other, some to their death."""

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
from batchkit.emulator.faults.batches import ListLag
from batchkit.store import tables
from batchkit.store.engine import Store
from tests.commands import QUICK
from tests.proof import child
from tests.proof.child import Launch
from tests.proof.points import Harm
from tests.room import roomy_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from batchkit.emulator import Ledger
    from batchkit.store.engine import Limits
    from tests.proof.child import Trace
    from tests.proof.points import Point

#: Looked for in every byte that is left behind.
KEY = "gsk_TheKeyThatMustBeNowhere7261"
KILLED = -9
#: A day of the provider passes in a tenth of a second.
SPEED = 864_000.0
_LONGEST_COMMAND_SECONDS = 60
_SETTLE_SECONDS = 0.5
_PATIENT_SETTLE_SECONDS = 2.5
_WAITS = {
    **QUICK,
    "BATCHKIT_POLL_INTERVAL_SECONDS": "0.05",
    "BATCHKIT_MAX_POLL_INTERVAL_SECONDS": "0.1",
    "BATCHKIT_CAPACITY_WAIT_SECONDS": "0.05",
}


class Stage:
    """Where a story is played. ``database_url`` is an empty or migrated database of its own.

    ``speed`` is that of the provider's clock, ``waits`` are variables of the commands' environment beside the usual ones, ``limits``
    those of their transactions.
    """

    def __init__(
        self,
        database_url: str | None,
        scenario: Scenario,
        *,
        plant: str | None = None,
        speed: float = SPEED,
        waits: Mapping[str, str] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._scenario = scenario
        # A list that lags for some calls must be looked at so often that it has caught up before it is believed.
        lags = any(isinstance(fault, ListLag) for fault in scenario.faults)
        self._settle_seconds = _PATIENT_SETTLE_SECONDS if lags else _SETTLE_SECONDS
        self._plant = plant
        self._speed = speed
        self._waits = dict(waits or {})
        self._limits = limits
        self._given_url = database_url

    def __enter__(self) -> Self:
        self.root = Path(tempfile.mkdtemp(prefix="batchkit-proof-", dir=roomy_folder()))
        self.folder = self.root / "work"
        self.folder.mkdir()
        self.database_url = self._given_url or f"sqlite:///{self.folder / '.batchkit' / 'batchkit.db'}"
        self._emulator = Emulator(self.root / "emulator", self._scenario, speed=self._speed, api_key=KEY)
        self._emulator.__enter__()
        self.environment = {
            **_WAITS,
            "BATCHKIT_SETTLE_SECONDS": str(self._settle_seconds),
            **self._waits,
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.folder),
            "COLUMNS": "100",
            "GROQ_API_KEY": KEY,
            "BATCHKIT_BASE_URL": self._emulator.base_url,
            "BATCHKIT_DATABASE_URL": self.database_url,
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._emulator.__exit__(kind, error, trace)
        shutil.rmtree(self.root)

    def play(self, words: Sequence[str], *, at: Point | int | None = None, harm: Harm = Harm.DEATH) -> int | None:
        """Run one command to its end; returns its exit code, -9 when it died, None when it had to be ended by us."""
        process = child.start(self._launch(words, at, harm))
        process.join(_LONGEST_COMMAND_SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            return None
        return process.exitcode

    def start(self, words: Sequence[str]) -> Any:
        """Start one command of several at the same time, and return its process."""
        return child.start(replace(self._launch(words), traced=False))

    def start_to_stop(self, words: Sequence[str], at: Point) -> Any:
        """Start a command that stops at a point, until it gets SIGCONT, and return its process."""
        return child.start(self._launch(words, at, Harm.STOP))

    def trace(self) -> Trace:
        """Say what the last command passed, if it ended by itself."""
        return child.read_trace(self._launch(()))

    def _launch(self, words: Sequence[str], at: Point | int | None = None, harm: Harm = Harm.DEATH) -> Launch:
        return Launch(tuple(words), self.folder, self.environment, at, harm, self._plant, limits=self._limits)

    def change(self, scenario: Scenario) -> None:
        """Let the provider behave in another way from now on."""
        self._emulator.set_scenario(scenario)

    def ledger(self) -> Ledger:
        """Say what was bought."""
        return self._emulator.ledger()

    def output(self) -> str:
        """Everything that the commands have printed."""
        path = self._launch(()).output_path
        return path.read_text(errors="replace") if path.exists() else ""

    @contextmanager
    def database(self) -> Iterator[Store | None]:
        """Open the database as it lies there, without touching it: SQLite's as a copy. None when there is none yet."""
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
        with tempfile.TemporaryDirectory(prefix="batchkit-proof-copy-", dir=roomy_folder()) as copy:
            for suffix in ("", "-wal"):
                if (part := source.with_name(source.name + suffix)).exists():
                    shutil.copy(part, copy)
            store = Store(f"sqlite:///{copy}/{source.name}")
            try:
                yield store
            finally:
                store.close()


@dataclass(frozen=True)
class Picture:
    """What the database holds: successes by (workload, seq), and every value of every table as one text."""

    successes: dict[tuple[int, int], tuple[Any, ...]]
    text: str


def take_picture(stage: Stage) -> Picture:
    """Read the whole database."""
    with stage.database() as store:
        if store is None:
            return Picture({}, "")
        with store.read() as connection:
            present = set(_table_names(connection))
            rows = {
                table.name: [tuple(row) for row in connection.execute(select(table))]
                for table in tables.metadata.sorted_tables
                if table.name in present
            }
            if "results" not in rows:
                return Picture({}, repr(rows))
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
    successes = {(row["workload_id"], row["seq"]): tuple(row.values()) for row in found}
    return Picture(successes, repr(rows))


def _table_names(connection: Any) -> list[str]:
    return list(inspect(connection).get_table_names())
