"""What the pages read from: the database in sessions that cannot write, and the files of shards. There is no key and no provider."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar, cast

from batchkit.api import existing
from batchkit.engine import composition
from batchkit.engine.records import WorkloadRecords
from batchkit.errors import BatchkitError, StoreError
from batchkit.owners import new_owner
from batchkit.store import migrate
from batchkit.store.engine import Store, TransactionLimits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batchkit.engine.runtime import Runner
    from batchkit.models import Workload
    from batchkit.settings import Settings

T = TypeVar("T")

#: A page that waits longer than this for one statement shows an error instead.
_LIMITS = TransactionLimits(lock_seconds=2.0, statement_seconds=60.0)


class NothingYet(BatchkitError):
    """There is no database yet, or nothing in it."""


class Reader(WorkloadRecords):
    """The workloads of a database, as pages read them. An unreachable database is an error at once: the page is asked again."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(
            Store(settings.resolved_database_url, limits=_LIMITS, is_readonly=True),
            settings,
            clock=clock,
            wait=threading.Event().wait,
        )
        self.spool = composition.open_spool(settings, new_owner())

    def close(self) -> None:
        """Close the connections."""
        self.spool.close()
        self.store.close()

    def kept_file(self, workload: Workload, name: str) -> Path:
        """Return the path of a file that the workload keeps. Raises ``SpoolError`` when it is lost."""
        return self.spool.kept(f"{workload.directory}/{name}")

    @property
    def as_runner(self) -> Runner:
        """Return this for functions that only read through a runner: it has the part of it that they use."""
        return cast("Runner", self)

    def checked(self, read: Callable[[], T]) -> T:
        """Return what ``read`` returns. Raises ``NothingYet`` without a database, and ``StoreError`` for one of another version."""
        missing = existing.missing_file(self.settings)
        if missing is not None:
            raise NothingYet(
                f"there is nothing yet: {missing} does not exist", hint=existing.no_workloads_hint(self.settings)
            )
        try:
            return read()
        except Exception as error:
            # The schema is looked at only when reading did not work: the library for it is slow to load.
            schema = self._schema()
            if schema is None or schema.is_current:
                raise
            if schema.current is None:
                raise NothingYet(
                    f"there is nothing yet in {self.store.display_url}", hint=existing.no_workloads_hint(self.settings)
                ) from error
            raise StoreError(
                f"the database {self.store.display_url} has the schema {schema.current}, this version needs {schema.wanted}",
                hint="`batchkit db upgrade` brings it up to date",
            ) from error

    def _schema(self) -> migrate.SchemaState | None:
        try:
            return migrate.check(self.store)
        except BatchkitError:
            return None

    def _wait_for_store(self, call: Callable[[], T]) -> T:
        return call()
