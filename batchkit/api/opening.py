"""What every function of ``batchkit.api`` does first and last: it opens a runner, names the workload, drives it."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from batchkit.api import existing
from batchkit.api.driving import drive
from batchkit.engine.observer import DO_NOTHING, Observer, Observers
from batchkit.engine.runtime import Runner
from batchkit.files.sources import check_name, name_of
from batchkit.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchkit.engine.progress import Progress
    from batchkit.engine.waves import DriveUntil
    from batchkit.settings import Settings

    Source = str | PathLike[str]


def open_runner(settings: Settings | None) -> Runner:
    """Open a runner, on a database that is made if it does not exist."""
    return Runner(settings or load_settings())


def open_existing(settings: Settings | None) -> Runner:
    """Open a runner on a database that exists. Raises ``UnknownWorkload`` when there is none."""
    return existing.open_runner(settings or load_settings())


def paths_of(sources: Source | Sequence[Source]) -> list[Path]:
    """Return the input files; a lone string is one file."""
    return [Path(sources)] if isinstance(sources, (str, PathLike)) else [Path(source) for source in sources]


def parts_of(table: Source | Sequence[Source]) -> list[str]:
    """Return the files or addresses of a table; a lone string is one."""
    return [str(table)] if isinstance(table, (str, PathLike)) else [str(part) for part in table]


def workload_name(name: str | None, paths: Sequence[Path]) -> str:
    """Return the workload's name, by default the first file's without its endings. Raises ``UsageError`` for one that cannot be used."""
    return check_name(name or name_of(paths[0]))


def drive_named(
    runner: Runner,
    name: str,
    until: DriveUntil,
    *,
    timeout_seconds: float | None = None,
    observer: Observer = DO_NOTHING,
) -> Progress:
    """Drive a workload for ``timeout_seconds`` at most; one that is finished needs neither key nor network."""
    workload = runner.find(name)
    progress = runner.progress(workload.id)
    if progress.is_finished:
        return progress
    stop_at = None if timeout_seconds is None else runner.clock() + timeout_seconds
    return drive(runner, workload, until=until, stop_at=stop_at, observer=Observers(observer))
