"""A client that is not batchkit: it creates batches of its own, and forgets them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

import httpx

from batchkit.emulator.faults import batches, lines
from batchkit.files import jsonl
from tests.workloads import CHAT, chat_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batchkit.emulator import Emulator

_ENDED = {"completed", "expired", "failed", "cancelled"}


class ForeignClient:
    """Speaks HTTP to an emulator."""

    def __init__(self, emulator: Emulator) -> None:
        headers = {"Authorization": f"Bearer {emulator.api_key}"}
        self._http = httpx.Client(base_url=f"{emulator.base_url}/", headers=headers, timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._http.close()

    def create(self, lines: Iterable[dict[str, Any]] | bytes, *, waits: bool = True, **batch: Any) -> dict[str, Any]:
        """Upload lines, create a batch of them, and return it when it has ended, or at once."""
        data = lines if isinstance(lines, bytes) else b"".join(jsonl.dumps(line) + b"\n" for line in lines)
        file = self._http.post("files", data={"purpose": "batch"}, files={"file": ("theirs.jsonl", data)}).json()
        given = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h", **batch}
        created = self._http.post("batches", json=given).json()
        return self.wait(created["id"]) if waits else created

    def wait(self, batch_id: str) -> dict[str, Any]:
        """Return a batch when it has ended."""
        deadline = time.monotonic() + 15
        while (batch := self.batch(batch_id))["status"] not in _ENDED:
            assert time.monotonic() < deadline, batch
            time.sleep(0.005)  # noqa: TID251 - a real server is polled
        return batch

    def batch(self, batch_id: str) -> dict[str, Any]:
        """Return a batch."""
        found: dict[str, Any] = self._http.get(f"batches/{batch_id}").json()
        return found

    def content(self, file_id: str) -> bytes:
        """Return the content of a file."""
        return self._http.get(f"files/{file_id}/content").content

    def delete(self, file_id: str) -> None:
        """Delete a file."""
        self._http.delete(f"files/{file_id}")

    def has_file(self, file_id: str) -> bool:
        """Return whether a file is there."""
        return self._http.get(f"files/{file_id}").status_code == httpx.codes.OK


def rows(numbers: Iterable[int], **body: Any) -> list[dict[str, Any]]:
    """Return requests row-0, row-1 and so on, each with a question of its own."""
    return [
        chat_line(f"row-{number}", f"What is the capital of {number:04d}?", max_tokens=50, **body) for number in numbers
    ]


def ids(numbers: Iterable[int]) -> frozenset[str]:
    """Return their custom_ids."""
    return frozenset(f"row-{number}" for number in numbers)


#: What becomes of the batches of ``create_all``: three expire with a part of their answers, a request is refused, a batch fails.
FAULTS_OF_ALL = (
    lines.ExpireLines(custom_ids=ids((3, 9, 13, 14, 23, 24)), attempts=1),
    lines.FailLines(custom_ids=ids((5,)), attempts=1),
    batches.RefuseModels(models=frozenset({"gone"}), batches=frozenset({4})),
)
#: The requests of ``create_all``, in the order of its files.
ROWS_OF_ALL = (*range(34), *range(40, 44))


def create_all(client: ForeignClient, first: dict[str, Any] | None = None, **body: Any) -> list[dict[str, Any]]:
    """Create batches of every kind and return them; ``first`` is the first one, if it exists already.

    Three expire, one fails, one repeats a request of the first, and the input of one is deleted.
    """
    made = [first or client.create(rows(range(10), **body))]
    made += [client.create(rows(range(start, start + 10), **body)) for start in (10, 20)]
    bad = rows(range(30, 34), **body)
    bad[1]["body"]["model"] = "gone"
    # The first line has its answer elsewhere: the third line is not the third request in flight.
    made.append(client.create([*rows((0,), **body), *bad]))
    made.append(client.create(rows((3,), **body)))
    made.append(client.create(rows(range(40, 44), **body)))
    client.delete(made[-1]["input_file_id"])
    return made
