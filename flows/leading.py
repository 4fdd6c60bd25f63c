"""Flows that lead: on a worker, and in the foreground with a cluster, a flow runs each wave of a drive as a task run."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.to_thread
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from batchkit.api.finishing import on_finished
from batchkit.engine.driving import NOTIFY_SECONDS
from batchkit.engine.observer import Observer, Observers
from batchkit.engine.remote_wave import WaveFailed
from batchkit.engine.runtime import Runner
from batchkit.engine.waits import Countdown
from batchkit.engine.waves import Done, DriveUntil, Wait
from batchkit.errors import BatchkitError
from batchkit.reports import workload_markdown
from batchkit.settings import load_settings

from .clusters import open_cluster
from .reporting import PrefectObserver, ReportThread
from .sink import FlowRunSink, PrefectApi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import Any

    from prefect.client.schemas.objects import State

    from batchkit.engine.driver import Drive, WaveOutcome
    from batchkit.engine.progress import Progress
    from batchkit.engine.waves import Wave, Waves
    from batchkit.models import Workload, WorkloadId

    from .clusters import Cluster

T = TypeVar("T")

_LONGEST_SLEEP_SECONDS = 1.0
#: A scheduled run that starts this many intervals late does nothing: a later run does its work.
_LATE_INTERVALS = 2

_logger = logging.getLogger("batchkit.flows")


@dataclass(frozen=True, slots=True)
class CommandContext:
    """The context that a command gives to a flow in its own process: a runner, an observer, and a time to stop (Unix seconds)."""

    runner: Runner
    observer: Observer
    stop_at: float | None


@dataclass(frozen=True, slots=True)
class Lead:
    """The context of a leading flow; with a ``cluster`` the waves run there. ``names`` are the names of its workloads."""

    runner: Runner
    cluster: Cluster | None
    prefect: PrefectObserver
    observer: Observer
    names: dict[WorkloadId, str] = field(default_factory=dict)
    stop_at: float | None = None
    is_foreground: bool = False

    async def call(self, call: Callable[[], T]) -> T:
        """Run a blocking call in a worker thread."""
        return await anyio.to_thread.run_sync(call)

    async def drive(self, workload: Workload, until: DriveUntil) -> Progress:
        """Drive a workload, each wave as a task run; return the last snapshot. Raises as ``Drive.next``."""
        self.names[workload.id] = workload.name
        self.observer.began(workload)
        drive = self.runner.drive(workload.id, until=until, stop_at=self.stop_at)
        try:
            progress = await self._follow(drive)
        except Exception as error:
            self.observer.failed(workload, error)
            raise
        self.observer.finished(progress)
        return progress

    async def _follow(self, drive: Drive) -> Progress:
        while True:
            action = await self.call(drive.next)
            if isinstance(action, Done):
                return action.progress
            if isinstance(action, Wait):
                self.observer.waiting(drive.workload_id, action)
                countdown = Countdown(action.until, self.runner.clock)
                # In steps, because the clock may be changed during the sleep.
                while (left := countdown.left_seconds) > 0:  # noqa: ASYNC110 - see above
                    await anyio.sleep(min(left, _LONGEST_SLEEP_SECONDS))
            else:
                drive.report(await self._run_together(action))

    async def _run_together(self, waves: Waves) -> list[WaveOutcome]:
        """Run waves at the same time. An error of the engine, not of a wave, is raised after all have ended."""
        from .tasks import perform  # noqa: PLC0415 - imports this module

        for wave in waves:
            self.observer.wave_started(wave)
        results = await asyncio.gather(*map(perform, waves), return_exceptions=True)
        outcomes = [_outcome(result) for result in results]
        for wave, outcome in zip(waves, outcomes, strict=True):
            self.observer.wave_ended(wave, outcome)
        return outcomes

    async def finish(self, progress: Progress) -> None:
        """Write the output of a finished workload, and log what was done."""
        if progress.is_finished:
            for note in await self.call(partial(on_finished, self.runner, progress)):
                _logger.info(note)

    def run_wave(self, wave: Wave) -> Any:
        """Run a wave in this thread. Raises ``WaveFailed`` with the wave's error."""
        try:
            return self.runner.run_wave(wave)
        except Exception as error:
            raise WaveFailed(error) from error


#: The context of the command that runs a flow in its own process; None on a worker.
command_context: ContextVar[CommandContext | None] = ContextVar("command_context", default=None)
#: The lead of the running flow, for its tasks, whose arguments are only ids.
current_lead: ContextVar[Lead] = ContextVar("current_lead")


@asynccontextmanager
async def open_lead(*tags: str) -> AsyncIterator[Lead]:
    """Open the lead of the running flow, and close it afterwards; the flow run gets ``tags``.

    Raises the errors of opening a ``Runner``, and ``ConfigurationError`` if the task runner of the settings is not installed.
    """
    command = command_context.get()
    runner = (
        command.runner if command else await anyio.to_thread.run_sync(partial(Runner, load_settings(), verb="worker"))
    )
    names: dict[WorkloadId, str] = {}
    thread = ReportThread()
    api = PrefectApi()
    try:
        prefect = _prefect_observer(runner, api, thread, names)
        prefect.tag("batchkit", *tags)
        async with open_cluster(runner.settings) as cluster:
            lead = Lead(
                runner,
                cluster,
                prefect,
                Observers(prefect, command.observer) if command else Observers(prefect),
                names,
                stop_at=command.stop_at if command else None,
                is_foreground=command is not None,
            )
            current_lead.set(lead)
            yield lead
        if command is None:
            # A single pass may read a long list in its thread; the process must not end before it.
            await anyio.to_thread.run_sync(runner.threads.wait)
    finally:
        thread.put(api.close, matters=True)
        await anyio.to_thread.run_sync(thread.close)
        if command is None:
            await anyio.to_thread.run_sync(partial(runner.close, notify_seconds=NOTIFY_SECONDS))


def skipped(interval_seconds: float) -> State[Any] | None:
    """Return the final state of a scheduled flow run that starts more than two intervals late; None if it is in time."""
    scheduled = flow_run.get_scheduled_start_time()
    late = (datetime.now(UTC) - scheduled).total_seconds()  # noqa: TID251 - compared with Prefect's clock, not with ours
    if late <= _LATE_INTERVALS * interval_seconds:
        return None
    return Completed(name="Skipped", message=f"{late:.0f} s late; a later run does the work")


def failed(error: BatchkitError) -> State[Any]:
    """Return the final state of a flow run that ended with an error for the user."""
    return Failed(message=workload_markdown.error_text(error))


def ended(progress: Progress) -> State[Any]:
    """Return the final state of a flow run about one workload."""
    name, message = workload_markdown.final_state(progress)
    return Completed(name=name or "Completed", message=message)


def _prefect_observer(
    runner: Runner, api: PrefectApi, thread: ReportThread, names: dict[WorkloadId, str]
) -> PrefectObserver:
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise RuntimeError("only a running flow can call this")

    def read(workload_id: WorkloadId) -> Progress | None:
        try:
            return runner.progress(workload_id)
        except BatchkitError:
            return None

    sink = FlowRunSink(api, context.flow_run.id, list(context.flow_run.tags))
    return PrefectObserver(lambda: sink, thread, names, log=get_run_logger().info, read=read)


def _outcome(result: Any) -> WaveOutcome:
    if isinstance(result, WaveFailed):
        return result.error
    if isinstance(result, BaseException):
        raise result
    outcome: WaveOutcome = result
    return outcome
