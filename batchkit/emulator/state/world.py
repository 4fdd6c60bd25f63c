"""The state that all parts of one emulator share: its directory, database, clock, active scenario and count of calls."""

from __future__ import annotations

import fcntl
import time
from contextlib import contextmanager
from threading import Event, Lock
from typing import TYPE_CHECKING, ClassVar

import orjson

from batchkit.emulator.contract.ids import FileId, type_id
from batchkit.emulator.contract.models import listed_ids
from batchkit.emulator.dialects.providers import DEFAULT_PROVIDER, find_dialect
from batchkit.emulator.faults import OPERATIONS, Call
from batchkit.emulator.scenarios.scenario import Scenario, ScenarioError, load_scenario, parse_scenario
from batchkit.emulator.scenarios.script import Script
from batchkit.emulator.state.clock import Clock
from batchkit.emulator.state.database import Database
from batchkit.emulator.state.synchronous_ledger import SynchronousLedger
from batchkit.errors import BatchkitError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from batchkit.emulator.contract.rates import PlanName
    from batchkit.emulator.dialects.dialect import Dialect

_DATABASE = "emulator.sqlite3"


class DirectoryInUse(BatchkitError):
    """Another emulator serves the same directory."""

    exit_code: ClassVar[int] = 2


class DirectoryUnusable(BatchkitError):
    """The directory cannot be made, or not be written to."""

    exit_code: ClassVar[int] = 2


class World:
    """The shared state of an emulator that serves ``directory``.

    Everything that must outlive the process is in the database and in the files beside it, so a later emulator on the same
    directory continues where this one stopped, however it stopped. ``scenario`` None keeps the scenario that the directory was last
    served with, counts of calls included. ``any_model`` serves every model name, whatever the scenario says, and ``plan`` holds
    for scenarios that name none. ``provider`` None is
    the one of the directory, at first Groq; another one than that is refused, because what the directory holds is not its own.
    """

    def __init__(
        self,
        directory: Path,
        *,
        speed: float,
        scenario: Scenario | None,
        any_model: bool = False,
        provider: str | None = None,
        plan: PlanName | None = None,
    ) -> None:
        self.directory = directory
        self._any_model = any_model
        self._plan = plan
        self.wake = Event()
        try:
            for folder in (directory, directory / "files", directory / "parts"):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The files hold users' data: only the owner may read them, even in a folder that is open to others.
            for file in (directory / "emulator.lock", directory / _DATABASE):
                file.touch(mode=0o600)
            self._lock_file = (directory / "emulator.lock").open("wb")
        except OSError as error:
            reason = error.strerror or str(error)
            raise DirectoryUnusable(
                f"the emulator cannot use {directory}: {reason}", hint="name another folder with --directory"
            ) from error
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock_file.close()
            raise DirectoryInUse(f"another emulator serves {directory}") from None
        self.database = Database(directory / _DATABASE)
        stored = {row["key"]: row["value"] for row in self.database.rows("SELECT key, value FROM meta")}
        self.clock = Clock(speed=speed, start=max(time.time(), float(stored.get("clock", 0))))
        self.dialect = self._known_dialect(stored.get("provider"), provider)
        self.project_id = stored.get("project_id") or type_id("project", self.clock.now(), 0x5EED)
        self.batch_baseline = int(stored.get("batch_baseline", 0))
        self.scenario_at = float(stored.get("scenario_at", self.clock.now()))
        self._calls_lock = Lock()
        self._totals: dict[str, int] = dict.fromkeys(OPERATIONS, 0)
        self._baselines: dict[str, int] = dict.fromkeys(OPERATIONS, 0)
        self._object_calls: dict[tuple[str, str], int] = {}
        for row in self.database.rows("SELECT operation, total, baseline FROM calls"):
            self._totals[row["operation"]] = row["total"]
            self._baselines[row["operation"]] = row["baseline"]
        self.synchronous = SynchronousLedger(self.database)
        self._restore_scenario(stored.get("scenario"), scenario)

    def _known_dialect(self, stored: str | None, given: str | None) -> Dialect:
        held = stored or (DEFAULT_PROVIDER if self.database.row("SELECT 1 FROM meta") else None)
        dialect = find_dialect(given or held or DEFAULT_PROVIDER)
        if held is not None and dialect.name != held:
            self.database.close()
            self._lock_file.close()
            raise DirectoryUnusable(
                f"{self.directory} holds the files and batches of an emulated {held}, not of {dialect.name}",
                hint="name another folder with --directory",
            )
        return dialect

    def _restore_scenario(self, stored: str | None, given: Scenario | None) -> None:
        previous: Scenario | None = None
        if stored is not None:
            try:
                previous = parse_scenario(orjson.loads(stored), "stored scenario")
            except ScenarioError:
                # An older version of the emulator had other faults; the directory must still be usable.
                previous = None
        chosen = given or previous or load_scenario(None)
        self.script = self._scripted(chosen)
        if previous is None or chosen != previous:
            self.set_scenario(chosen)

    def set_scenario(self, scenario: Scenario) -> None:
        """Activate a scenario: calls and batches are counted from here, and stuck batches continue."""
        with self._calls_lock:
            self._baselines = dict(self._totals)
            self._object_calls.clear()
        self.scenario_at = self.clock.now()
        self.script = self._scripted(scenario)
        with self.write() as connection:
            (self.batch_baseline,) = connection.execute("SELECT coalesce(max(sequence), 0) FROM batches").fetchone()
            entries = {
                "scenario": scenario.model_dump_json(),
                "batch_baseline": str(self.batch_baseline),
                "scenario_at": repr(self.scenario_at),
                "project_id": self.project_id,
                "provider": self.dialect.name,
            }
            connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", entries.items())
            connection.execute(
                "UPDATE batches SET due_at = ? WHERE due_at IS NULL AND status IN ('validating', 'in_progress', 'finalizing')",
                (self.clock.now(),),
            )
        self.wake.set()

    def _scripted(self, scenario: Scenario) -> Script:
        plan = scenario.plan or self._plan
        return Script(scenario.model_copy(update={"plan": plan}), self.dialect)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction; the provider time and the counts of calls and executions are saved with it."""
        with self.database.write() as connection:
            yield connection
            with self._calls_lock:
                counts = [(name, total, self._baselines[name]) for name, total in self._totals.items() if total]
            connection.executemany("INSERT OR REPLACE INTO calls VALUES (?, ?, ?)", counts)
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('clock', ?)", (repr(self.clock.now()),))
            self.synchronous.write_to(connection)

    def arrive(self, operation: str, object_id: str, body: dict[str, Any]) -> Call:
        """Count a call."""
        with self._calls_lock:
            self._totals[operation] += 1
            key = (operation, object_id)
            self._object_calls[key] = self._object_calls.get(key, 0) + 1
            ordinal = self._totals[operation] - self._baselines[operation]
            now = self.clock.now()
            return Call(operation, ordinal, object_id, self._object_calls[key], body, now, now - self.scenario_at)

    def calls(self) -> dict[str, int]:
        """Return the number of calls of each operation since the directory exists; operations without calls are left out."""
        with self._calls_lock:
            return {operation: total for operation, total in self._totals.items() if total}

    def listed_models(self, when: float) -> frozenset[str]:
        """Return the models that are listed at a provider time."""
        chosen = self.script.scenario.models
        return listed_ids(when, self.dialect.models if chosen is None else chosen)

    def served_models(self, when: float) -> frozenset[str] | None:
        """Return the models whose requests are answered at a provider time: those listed, or any (None)."""
        return None if self._any_model or self.script.scenario.any_model else self.listed_models(when)

    def file_path(self, file_id: FileId) -> Path:
        """Return the path of a file's bytes."""
        return self.directory / "files" / file_id

    def part_path(self, batch_id: str, kind: str) -> Path:
        """Return the path of the unfinished ``kind`` of a batch's result files."""
        return self.directory / "parts" / f"{batch_id}.{kind}"

    def ordinal(self, batch: sqlite3.Row) -> int:
        """Return a batch's number among those created since the scenario was set; earlier ones are below 1."""
        return int(batch["sequence"]) - self.batch_baseline

    def save(self) -> None:
        """Save the counts."""
        with self.write():
            pass

    def close(self) -> None:
        """Save the counts and close the database."""
        self.save()
        self.database.close()
        self._lock_file.close()
