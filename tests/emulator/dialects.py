"""Requests and calls in the shape of each emulated provider."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from batchkit.emulator import Timing
from batchkit.emulator.dialects.providers import DIALECTS
from tests.emulator.support import CHAT, chat_lines, jsonl

if TYPE_CHECKING:
    import httpx

    from tests.emulator.support import Client

SLOW = Timing(validating_seconds=100_000_000)
"""Batches stay in their first status, so that a test can cancel them."""

FILES_AT_ONCE = Timing(file_ready_seconds=0)
"""New files can be used at once, with every provider."""

OPENAI_SHAPED = ("openai", "aibrix", "azure", "qwen", "kimi", "nebius", "litellm", "ogx", "vllm")


def two_models(provider: str) -> tuple[str, str]:
    """Return models of a provider other than the default, for a workload that is cut into files by model where it must; the same twice if it has one."""
    models = DIALECTS[provider].models or ()
    return models[0], models[:2][-1]


def model_of(client: Client) -> str:
    """Return a chat model that the client's provider lists."""
    listed = client.http.get("/models").json()
    ids = [model["id"] for model in (listed if isinstance(listed, list) else listed["data"])]
    return str(
        next(one for one in ids if not any(word in one for word in ("embed", "minilm", "bge", "whisper", "omni")))
    )


def lines_for(client: Client, count: int, **body: Any) -> list[dict[str, Any]]:
    """Return chat requests to a model that the provider lists, with the members that its lines have."""
    keys = client.emulator.dialect.line_keys
    changes = {"model": model_of(client), **body}
    return [
        {key: {**line["body"], **changes} if key == "body" else line[key] for key in keys} for line in chat_lines(count)
    ]


def creation_for(client: Client, file_id: str, **more: Any) -> dict[str, Any]:
    """Return the body of a create."""
    if client.emulator.dialect.name == "mistral":
        return {"input_files": [file_id], "endpoint": CHAT, "model": model_of(client), **more}
    window = {} if client.emulator.dialect.name == "together" else {"completion_window": "24h"}
    return {"input_file_id": file_id, "endpoint": CHAT, **window, **more}


def batches_path(client: Client) -> str:
    """Return the path of batches."""
    return client.emulator.dialect.batches_path


def upload(client: Client, requests: list[Any]) -> str:
    """Upload requests as the provider wants it, and return the id."""
    dialect = client.emulator.dialect
    path = "/files/upload" if dialect.upload_by_redirect else "/files"
    form = {"purpose": dialect.upload_purpose} | ({"file_name": "a.jsonl"} if dialect.upload_by_redirect else {})
    response = client.http.post(path, data=form, files={"file": ("a.jsonl", jsonl(requests))})
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


def create(client: Client, file_id: str, **more: Any) -> httpx.Response:
    """Create a batch, and return the reply."""
    return client.http.post(batches_path(client), json=creation_for(client, file_id, **more))


def made(client: Client, requests: list[Any], **more: Any) -> dict[str, Any]:
    """Upload and create, and return the batch's object."""
    reply = create(client, upload(client, requests), **more)
    assert reply.status_code == 200, reply.text
    return dict(reply.json().get("job", reply.json()))


def ended(client: Client, batch: dict[str, Any]) -> dict[str, Any]:
    """Return a batch once it has ended."""
    dialect = client.emulator.dialect
    ends = [dialect.status_words.get(word, word) for word in ("completed", "failed", "expired", "cancelled")]
    while (shown := client.http.get(f"{batches_path(client)}/{batch['id']}").json())["status"] not in ends:
        time.sleep(0.002)  # noqa: TID251 - a real server is polled
    return dict(shown)


def run(client: Client, requests: list[Any], **more: Any) -> dict[str, Any]:
    """Run requests, and return the batch once it has ended."""
    return ended(client, made(client, requests, **more))


def result_lines(client: Client, batch: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the records of both result files."""
    output, errors = (
        ("output_file", "error_file")
        if client.emulator.dialect.name == "mistral"
        else ("output_file_id", "error_file_id")
    )
    return client.records(batch.get(output) or None), client.records(batch.get(errors) or None)
