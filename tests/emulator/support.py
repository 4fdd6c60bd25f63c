"""A plain HTTP client for the emulator, and requests for it."""

from __future__ import annotations

import itertools
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import httpx
import orjson

if TYPE_CHECKING:
    from batchkit.emulator import Emulator

CHAT = "/v1/chat/completions"
TERMINAL = ("completed", "failed", "expired", "cancelled")
FAST = 864_000.0
"""A 24h window takes a tenth of a second."""

_serial = itertools.count(1)


def chat_line(custom_id: str, text: str = "hello", **body: Any) -> dict[str, Any]:
    """Return a chat request line."""
    messages = [{"role": "user", "content": text}]
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": CHAT,
        "body": {"model": "meta-llama/llama-4-scout-17b-16e-instruct", "messages": messages, **body},
    }


def chat_lines(count: int) -> list[dict[str, Any]]:
    """Return ``count`` requests whose custom_ids no other test uses."""
    prefix = f"t{next(_serial)}"
    return [chat_line(f"{prefix}-{index}", f"question {prefix}-{index}") for index in range(count)]


def jsonl(lines: list[Any]) -> bytes:
    """Encode lines; bytes are kept unchanged."""
    return b"".join(line + b"\n" if isinstance(line, bytes) else orjson.dumps(line) + b"\n" for line in lines)


class Client(AbstractContextManager["Client"]):
    """Calls an emulator without any retry."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        headers = {"authorization": f"Bearer {emulator.api_key}"}
        # Plain HTTP needs no certificates, whose loading takes longer than many a test.
        self.http = httpx.Client(base_url=emulator.base_url, headers=headers, timeout=20, verify=False)  # noqa: S501 - see above

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.http.close()

    def post_file(self, data: bytes, filename: str = "input.jsonl", purpose: str = "batch") -> httpx.Response:
        """Upload bytes and return the reply."""
        return self.http.post("/files", data={"purpose": purpose}, files={"file": (filename, data)})

    def upload(self, lines: list[Any]) -> str:
        """Upload lines, which must be accepted, and return the file id."""
        response = self.post_file(jsonl(lines))
        assert response.status_code == 200, response.text
        return str(response.json()["id"])

    def post_batch(self, file_id: str, **body: Any) -> httpx.Response:
        """Create a batch and return the reply."""
        whole = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h", **body}
        return self.http.post("/batches", json=whole)

    def create(self, file_id: str, **body: Any) -> dict[str, Any]:
        """Create a batch, which must be accepted, and return its object."""
        response = self.post_batch(file_id, **body)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def batch(self, batch_id: str) -> dict[str, Any]:
        """Read a batch."""
        response = self.http.get(f"/batches/{batch_id}")
        assert response.status_code == 200, response.text
        return dict(response.json())

    def wait(self, batch_id: str, *statuses: str, seconds: float = 15.0) -> dict[str, Any]:
        """Poll until the batch has one of ``statuses``, by default any final one."""
        deadline = time.monotonic() + seconds
        pause = 0.002
        while True:
            batch = self.batch(batch_id)
            if batch["status"] in (statuses or TERMINAL):
                return batch
            assert time.monotonic() < deadline, batch
            time.sleep(pause)  # noqa: TID251 - a real server is polled
            pause = min(pause * 1.3, 0.04)

    def wait_for_results(self, batch_id: str, least: int = 1) -> dict[str, Any]:
        """Poll until at least this many lines are completed while the batch is still in progress."""
        while True:
            batch = self.wait(batch_id, "in_progress")
            if batch["request_counts"]["completed"] >= least:
                return batch

    def run(self, lines: list[Any], **body: Any) -> dict[str, Any]:
        """Upload, create and wait until the batch has ended."""
        return self.wait(self.create(self.upload(lines), **body)["id"])

    def content(self, file_id: str) -> bytes:
        """Download a file."""
        response = self.http.get(f"/files/{file_id}/content")
        assert response.status_code == 200, response.text
        return response.content

    def records(self, file_id: str | None) -> list[dict[str, Any]]:
        """Return the records of a result file; no file has no lines."""
        if file_id is None:
            return []
        return [orjson.loads(line) for line in self.content(file_id).split(b"\n") if line]

    def results(self, batch: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the records of both result files of a batch."""
        return self.records(batch["output_file_id"]), self.records(batch["error_file_id"])

    def pages(self, limit: int = 50) -> list[dict[str, Any]]:
        """Return every page of batches, with at most ``limit`` batches per page."""
        pages: list[dict[str, Any]] = []
        cursor = None
        while len(pages) < limit:
            page = self.http.get("/batches", params={"cursor": cursor} if cursor else {}).json()
            pages.append(page)
            cursor = (page.get("paging") or {}).get("next_cursor")
            if not cursor:
                break
        return pages


def ids_of(records: list[dict[str, Any]]) -> list[str]:
    """Return the custom_ids in their order."""
    return [record["custom_id"] for record in records]
