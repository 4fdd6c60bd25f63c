"""The processes that run waves: this one, or those of a Dask or Ray cluster, depending on the settings.

A cluster is started or connected to for the first wave of a flow run, so a pass without work starts none. Its processes need
the environment of a worker: GROQ_API_KEY, and the sender's BATCHKIT_DATABASE_URL and BATCHKIT_HOME or BATCHKIT_SPOOL_URL.
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
    """Raise ``ConfigurationError`` if the task runner of the settings is not installed."""
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
        """Run a task in the cluster; return its result, or raise its error."""
        async with self._lock:
            if self._runner is None:
                self._runner = await anyio.to_thread.run_sync(_start, self._settings)
        future = await anyio.to_thread.run_sync(_submit, self._runner, task, parameters)
        return await anyio.to_thread.run_sync(future.result, abandon_on_cancel=True)

    async def close(self) -> None:
        """End the task runner, if it was started."""
        if self._runner is not None:
            await anyio.to_thread.run_sync(self._runner.__exit__, None, None, None)


@asynccontextmanager
async def open_cluster(settings: Settings) -> AsyncIterator[Cluster | None]:
    """Yield the cluster of the settings, None if waves run in this process. Raises as ``check_task_runner``."""
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
    with _children_without_sigint():
        runner.__enter__()
    return runner


def _submit(runner: TaskRunner[Any], task: Task[..., Any], parameters: dict[str, Any]) -> PrefectFuture[Any]:
    # With Dask, this call starts the cluster.
    with _children_without_sigint():
        future: PrefectFuture[Any] = runner.submit(task, parameters)
    return future


@contextmanager
def _children_without_sigint() -> Iterator[None]:
    """Start processes that ignore the terminal's Ctrl-C and print no traceback for it: they end with this one."""
    # If the first child started it, it would unblock the signal again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _make_task_runner(settings: Settings) -> TaskRunner[Any]:
    # One for each merge wave, and one for the submit wave.
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
