"""The one task: a wave of work. Its arguments are ids, its result is a small report; it decides nothing."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run

from batchkit.drive import Wave, WaveKind
from batchkit.errors import BatchkitError
from batchkit.models import ShardId, WorkloadId

from . import pictures
from .session import flow_session

if TYPE_CHECKING:
    from prefect import Task
    from prefect.client.schemas.objects import State, TaskRun

    from batchkit.steps.context import StepReport

#: Seconds before the second and the third try of a wave.
RETRY_SECONDS = (3.0, 15.0)


def _name() -> str:
    parameters = task_run.get_parameters()
    return pictures.wave_name(str(parameters["kind"]), len(parameters["shard_ids"]))


async def is_infrastructure(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether a wave failed for want of the machine; what ours is, the database's absence too, the drive deals with."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, OSError) and not isinstance(error, BatchkitError)


@task(
    name="wave",
    task_run_name=_name,
    retries=len(RETRY_SECONDS),
    retry_delay_seconds=list(RETRY_SECONDS),
    retry_jitter_factor=0.5,
    retry_condition_fn=is_infrastructure,
    cache_policy=NO_CACHE,
    persist_result=False,
)
async def run_wave(workload_id: int, kind: str, shard_ids: list[int]) -> StepReport:
    """Do one wave of the running flow's job."""
    session = flow_session.get()
    wave = Wave(WaveKind(kind), WorkloadId(workload_id), tuple(map(ShardId, shard_ids)))
    return await session.hands.do(partial(session.job.run, wave))


async def perform(wave: Wave) -> StepReport:
    """Do a wave as a task run."""
    return await run_wave(int(wave.workload_id), wave.kind.value, [int(shard_id) for shard_id in wave.shard_ids])
