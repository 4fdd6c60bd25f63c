"""A wave that another process does: what travels to it, and what it does there. Needs no Prefect.

That process opens a runner of its own, from its own environment, and takes the wave's shards over from the one that sent it.
So it renews their leases itself, and its name is in every guard: when the sender dies in the meantime, the wave comes to
its end all the same; when this process dies or stands still, its leases run out like anybody's, and whatever it does after
that hits no row.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batchkit.engine.runtime import Runner
from batchkit.settings import load_settings

if TYPE_CHECKING:
    from batchkit.engine.waves import Wave
    from batchkit.settings import Settings
    from batchkit.steps.context import StepReport

#: What each process knows by itself: secrets, where the stores are, and what is only for whoever sends.
_STAYS_HERE = {
    "api_key",
    "database_url",
    "spool_url",
    "notify_url",
    "on_finish",
    "task_runner",
    "task_runner_address",
    "parallel_waves",
}


@dataclass(frozen=True, slots=True)
class RemoteWave:
    """A wave to be done for ``owner``, who holds its shards, on the workload whose folder is ``directory``.

    ``settings`` are the sender's, without secrets.
    """

    wave: Wave
    owner: str
    directory: str
    settings: dict[str, Any]


class WaveFailed(Exception):
    """A wave failed by itself, and not for want of whatever carried it to another process; ``error`` is what it raised."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def remote_wave_of(runner: Runner, wave: Wave) -> RemoteWave:
    """Write down a wave of a runner for another process."""
    settings = runner.settings.model_dump(mode="json", exclude=_STAYS_HERE)
    settings["home"] = str(runner.settings.home.absolute())
    return RemoteWave(wave, runner.owner, runner.progress(wave.workload_id).workload.directory, settings)


def run_remote_wave(remote: RemoteWave) -> StepReport:
    """Do a wave for another process. Raises ``WaveFailed`` with what the wave raised."""
    try:
        with Runner(_settings_here(remote), verb="worker") as runner:
            return runner.run_wave_for(remote.wave, owner=remote.owner, directory=remote.directory)
    except Exception as error:  # noqa: BLE001 - travels back whole
        raise WaveFailed(_that_travels(error)) from None


def _settings_here(remote: RemoteWave) -> Settings:
    """Take the sender's settings, but for those that this process has been given for itself."""
    given = load_settings().model_fields_set
    found = load_settings(**{name: value for name, value in remote.settings.items() if name not in given})
    # Whoever drives the workload notifies.
    return found.model_copy(update={"notify_url": None, "on_finish": None})


def _that_travels(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - a class may do anything then
        return RuntimeError(f"{type(error).__name__} in another process")
    return error
