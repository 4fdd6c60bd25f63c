"""The one task: a wave of work. Its arguments are ids, its result is a small report; it decides nothing."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run

from batchkit.engine.driver import Wave, WaveKind
from batchkit.errors import BatchkitError
from batchkit.models import ShardId, WorkloadId

from . import pictures
from .errand import Errand, WaveFailed, errand_of, run_errand
from .session import flow_session

if TYPE_CHECKING:
    from prefect import Task
    from prefect.client.schemas.objects import State, TaskRun

    from batchkit.steps.context import StepReport

    from .clusters import Cluster
    from .session import Session

#: Seconds before the second and the third try of a wave.
RETRY_SECONDS = (3.0, 15.0)


def _name() -> str:
    parameters = task_run.get_parameters()
    return pictures.wave_name(str(parameters["kind"]), len(parameters["shard_ids"]))


async def is_infrastructure(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether a wave failed for want of the machine; what ours is, the database's absence too, the drive deals with."""
    error = await state.aresult(raise_on_failure=False)
    if isinstance(error, WaveFailed):
        error = error.error
    return isinstance(error, OSError) and not isinstance(error, BatchkitError)


_MANNER: dict[str, Any] = {
    "name": "wave",
    "task_run_name": _name,
    "retries": len(RETRY_SECONDS),
    "retry_delay_seconds": list(RETRY_SECONDS),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": is_infrastructure,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}


@task(**_MANNER)
async def run_wave(workload_id: int, kind: str, shard_ids: list[int]) -> StepReport:
    """Do one wave of the running flow's job."""
    session = flow_session.get()
    wave = _wave(workload_id, kind, shard_ids)
    return await session.hands.do(partial(session.job.run, wave), beside=session.job.is_beside(wave))


@task(**_MANNER)
def run_wave_elsewhere(
    workload_id: int, kind: str, shard_ids: list[int], *, owner: str, directory: str, settings: dict[str, Any]
) -> StepReport:
    """Do one wave in whatever process this is called in: no part of the flow's is needed."""
    return run_errand(Errand(_wave(workload_id, kind, shard_ids), owner, directory, settings))


async def perform(wave: Wave) -> StepReport:
    """Do a wave as a task run, here or elsewhere."""
    session = flow_session.get()
    parameters: dict[str, Any] = {
        "workload_id": int(wave.workload_id),
        "kind": wave.kind.value,
        "shard_ids": [int(shard_id) for shard_id in wave.shard_ids],
    }
    if session.cluster is None:
        report: StepReport = await run_wave(**parameters)
        return report
    return await _perform_elsewhere(session, session.cluster, wave, parameters)


async def _perform_elsewhere(session: Session, cluster: Cluster, wave: Wave, parameters: dict[str, Any]) -> StepReport:
    job, hands = session.job, session.hands
    errand = await hands.do(partial(errand_of, job.runner, wave))
    carried = {**parameters, "owner": errand.owner, "directory": errand.directory, "settings": errand.settings}
    try:
        # Whoever does the work here would take a silence of minutes for the end of this flow.
        report: StepReport = await cluster.run(run_wave_elsewhere, carried, beat=partial(hands.do, lambda: None))
    except WaveFailed as failed:
        job.blame(failed.error)
        raise failed.error from None
    return report


def _wave(workload_id: int, kind: str, shard_ids: list[int]) -> Wave:
    return Wave(WaveKind(kind), WorkloadId(workload_id), tuple(map(ShardId, shard_ids)))
