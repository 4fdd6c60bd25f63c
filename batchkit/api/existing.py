"""Opening what exists: commands that only read create no database, nor a folder for one."""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from batchkit.engine.progress import read_progress
from batchkit.errors import BatchkitError, StoreError, UnknownWorkload
from batchkit.files import jsonl
from batchkit.files.paths import may_exist
from batchkit.store import evaluations, events, work_time, workloads
from batchkit.store.engine import Store, displayed, parse_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from batchkit.engine.progress import Progress
    from batchkit.engine.runtime import Runner
    from batchkit.models import Workload
    from batchkit.settings import Settings
    from batchkit.store.evaluations import RunOf
    from batchkit.store.events import Event
    from batchkit.store.migrate import SchemaState

T = TypeVar("T")


def missing_file(settings: Settings) -> Path | None:
    """Return the SQLite file of the settings, if it does not exist; None for one that does, and for Postgres."""
    url = parse_url(settings.resolved_database_url)
    if url.get_backend_name() != "sqlite" or url.database is None:
        return None
    path = Path(url.database)
    return None if may_exist(path) else path


def no_workloads_hint(settings: Settings) -> str:
    """Return what to do where there are no workloads."""
    where = "" if settings.database_url else " (or name the folder of another with --home)"
    return f"`batchkit run requests.jsonl` starts one{where}"


def read(settings: Settings, query: Callable[[Connection], T]) -> T | None:
    """Let ``query`` read the store without creating or upgrading anything; None where there is nothing yet.

    Raises ``StoreError`` when the schema is not the one of this version.
    """
    if missing_file(settings) is not None:
        return None
    store = Store(settings.resolved_database_url)
    try:
        with store.read() as connection:
            return query(connection)
    except Exception as error:
        # Alembic is slow to load, so that the schema is looked at only when reading did not work.
        schema = _schema(store)
        if schema is None or schema.is_current:
            raise
        if schema.current is None:
            return None
        raise StoreError(
            f"the database {store.display_url} has the schema {schema.current}, this version needs {schema.wanted}",
            hint="`batchkit db upgrade` brings it up to date",
        ) from error
    finally:
        store.close()


def read_if_possible(settings: Settings, query: Callable[[Connection], T]) -> T | None:
    """Read what a dry run knows better with the database; None where that cannot be read, as a run would upgrade it."""
    try:
        return read(settings, query)
    except StoreError:
        return None


@contextmanager
def readable_store(settings: Settings) -> Iterator[Store | None]:
    """Yield the store for a dry run; None where there is no database, or none with the schema of this version."""
    if missing_file(settings) is not None:
        yield None
        return
    with closing(Store(settings.resolved_database_url)) as store:
        schema = _schema(store)
        yield store if schema is not None and schema.is_current else None


def snapshots(settings: Settings, name: str | None, *, clock: Callable[[], float] = time.time) -> list[Progress]:
    """Read where the named workload stands, or all of them, oldest first; creates and upgrades nothing.

    Raises ``UnknownWorkload``, also when there is no database, and ``StoreError``.
    """
    _check_exists(settings)

    def query(connection: Connection) -> list[Progress]:
        found = workloads.every(connection) if name is None else [workloads.find(connection, name)]
        waits = {"linger_seconds": settings.resubmit_linger_seconds, "cancel_seconds": settings.cancel_seconds}
        read_now = [
            read_progress(connection, workload, now=clock(), **waits) for workload in found if workload is not None
        ]
        return read_now if name is None else [_with_work_time(connection, progress) for progress in read_now]

    found = read(settings, query) or []
    if name is not None and not found:
        place = displayed(parse_url(settings.resolved_database_url))
        raise UnknownWorkload(f"there is no workload {name!r} in {place}", hint="`batchkit status` lists them")
    return found


def _with_work_time(connection: Connection, progress: Progress) -> Progress:
    if progress.worked_seconds is not None:
        return progress
    worked = work_time.work_seconds(
        connection, progress.workload.id, until=progress.read_at, is_driven=bool(progress.runners)
    )
    return replace(progress, worked_seconds=worked)


def runs_of(settings: Settings, found: Sequence[Progress]) -> dict[str, RunOf]:
    """Return the evaluation runs that workloads belong to, by the workload's name: at most one query."""
    names = [progress.workload.name for progress in found if _is_evaluated(progress.workload)]
    if not names:
        return {}
    only = names[0] if len(names) == 1 else None
    runs = read(settings, lambda connection: evaluations.runs_with_workloads(connection, only)) or []
    by_workload = {run.workload: run for run in runs}
    return {name: run for name in names if (run := _run_of(name, by_workload)) is not None}


def _is_evaluated(workload: Workload) -> bool:
    return workload.recipe is not None and jsonl.loads(workload.recipe).get("kind") == "evaluate"


def _run_of(name: str, by_workload: Mapping[str, RunOf]) -> RunOf | None:
    """Return the run of a workload; that of a judge is called like the run's, with a dot and the judge's name behind."""
    while name not in by_workload:
        name, dot, _ = name.rpartition(".")
        if not dot:
            return None
    return by_workload[name]


def history(settings: Settings, progress: Progress, *, limit: int) -> list[Event]:
    """Read the last events of a workload, oldest first."""
    found = read(settings, lambda connection: events.newest(connection, progress.workload.id, limit=limit))
    return list(reversed(found or []))


def open_runner(settings: Settings, *, verb: str = "python") -> Runner:
    """Open a runner for a command ``verb`` on a database that exists. Raises ``UnknownWorkload`` when there is none."""
    from batchkit.engine.runtime import Runner  # noqa: PLC0415 - loads the provider and all steps

    _check_exists(settings)
    return Runner(settings, verb=verb)


def _check_exists(settings: Settings) -> None:
    missing = missing_file(settings)
    if missing is not None:
        raise UnknownWorkload(f"there are no workloads yet: {missing} does not exist", hint=no_workloads_hint(settings))


def _schema(store: Store) -> SchemaState | None:
    from batchkit.store import migrate  # noqa: PLC0415 - as above

    try:
        return migrate.check(store)
    except BatchkitError:
        return None
