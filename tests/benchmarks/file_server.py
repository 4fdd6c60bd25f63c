"""A minimal Files API in its own process: uploads are read and dropped, one file is served, nothing is parsed.

``python -m tests.benchmarks.file_server FILE`` prints its base URL and serves until it is terminated.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK_BYTES = 1 << 20
_PREFIX = "/openai/v1"


@contextmanager
def serving(file: Path) -> Iterator[str]:
    """Start the server in another process; yield its base URL."""
    with subprocess.Popen([sys.executable, "-m", __name__, str(file)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def main() -> None:
    """Serve the file that is named on the command line."""
    file = Path(sys.argv[1])
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}{_PREFIX}", flush=True)  # noqa: T201 - for the parent process
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve, args=(connection, file), daemon=True).start()


def _serve(connection: socket.socket, file: Path) -> None:
    # Clients may disconnect at any time.
    with suppress(OSError), connection, file.open("rb") as handle:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = bytearray(_BLOCK_BYTES)
        while head := _read_head(connection):
            request, _, rest = head.partition(b"\r\n")
            names, _, beginning = rest.partition(b"\r\n\r\n")
            left = _content_length(names) - len(beginning)
            while left > 0:
                left -= connection.recv_into(buffer)
            size = os.fstat(handle.fileno()).st_size
            if b"/content " in request:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                sent = 0
                while sent < size:
                    sent += os.sendfile(connection.fileno(), handle.fileno(), sent, size - sent)
            else:
                body = jsonl.dumps({"id": "file_1", "bytes": size, "filename": file.name, "purpose": "batch"})
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def _read_head(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        block = connection.recv(_BLOCK_BYTES)
        if not block:
            return b""
        head += block
    return head


def _content_length(names: bytes) -> int:
    for line in names.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


if __name__ == "__main__":
    main()
