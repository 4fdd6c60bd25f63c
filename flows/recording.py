"""Writing a flow run that happened elsewhere to Prefect's API: its states, task runs and log lines carry the times they had."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from prefect.client.schemas.actions import LogCreate
from prefect.client.schemas.objects import State, StateType

from .sink import FlowRunSink, open_client

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient


class RecordedRun(FlowRunSink):
    """A flow run that this process has made, without Prefect's engine; times are Unix seconds."""

    def __init__(self, flow_run_id: UUID, tags: list[str]) -> None:
        super().__init__(flow_run_id, tags)
        self._task_runs: dict[str, UUID] = {}

    @classmethod
    def begin(
        cls, flow: str, name: str, parameters: dict[str, Any], tags: list[str], *, began_at: float
    ) -> RecordedRun:
        """Make a run of the flow that is called so, which began then."""
        with open_client() as client:
            run = client.create_flow_run(
                _recorded(flow),
                name=name,
                parameters=parameters,
                tags=tags,
                state=_state(StateType.PENDING, began_at),
            )
            client.set_flow_run_state(run.id, _state(StateType.RUNNING, began_at), force=True)
        return cls(run.id, tags)

    def wave_started(self, key: str, name: str, at: float) -> None:
        """Make a task run that began then; ``key`` is unique in the flow run."""
        with open_client() as client:
            self._task_runs[key] = self._task_run(client, key, name, at)

    def wave_ended(self, key: str, message: str, at: float, *, has_failed: bool) -> None:
        """End a task run."""
        kind = StateType.FAILED if has_failed else StateType.COMPLETED
        with open_client() as client:
            client.set_task_run_state(self._task_runs.pop(key), _state(kind, at, message=message), force=True)

    def log(self, line: str, at: float) -> None:
        """Write a line of the run's log."""
        entry = LogCreate(
            name="batchkit",
            level=logging.INFO,
            message=line,
            timestamp=_moment(at),
            flow_run_id=self._flow_run_id,
        )
        with open_client() as client:
            client.create_logs([entry])

    def end(self, kind: str, name: str | None, message: str, at: float) -> None:
        """End the flow run."""
        with open_client() as client:
            client.set_flow_run_state(
                self._flow_run_id, _state(StateType(kind), at, message=message, name=name), force=True
            )

    def _task_run(self, client: SyncPrefectClient, key: str, name: str, at: float) -> UUID:
        run = client.create_task_run(
            _recorded("wave"), self._flow_run_id, key, name=name, state=_state(StateType.PENDING, at)
        )
        client.set_task_run_state(run.id, _state(StateType.RUNNING, at), force=True)
        return run.id


def _recorded(name: str) -> Any:
    """Stand in for a flow or a task of this name: nothing else of it is read, and importing ours takes long."""
    return SimpleNamespace(
        name=name,
        task_key=name,
        version=None,
        tags=set(),
        retries=0,
        retry_delay_seconds=0,
        retry_jitter_factor=None,
    )


def _state(kind: StateType, at: float, *, message: str | None = None, name: str | None = None) -> State[Any]:
    return State(type=kind, name=name or kind.value.capitalize(), message=message, timestamp=_moment(at))


def _moment(at: float) -> Any:
    return datetime.fromtimestamp(at, UTC)
