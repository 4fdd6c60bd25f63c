"""Writes a flow run to Prefect's API without Prefect's engine: its states, task runs and log lines have their real times."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from prefect.client.schemas.actions import LogCreate
from prefect.client.schemas.objects import State, StateType

from .sink import FlowRunSink

if TYPE_CHECKING:
    from uuid import UUID

    from .sink import PrefectApi


@dataclass(frozen=True, slots=True)
class _TaskRun:
    id: UUID
    key: str
    name: str
    began_at: float


class RecordedRun(FlowRunSink):
    """A flow run that this process has created, without Prefect's engine; times are Unix seconds."""

    def __init__(self, api: PrefectApi, flow_run_id: UUID, tags: list[str]) -> None:
        super().__init__(api, flow_run_id, tags)
        self._task_runs: dict[str, _TaskRun] = {}

    @classmethod
    def begin(
        cls, api: PrefectApi, flow: str, name: str, parameters: dict[str, Any], tags: list[str], *, began_at: float
    ) -> RecordedRun:
        """Create a run of the flow with this name, which began at ``began_at``."""
        with api.client() as client:
            run = client.create_flow_run(
                _recorded(flow),
                name=name,
                parameters=parameters,
                tags=tags,
                state=_state(StateType.PENDING, began_at),
            )
            client.set_flow_run_state(run.id, _state(StateType.RUNNING, began_at), force=True)
            return cls(api, run.id, tags)

    def wave_started(self, key: str, name: str, at: float) -> None:
        """Create a task run that began at ``at``; ``key`` is unique in the flow run."""
        task_run = self._task_runs[key] = _TaskRun(uuid4(), key, name, at)
        self._api.emit(self._state_event(task_run, StateType.RUNNING, at))

    def wave_ended(self, key: str, message: str, at: float, *, has_failed: bool) -> None:
        """End a task run."""
        kind = StateType.FAILED if has_failed else StateType.COMPLETED
        self._api.emit(self._state_event(self._task_runs.pop(key), kind, at, message))

    def log(self, line: str, at: float) -> None:
        """Write a line of the run's log."""
        entry = LogCreate(
            name="batchkit",
            level=logging.INFO,
            message=line,
            timestamp=_moment(at),
            flow_run_id=self._flow_run_id,
        )
        with self._api.client() as client:
            client.create_logs([entry])

    def end(self, kind: str, name: str | None, message: str, at: float) -> None:
        """End the flow run."""
        with self._api.client() as client:
            client.set_flow_run_state(
                self._flow_run_id, _state(StateType(kind), at, message=message, name=name), force=True
            )

    def _state_event(self, task_run: _TaskRun, kind: StateType, at: float, message: str = "") -> dict[str, Any]:
        """Return the event from which a server of Prefect 3 creates a task run: its API for task runs accepts no times."""
        name, moment = kind.value.capitalize(), _moment(at).isoformat()
        began = _moment(task_run.began_at).isoformat()
        is_over = kind is not StateType.RUNNING
        shown: dict[str, Any] = {
            "name": task_run.name,
            "task_key": "wave",
            "dynamic_key": task_run.key,
            "tags": [],
            "run_count": 1,
            "flow_run_run_count": 1,
            "task_inputs": {},
            "expected_start_time": began,
            "start_time": began,
        }
        if is_over:
            shown |= {"end_time": moment, "total_run_time": max(at - task_run.began_at, 0.0)}
        return {
            "id": str(uuid4()),
            "occurred": moment,
            "event": f"prefect.task-run.{name}",
            "resource": {
                "prefect.resource.id": f"prefect.task-run.{task_run.id}",
                "prefect.resource.name": task_run.name,
                "prefect.run-count": "1",
                "prefect.state-message": message,
                "prefect.state-name": name,
                "prefect.state-timestamp": moment,
                "prefect.state-type": kind.value,
                "prefect.orchestration": "client",
            },
            "related": self._related,
            "payload": {
                "intended": {"from": "RUNNING" if is_over else "PENDING", "to": kind.value},
                "initial_state": None,
                "validated_state": {
                    "type": kind.value,
                    "name": name,
                    "message": message,
                    "state_details": {},
                    "data": None,
                },
                "task_run": shown,
            },
        }


def _recorded(name: str) -> Any:
    """Return a stand-in for a flow of this name: Prefect reads only these attributes, and importing ours is slow."""
    return SimpleNamespace(name=name, version=None, retries=0, retry_delay_seconds=0)


def _state(kind: StateType, at: float, *, message: str | None = None, name: str | None = None) -> State[Any]:
    return State(type=kind, name=name or kind.value.capitalize(), message=message, timestamp=_moment(at))


def _moment(at: float) -> Any:
    return datetime.fromtimestamp(at, UTC)
