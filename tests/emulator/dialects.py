"""Requests and calls in the shape of each emulated provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchkit.emulator import Timing
from tests.emulator.support import CHAT, chat_lines

if TYPE_CHECKING:
    from tests.emulator.support import Client

SLOW = Timing(validating_seconds=100_000_000)
"""Batches stay in their first status, so that a test can cancel them."""

OPENAI_SHAPED = ("openai", "azure", "qwen", "kimi", "nebius", "litellm", "ogx", "vllm")


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
