"""The unfinished runs. A schedule reads them at every tick, so this module needs only the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit.store import evaluations

if TYPE_CHECKING:
    from batchkit.engine.runtime import Runner
    from batchkit.store.evaluations import Evaluation


def open_runs(runner: Runner) -> list[Evaluation]:
    """Return the unfinished runs, oldest first."""
    with runner.store.read() as connection:
        return evaluations.running(connection)
