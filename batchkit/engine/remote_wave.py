"""A wave that another process runs: its data, and its execution there.

That process opens its own runner, from its own environment, and takes over the leases of the wave's shards from the sender. It
renews the leases itself, and its name is in every guard: if the sender dies, the wave still ends; if this process dies or is
stopped, its leases expire like any others, and its later updates change no row.
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

#: Settings that each process has itself: secrets, the addresses of stores, and settings of the sender only.
_NOT_SENT = {
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
    """A wave to run for ``owner``, who holds its shards, on the workload whose folder is ``directory``.

    ``settings`` are the sender's, without secrets.
    """

    wave: Wave
    owner: str
    directory: str
    settings: dict[str, Any]


class WaveFailed(Exception):
    """A wave failed by itself, not because of the transport to another process; ``error`` is the wave's error."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def remote_wave_of(runner: Runner, wave: Wave) -> RemoteWave:
    """Return a wave of a runner for another process."""
    settings = runner.settings.model_dump(mode="json", exclude=_NOT_SENT)
    settings["home"] = str(runner.settings.home.absolute())
    return RemoteWave(wave, runner.owner, runner.progress(wave.workload_id).workload.directory, settings)


def run_remote_wave(remote: RemoteWave) -> StepReport:
    """Run a wave for another process. Raises ``WaveFailed`` with the wave's error."""
    try:
        with Runner(_settings_here(remote), verb="worker") as runner:
            return runner.run_wave_for(remote.wave, owner=remote.owner, directory=remote.directory)
    except Exception as error:  # noqa: BLE001 - sent back to the sender
        raise WaveFailed(_picklable(error)) from None


def _settings_here(remote: RemoteWave) -> Settings:
    """Return the sender's settings, overridden by those that this process has itself."""
    given = load_settings().model_fields_set
    found = load_settings(**{name: value for name, value in remote.settings.items() if name not in given})
    # The process that drives the workload sends notifications.
    return found.model_copy(update={"notify_url": None, "on_finish": None})


def _picklable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - pickled in the same expression
    except Exception:  # noqa: BLE001 - a class may raise anything
        return RuntimeError(f"{type(error).__name__} in another process")
    return error
