"""Uploads and downloads compared with curl: the same file, the same server, directly after each other."""

from __future__ import annotations

import http.client
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from batchkit.models import FileId
from batchkit.provider.client import BatchApi
from batchkit.provider.groq.dialect import GROQ
from tests.benchmarks.data import write_requests
from tests.benchmarks.measurements import Measurement, in_a_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

#: About the largest file that the API accepts; a request has about 720 bytes.
LARGEST_LINES = GROQ.limits.max_bytes // 730
_FILE_ID = "file_1"
_BLOCK_BYTES = 1 << 20
_CURL = shutil.which("curl")


@dataclass(frozen=True)
class Line:
    """The input of a transfer: ``file`` is uploaded to the server at ``url``, and downloaded from it."""

    folder: Path
    file: Path
    url: str
    lines: int
    database: str = "-"


@dataclass(frozen=True)
class Transfer(Measurement):
    """A measurement with a provider and a folder instead of a store."""

    def ready(self, stores: Any) -> AbstractContextManager[Any]:
        """Open a provider without a connection, and a folder."""
        return _ready(stores)


@contextmanager
def _ready(line: Line) -> Iterator[tuple[BatchApi, Path]]:
    with in_a_folder(line) as folder, BatchApi(GROQ, api_key="gsk_none", base_url=line.url) as provider:
        yield provider, folder


def largest_file(folder: Path, lines: int) -> Path:
    """Write a file of request lines if it is missing, and return its path."""
    file = folder / f"upload-{lines}.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        write_requests(file, lines)
    return file


def _upload(ready: tuple[BatchApi, Path], line: Line) -> None:
    ready[0].upload_file(line.file, "bench.jsonl")


def _download(ready: tuple[BatchApi, Path], line: Line) -> None:
    download = ready[0].download_file(FileId(_FILE_ID), ready[1] / "answers.jsonl")
    assert download.size_bytes == line.file.stat().st_size


def _curl_up(line: Line, _folder: Path) -> None:
    # Without `Expect: 100-continue`, which costs a second with some servers.
    form = ("-H", "Expect:", "-F", "purpose=batch", "-F", f"file=@{line.file}")
    subprocess.run([str(_CURL), "-sSf", *form, f"{line.url}/files"], check=True, stdout=subprocess.DEVNULL)


def _curl_down(line: Line, folder: Path) -> None:
    subprocess.run(
        [str(_CURL), "-sSf", f"{line.url}/files/{_FILE_ID}/content", "-o", str(folder / "answers.jsonl")], check=True
    )


def _plain_up(line: Line, _folder: Path) -> None:
    """Upload as a small C program does: blocks from the file to the socket."""
    connection, path = _connect(line)
    with line.file.open("rb") as handle:
        connection.request("POST", f"{path}/files", handle, {"Content-Length": str(line.file.stat().st_size)})
    connection.getresponse().read()
    connection.close()


def _plain_down(line: Line, folder: Path) -> None:
    """Download as a small C program does: blocks from the socket to the file."""
    connection, path = _connect(line)
    connection.request("GET", f"{path}/files/{_FILE_ID}/content")
    response = connection.getresponse()
    block = memoryview(bytearray(_BLOCK_BYTES))
    with (folder / "answers.jsonl").open("wb", buffering=0) as handle:
        while count := response.readinto(block):
            handle.write(block[:count])
    connection.close()


def _connect(line: Line) -> tuple[http.client.HTTPConnection, str]:
    address = urlsplit(line.url)
    return http.client.HTTPConnection(str(address.hostname), address.port, blocksize=_BLOCK_BYTES), address.path


def _file_bytes(line: Line) -> int:
    return line.file.stat().st_size


TRANSFERS = (
    Transfer(
        "upload",
        None,
        _upload,
        "`curl -F` of the same file" if _CURL else "a plain socket, without curl",
        _curl_up if _CURL else _plain_up,
        {"-": 1.0},
        _file_bytes,
    ),
    Transfer(
        "download (digested, synced)",
        None,
        _download,
        "`curl -o` of the same file" if _CURL else "a plain socket, without curl",
        _curl_down if _CURL else _plain_down,
        {"-": 1.2},
        _file_bytes,
    ),
)
