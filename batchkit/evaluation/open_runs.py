"""The runs that are not finished: asked at every tick of a schedule, so it takes nothing but the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit.store import evaluations

if TYPE_CHECKING:
    from batchkit.engine.runtime import Runner
    from batchkit.store.evaluations import Evaluation


def open_runs(runner: Runner) -> list[Evaluation]:
    """Read the runs that are not finished, oldest first."""
    with runner.store.read() as connection:
        return evaluations.running(connection)
