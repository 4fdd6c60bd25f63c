"""What a flow works with: the job of the command that runs it in this process, or a runner that it opens by itself."""

from __future__ import annotations

from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import anyio.to_thread
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger

from batchkit.runner import Runner
from batchkit.settings import load_settings

from .adapter import Job, WorkerThreads
from .clusters import open_cluster
from .prefect_sink import PrefectSink
from .reporting import Reporter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from batchkit.models import WorkloadId

    from .adapter import Hands
    from .clusters import Cluster


@dataclass(frozen=True, slots=True)
class Session:
    """A job, and who does its work; with a ``cluster`` the waves are done there."""

    job: Job[Any]
    hands: Hands
    cluster: Cluster | None = None


#: Set by the command that runs a flow in its own process; empty in a worker.
given_session: ContextVar[Session | None] = ContextVar("given_session", default=None)

#: The session of the running flow, for its tasks: what travels as their arguments are ids only.
flow_session: ContextVar[Session] = ContextVar("flow_session")


@asynccontextmanager
async def open_session(make_job: Callable[[Runner], Job[Any]]) -> AsyncIterator[Session]:
    """Give the session of this process, or open a runner from the settings and close it afterwards.

    Raises what opening a ``Runner`` raises, and ``ConfigurationError`` without the task runner that the settings ask for.
    """
    given = given_session.get()
    runner = await anyio.to_thread.run_sync(lambda: Runner(load_settings())) if given is None else None
    try:
        session = given or Session(make_job(cast("Runner", runner)), WorkerThreads())
        async with open_cluster(session.job.runner.settings) as cluster:
            session = replace(session, cluster=cluster)
            flow_session.set(session)
            yield session
    finally:
        if runner is not None:
            await anyio.to_thread.run_sync(runner.close)


@asynccontextmanager
async def open_reporter(names: Mapping[WorkloadId, str]) -> AsyncIterator[Reporter]:
    """Give a reporter for the running flow, and let it finish afterwards, for a few seconds at most.

    ``names`` are those of the workloads that the flow is about; they may grow.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise RuntimeError("this is called by flows, when they run")
    reporter = Reporter(PrefectSink(context.flow_run), names, log=get_run_logger().info)
    try:
        yield reporter
    finally:
        await anyio.to_thread.run_sync(reporter.close)
