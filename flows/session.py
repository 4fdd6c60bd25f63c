"""What a flow works with: the job of the command that runs it in this process, or a runner that it opens by itself."""

from __future__ import annotations

from contextlib import asynccontextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger

from batchkit.engine.runtime import Runner
from batchkit.settings import load_settings

from .adapter import Job, WorkerThreads
from .clusters import open_cluster
from .prefect_sink import PrefectSink
from .reporting import Reporter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from batchkit.models import WorkloadId

    from .adapter import Hands
    from .clusters import Cluster


@dataclass(frozen=True, slots=True)
class Session:
    """A job, and who does its work; with a ``cluster`` the waves are done there."""

    job: Job[Any]
    hands: Hands
    cluster: Cluster | None = None


@dataclass(frozen=True, slots=True)
class Sessions:
    """What a flow works on: ``names`` are those of the workloads. They ``are_given`` by the command that runs the flow in its process."""

    sessions: tuple[Session, ...]
    names: Mapping[WorkloadId, str]
    are_given: bool


#: Set by the command that runs a flow in its own process; None in a worker.
given_sessions: ContextVar[tuple[Session, ...] | None] = ContextVar("given_sessions", default=None)

#: The session of the running flow, for its tasks: what travels as their arguments are ids only.
flow_session: ContextVar[Session] = ContextVar("flow_session")


@asynccontextmanager
async def open_session(make_job: Callable[[Runner], Job[Any]]) -> AsyncIterator[Session]:
    """Give the session of this process, or open a runner from the settings and close it afterwards.

    Raises what opening a ``Runner`` raises, and ``ConfigurationError`` without the task runner that the settings ask for.
    """
    async with open_sessions(lambda runner: [make_job(runner)]) as opened:
        (session,) = opened.sessions
        flow_session.set(session)
        yield session


@asynccontextmanager
async def open_sessions(make_jobs: Callable[[Runner], Sequence[Job[Any]]]) -> AsyncIterator[Sessions]:
    """Give the sessions of this process, or one for each job on a runner that is closed afterwards. Raises as ``open_session``."""
    given = given_sessions.get()
    runner = await anyio.to_thread.run_sync(lambda: Runner(load_settings(), verb="worker")) if given is None else None
    try:
        if runner is None:
            sessions = given or ()
        else:
            jobs = await anyio.to_thread.run_sync(make_jobs, runner)
            sessions = tuple(Session(job, WorkerThreads()) for job in jobs)
        names = {known: name for session in sessions for known, name in session.job.names.items()}
        async with _open_cluster(sessions) as cluster:
            sessions = tuple(replace(session, cluster=cluster) for session in sessions)
            yield Sessions(sessions, names, are_given=given is not None)
        if runner is not None:
            # A single pass has left the reading of a long list to its thread; the process must not end before it.
            await anyio.to_thread.run_sync(runner.crew.wait)
    finally:
        if runner is not None:
            await anyio.to_thread.run_sync(runner.close)


def _open_cluster(sessions: Sequence[Session]) -> AbstractAsyncContextManager[Cluster | None]:
    return open_cluster(sessions[0].job.runner.settings) if sessions else nullcontext()


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
