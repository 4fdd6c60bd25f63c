"""A server of ordinary endpoints in another process, for benchmarks: it answers a POST with 0.9 KB of JSON after 50 ms.

``python -m tests.benchmarks.call_server`` prints its port. A GET is answered with an empty list at once.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER_SECONDS: Final = 0.05
_ANSWER = jsonl.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "y" * 700}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
)
_LIST = jsonl.dumps({"object": "list", "data": []})
_HEADERS = "".join(f"x-header-{number}: {number}\r\n" for number in range(12))


def _reply(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{_HEADERS}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


_TO_POST, _TO_GET = _reply(_ANSWER), _reply(_LIST)


class _Server(asyncio.Protocol):
    """Answers every request that has arrived completely, a POST after a while."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, separator, body = self._data.partition(b"\r\n\r\n")
        if not separator:
            return
        if head.startswith(b"GET"):
            self._data = b""
            self._transport.write(_TO_GET)
        elif len(body) >= _content_length(head):
            self._data = b""
            asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._transport.write, _TO_POST)


def _content_length(head: bytes) -> int:
    _, _, rest = head.lower().partition(b"content-length:")
    return int(rest.split(b"\r\n", 1)[0])


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Server, "127.0.0.1", 0, backlog=2_048)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - for the parent process
    await server.serve_forever()


@contextmanager
def serving() -> Iterator[str]:
    """Start the server; return its address as ``host:port``. It ends with the block."""
    with subprocess.Popen([sys.executable, "-m", __name__], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


if __name__ == "__main__":
    asyncio.run(_serve())
