"""The one task: a wave of work. Its arguments are ids, its result is a small report; it decides nothing."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run

from batchkit.engine.remote_wave import RemoteWave, WaveFailed, remote_wave_of, run_remote_wave
from batchkit.engine.waves import Wave, WaveKind
from batchkit.errors import BatchkitError
from batchkit.models import ShardId, WorkloadId
from batchkit.reports import workload_markdown

from .leading import current_lead

if TYPE_CHECKING:
    from prefect import Task
    from prefect.client.schemas.objects import State, TaskRun

    from batchkit.steps.context import StepReport


#: Seconds before the second and the third try of a wave.
RETRY_SECONDS = (3.0, 15.0)


def _name() -> str:
    parameters = task_run.get_parameters()
    return workload_markdown.wave_name(str(parameters["kind"]), len(parameters["shard_ids"]))


async def is_infrastructure(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Return whether a wave failed because of the machine; the drive handles errors of batchkit, even an unreachable database."""
    error = await state.aresult(raise_on_failure=False)
    if isinstance(error, WaveFailed):
        error = error.error
    return isinstance(error, OSError) and not isinstance(error, BatchkitError)


_OPTIONS: dict[str, Any] = {
    "name": "wave",
    "task_run_name": _name,
    "retries": len(RETRY_SECONDS),
    "retry_delay_seconds": list(RETRY_SECONDS),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": is_infrastructure,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}


@task(**_OPTIONS)
async def run_wave(workload_id: int, kind: str, shard_ids: list[int]) -> StepReport:
    """Run one wave of the running flow."""
    lead = current_lead.get()
    report: StepReport = await lead.call(partial(lead.run_wave, _wave(workload_id, kind, shard_ids)))
    return report


@task(**_OPTIONS)
def run_wave_elsewhere(
    workload_id: int, kind: str, shard_ids: list[int], *, owner: str, directory: str, settings: dict[str, Any]
) -> StepReport:
    """Run one wave in the process that calls this; needs nothing from the flow."""
    return run_remote_wave(RemoteWave(_wave(workload_id, kind, shard_ids), owner, directory, settings))


async def perform(wave: Wave) -> StepReport:
    """Run a wave as a task run, here or in a cluster. Raises ``WaveFailed`` with the wave's error."""
    lead = current_lead.get()
    parameters: dict[str, Any] = {
        "workload_id": int(wave.workload_id),
        "kind": wave.kind.value,
        "shard_ids": [int(shard_id) for shard_id in wave.shard_ids],
    }
    report: StepReport
    if lead.cluster is None:
        report = await run_wave(**parameters)
        return report
    remote = await lead.call(partial(remote_wave_of, lead.runner, wave))
    parameters |= {"owner": remote.owner, "directory": remote.directory, "settings": remote.settings}
    report = await lead.cluster.run(run_wave_elsewhere, parameters)
    return report


def _wave(workload_id: int, kind: str, shard_ids: list[int]) -> Wave:
    return Wave(WaveKind(kind), WorkloadId(workload_id), tuple(map(ShardId, shard_ids)))
