"""The receiver of reports: the artifacts, tags and events of one flow run, over Prefect's API."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactCollectionFilter, ArtifactCollectionFilterKey
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

_TIMEOUT_SECONDS = 10.0


class PrefectApi:
    """One client for all reports of a thread, because opening one takes longer than a call. One try, with a short timeout.

    ``url`` is the server's address, None the one in Prefect's settings.
    """

    def __init__(self, url: str | None = None) -> None:
        self._url = url
        self._client: SyncPrefectClient | None = None

    @contextmanager
    def client(self) -> Iterator[SyncPrefectClient]:
        """Yield the client, which is opened at first use."""
        chosen: dict[Any, Any] = {PREFECT_CLIENT_MAX_RETRIES: 0}
        if self._url is not None:
            chosen[PREFECT_API_URL] = self._url
        with temporary_settings(chosen):
            if self._client is None:
                client = get_client(httpx_settings={"timeout": _TIMEOUT_SECONDS}, sync_client=True)
                self._client = client.__enter__()
            yield self._client

    def close(self) -> None:
        """Close the client; the next report opens another."""
        client, self._client = self._client, None
        if client is not None:
            client.__exit__(None, None, None)

    def emit(self, event: dict[str, Any]) -> None:
        """Write an event."""
        with self.client() as client:
            client.request("POST", "/events", json=[event]).raise_for_status()


class FlowRunSink:
    """One flow run's artifacts, tags and events. Calls are not repeated: the next report is newer.

    Each call contains the run's id, because Prefect did not start the thread that sends.
    """

    def __init__(self, api: PrefectApi, flow_run_id: UUID, tags: list[str]) -> None:
        self._api = api
        self._flow_run_id = flow_run_id
        self._tags = set(tags)
        self._progress_ids: dict[str, UUID] = {}

    def tag(self, tags: list[str]) -> None:
        """Add tags to the run.

        Not with ``prefect.tags``: task runs would inherit them, and ask the server at each start whether one of their tags is limited, which
        fails the task if the server is gone.
        """
        self._tags |= set(tags)
        with self._api.client() as client:
            client.update_flow_run(self._flow_run_id, tags=sorted(self._tags)).raise_for_status()

    def progress(self, key: str, percent: float, description: str) -> None:
        """Show progress: the first time in a new artifact, then in the same one."""
        with self._api.client() as client:
            known = self._progress_ids.get(key)
            if known is None:
                self._progress_ids[key] = self._create(client, "progress", key, percent, description)
            else:
                client.update_artifact(known, ArtifactUpdate(data=percent, description=description))

    def table(self, key: str, rows: list[dict[str, Any]], description: str, *, every_seconds: float) -> None:
        """Show a table, as a new version of the artifact of this key.

        Prefect keeps every version forever. So this run writes no version that equals its last one, and none sooner than
        ``every_seconds`` after any other version (each pass on a worker is another run).
        """
        data = jsonl.dumps(rows).decode()
        with self._api.client() as client:
            wanted = ArtifactCollectionFilter(key=ArtifactCollectionFilterKey(any_=[key]))
            for last in client.read_latest_artifacts(artifact_filter=wanted, limit=1):
                age = datetime.now(UTC) - last.updated if last.updated else timedelta.max  # noqa: TID251 - the server's time
                shown = last.flow_run_id == self._flow_run_id and last.data == data
                if shown or age.total_seconds() < every_seconds:
                    return
            self._create(client, "table", key, data, description)

    def markdown(self, key: str, text: str, description: str) -> None:
        """Show a text, as a new version of the artifact of this key."""
        with self._api.client() as client:
            self._create(client, "markdown", key, text, description)

    def event(self, name: str, resource: dict[str, str], payload: dict[str, Any]) -> None:
        """Write an event, with the run as a related resource."""
        self._api.emit(
            {
                "id": str(uuid4()),
                "occurred": datetime.now(UTC).isoformat(),  # noqa: TID251 - Prefect's feed is in real time
                "event": name,
                "resource": resource,
                "related": self._related,
                "payload": payload,
            }
        )

    @property
    def _related(self) -> list[dict[str, str]]:
        """Return the flow run, as a related resource of an event."""
        return [{"prefect.resource.id": f"prefect.flow-run.{self._flow_run_id}", "prefect.resource.role": "flow-run"}]

    def _create(self, client: SyncPrefectClient, kind: str, key: str, data: float | str, description: str) -> UUID:
        artifact = ArtifactCreate(type=kind, key=key, description=description, data=data, flow_run_id=self._flow_run_id)
        return client.create_artifact(artifact).id
