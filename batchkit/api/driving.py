"""Driving one workload for whoever called: the one place where an observer is told that a drive begins and how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit.engine.observer import DO_NOTHING, Observer

if TYPE_CHECKING:
    from batchkit.engine.progress import Progress
    from batchkit.engine.runtime import Runner
    from batchkit.engine.waves import DriveUntil
    from batchkit.models import Workload


def drive(
    runner: Runner,
    workload: Workload,
    *,
    until: DriveUntil,
    stop_at: float | None = None,
    observer: Observer = DO_NOTHING,
) -> Progress:
    """Drive a workload in this thread; returns the last snapshot. ``stop_at`` is in Unix seconds. Raises as ``Drive.next``."""
    observer.began(workload)
    try:
        progress = runner.process(workload.id, until=until, stop_at=stop_at, observer=observer)
    except Exception as error:
        observer.failed(workload, error)
        raise
    observer.finished(progress)
    return progress
