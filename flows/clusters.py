"""Where waves are done: in this process, or in those of a Dask or Ray cluster, as the settings say.

A cluster is started, or connected to, for the first wave of a flow run: a pass that finds nothing to do does without. Its
processes need the environment of a worker: GROQ_API_KEY, and BATCHKIT_DATABASE_URL and BATCHKIT_HOME or
BATCHKIT_SPOOL_URL as the sender has them.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import asynccontextmanager, contextmanager
from importlib.util import find_spec
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from batchkit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from prefect import Task
    from prefect.futures import PrefectFuture
    from prefect.task_runners import TaskRunner

    from batchkit.settings import Settings

_PACKAGES = {"dask": "prefect_dask", "ray": "prefect_ray"}


def check_task_runner(settings: Settings) -> None:
    """Raise ``ConfigurationError`` when the task runner of the settings is not installed."""
    package = _PACKAGES.get(settings.task_runner)
    if package is not None and find_spec(package) is None:
        raise ConfigurationError(
            f"BATCHKIT_TASK_RUNNER={settings.task_runner} needs a package that is not installed",
            hint=f"pip install 'groq-batchkit[{settings.task_runner}]'",
        )


class Cluster:
    """A Prefect task runner that is started with the first task."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = asyncio.Lock()
        self._runner: TaskRunner[Any] | None = None

    async def run(self, task: Task[..., Any], parameters: dict[str, Any]) -> Any:
        """Have a task run elsewhere; returns its result, or raises its error."""
        async with self._lock:
            if self._runner is None:
                self._runner = await anyio.to_thread.run_sync(_start, self._settings)
        future = await anyio.to_thread.run_sync(_submit, self._runner, task, parameters)
        return await anyio.to_thread.run_sync(future.result, abandon_on_cancel=True)

    async def close(self) -> None:
        """End what was started."""
        if self._runner is not None:
            await anyio.to_thread.run_sync(self._runner.__exit__, None, None, None)


@asynccontextmanager
async def open_cluster(settings: Settings) -> AsyncIterator[Cluster | None]:
    """Give the cluster of the settings, None where waves are done in this process. Raises as ``check_task_runner`` does."""
    if settings.task_runner == "threads":
        yield None
        return
    check_task_runner(settings)
    cluster = Cluster(settings)
    try:
        yield cluster
    finally:
        await cluster.close()


def _start(settings: Settings) -> TaskRunner[Any]:
    runner = _make_task_runner(settings)
    with _deaf_children():
        runner.__enter__()
    return runner


def _submit(runner: TaskRunner[Any], task: Task[..., Any], parameters: dict[str, Any]) -> PrefectFuture[Any]:
    # With Dask it is this that starts the cluster.
    with _deaf_children():
        future: PrefectFuture[Any] = runner.submit(task, parameters)
    return future


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Start processes that do not hear the Ctrl-C of the terminal, and print no traceback for it: they end with this one."""
    # Started by the first child, it would let the signal through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _make_task_runner(settings: Settings) -> TaskRunner[Any]:
    # One for each wave of merging, and one for that of submitting.
    processes = settings.resolved_parallel_waves + 1
    given: dict[str, Any] = {"address": settings.task_runner_address}
    runner: TaskRunner[Any]
    if settings.task_runner == "dask":
        from prefect_dask.task_runners import DaskTaskRunner  # noqa: PLC0415 - an extra

        here = {"n_workers": processes, "threads_per_worker": 1, "dashboard_address": None}
        runner = DaskTaskRunner(**(given if settings.task_runner_address else {"cluster_kwargs": here}))
    else:
        from prefect_ray.task_runners import RayTaskRunner  # noqa: PLC0415 - an extra

        here = {"num_cpus": processes, "include_dashboard": False, "logging_level": logging.ERROR}
        runner = RayTaskRunner(**(given if settings.task_runner_address else {"init_kwargs": here}))
    return runner
